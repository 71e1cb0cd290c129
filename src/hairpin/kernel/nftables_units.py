"""The order in which Changes of nf_tables can be done, and their messages.

What is led to comes before what leads to it, and what goes away goes last, whatever the order of
the Changes.  What must not come apart is one ``Unit``: the old rules of a chain and its new ones,
an element and the one that replaces it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from itertools import count

import msgspec

from hairpin.kernel.errors import KernelError
from hairpin.netlink import nftables as wire
from hairpin.netlink import nftables_format as form
from hairpin.netlink.message import HEADER_SIZE, Request
from hairpin.state.change import Change
from hairpin.state.nftables import NftChain, NftElement, NftSet, NftTable

_made = count()
_DELETIONS = frozenset(
    map(form.kind, (form.DELTABLE, form.DELCHAIN, form.DELRULE, form.DELSET, form.DELSETELEM))
)


class Unit(msgspec.Struct):
    """Messages that are done together, and the positions of the Changes that they are of."""

    requests: list[Request]
    of: list[int]
    salt: int = 0  # of the names of a chain's anonymous sets

    @property
    def size(self) -> int:
        return sum(len(one.body) + HEADER_SIZE + 3 for one in self.requests)

    def without_absent(self, refused: dict[int, KernelError]) -> Unit | None:
        """What is left when all that was refused (by position) were removals of what is absent.

        None when something else was refused.
        """
        for at, error in refused.items():
            if error.errno != errno.ENOENT or self.requests[at].kind not in _DELETIONS:
                return None
        rest = [one for at, one in enumerate(self.requests) if at not in refused]
        return msgspec.structs.replace(self, requests=rest)


def units(
    changes: Sequence[Change],
    positions: Iterable[int],
    errors: dict[int, KernelError],
    *,
    singly: bool = False,
) -> Iterator[Unit]:
    """What is to be sent, in an order in which it can be done; see ``_STAGES``."""
    stages: list[list[Unit]] = [[] for _ in range(_STAGES)]
    latest, again = _latest(changes, positions)
    gone = {
        changes[at].object.key[1:]
        for at in latest
        if changes[at].verb == "remove" and isinstance(changes[at].object, NftTable)
    }
    groups: dict[tuple[bool, str, str, str], list[int]] = {}
    for at in latest:
        change = changes[at]
        thing = change.object
        if isinstance(thing, NftElement):
            if change.verb == "remove" and (thing.family, thing.table) in gone:
                continue
            if change.verb == "remove" or (change.verb == "add" and at not in again):
                group = (change.verb == "add", thing.family, thing.table, thing.set)
                groups.setdefault(group, []).append(at)
                continue
        try:
            for stage, unit in _of_one(change, at, gone, anew=at in again):
                stages[stage].append(unit)
        except ValueError as error:
            errors[at] = KernelError(errno.EINVAL, str(error))
    most = 1 if singly else wire.MOST_ELEMENTS
    for (add, *_), members in groups.items():
        for start in range(0, len(members), most):
            _group(stages, changes, members[start : start + most], errors, add=add)
    for row in stages:
        yield from row


def _latest(changes: Sequence[Change], positions: Iterable[int]) -> tuple[list[int], set[int]]:
    """The last Change of each object, and those of them that come after another of theirs.

    What was to be removed and made anew is replaced: removals go last, whatever their place.
    """
    every = list(positions)
    if len({changes[at].verb == "remove" for at in every}) < 2:
        return every, set()
    last: dict[tuple[object, ...], int] = {}
    again: set[int] = set()
    for at in every:
        key = changes[at].object.key
        if last.pop(key, None) is not None:
            again.add(at)
        last[key] = at
    return list(last.values()), again


_STAGES = 10
(
    _TABLE_GONE,
    _TABLE,
    _SET,
    _CHAIN,
    _RULES,
    _ELEMENT,
    _ELEMENT_GONE,
    _CHAIN_EMPTY,  # chains that go may lead to each other
    _CHAIN_GONE,
    _GONE,
) = range(_STAGES)


def _group(
    stages: list[list[Unit]],
    changes: Sequence[Change],
    members: list[int],
    errors: dict[int, KernelError],
    *,
    add: bool,
) -> None:
    """Elements of one set, in one message."""
    elements: list[NftElement] = []
    for at in members:
        thing = changes[at].object
        assert isinstance(thing, NftElement)
        elements.append(thing)
    stage = _ELEMENT if add else _ELEMENT_GONE
    try:
        request = wire.put_elements(elements, add=add)
    except ValueError as error:
        if len(members) == 1:
            errors[members[0]] = KernelError(errno.EINVAL, str(error))
            return
        for at in members:
            _group(stages, changes, [at], errors, add=add)
        return
    stages[stage].append(Unit([request], members))


def _of_one(
    change: Change, at: int, gone: set[tuple[object, ...]], *, anew: bool = False
) -> Iterator[tuple[int, Unit]]:
    """The stages and messages of one Change that is no plain element."""
    thing, before = change.object, change.before
    removed = change.verb == "remove"
    if isinstance(thing, NftTable):
        if anew and not removed:
            yield _TABLE_GONE, Unit([wire.remove_table(thing)], [at])
        request = wire.remove_table(thing) if removed else wire.add_table(thing)
        yield (_GONE if removed else _TABLE), Unit([request], [at])
        return
    assert isinstance(thing, NftChain | NftSet | NftElement)
    if removed and (thing.family, thing.table) in gone:
        return
    match thing:
        case NftSet():
            if removed:
                yield _GONE, Unit([wire.remove_set(thing)], [at])
                return
            replaced = isinstance(before, NftSet) and before != _at_most_later(before, thing)
            first = [wire.remove_set(thing)] if replaced or anew else []
            yield _SET, Unit([*first, wire.add_set(thing)], [at])
        case NftElement():
            either = [wire.put_elements([thing], add=add) for add in (False, True)]
            yield _ELEMENT, Unit(either, [at])
        case NftChain() if removed:
            yield _CHAIN_EMPTY, Unit([wire.flush_chain(thing)], [at])
            yield _CHAIN_GONE, Unit([wire.remove_chain(thing)], [at])
        case NftChain():
            yield from _chain(thing, before if isinstance(before, NftChain) else None, at)


def _chain(
    thing: NftChain, before: NftChain | None, at: int, salt: int = 0
) -> Iterator[tuple[int, Unit]]:
    written = [wire.flush_chain(thing), *wire.add_rules(thing, _new_id, salt)]
    made = wire.add_chain(thing)
    if before is not None and (before.hook, before.comment) != (thing.hook, thing.comment):
        # What a chain is stays so: another takes its place.
        yield (
            _RULES,
            Unit([written[0], wire.remove_chain(thing), made, *written[1:]], [at], salt=salt),
        )
        return
    yield _CHAIN, Unit([made], [at])
    yield _RULES, Unit(written, [at], salt=salt)


def _at_most_later(before: NftSet, after: NftSet) -> NftSet:
    """``after`` with the timeout of ``before``: that much the kernel lets a set change."""
    return msgspec.structs.replace(after, timeout=before.timeout)


def _new_id() -> int:
    """A number that no other anonymous set of the transaction has; they are four bytes."""
    return next(_made) % (2**32 - 1) + 1


def rewritten(change: Change, at: int, salt: int) -> Iterator[Unit]:
    """The rules of a chain once more, with other names for its anonymous sets; else nothing."""
    thing, before = change.object, change.before
    if isinstance(thing, NftChain):
        for stage, unit in _chain(
            thing, before if isinstance(before, NftChain) else None, at, salt
        ):
            if stage == _RULES:
                yield unit
