"""nf_tables: Changes in transactions, and a table read back.

Changes that go out together are one transaction while they fit into one of ``_MOST_BYTES``;
more become several, in an order in which each can be done: what is led to before what leads to
it, and what goes away last.  What must not come apart stays together: the old rules of a chain
and its new ones, an element and the one that replaces it.

A transaction is done or not as a whole.  When the kernel refuses messages of it, those are taken
out and the rest is sent again, so that one bad Change costs itself alone.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.nftables_units import Unit, rewritten, units
from hairpin.netlink import nftables as wire
from hairpin.netlink import nftables_seen as seen
from hairpin.netlink.nftables_rules_seen import AnonymousSet, Member
from hairpin.state.change import Change
from hairpin.state.nftables import (
    NftChain,
    NftFamily,
    NftObject,
    NftRule,
    NftSet,
    NftTable,
)

_MOST_BYTES = 60_000
"""Of a transaction.  Within SO_SNDBUF's default, and few enough messages for the kernel's walks
over all of a transaction (``__nft_set_trans_bind``): 10 000 Services in one take three times as
long as in sixty."""

_MOST_PASSES = 64  # each takes at least one Change out
# Two chains whose anonymous sets have the same name: chance brings it about once in 80 000 tables
# of 10 000 (``inline_name``).  EOPNOTSUPP: what the kernel says of an anonymous set of that name.
_NAME_TAKEN = (errno.EEXIST, errno.ENFILE, errno.EOPNOTSUPP)
_MOST_SALT = 3
# Chains that lead to each other in a circle, or too deep.  Once they do, the kernel says so of
# every later message of the transaction that leads anywhere.
_TANGLED = (errno.ELOOP, errno.EMLINK)
_TRIES = 8  # to read a table while others write it


def apply(socket: NetlinkSocket, changes: Sequence[Change]) -> dict[int, KernelError]:
    """Applies Changes of tables, chains, sets and elements; gives the errors by position.

    Adding what is there and removing what is not are successes.  A chain has exactly its rules
    afterwards, at once.  Raises KernelError when the kernel does not answer.
    """
    errors: dict[int, KernelError] = {}
    waiting = deque(units(changes, range(len(changes)), errors))
    while waiting:
        some = [waiting.popleft()]
        size = some[0].size
        while waiting and size + waiting[0].size <= _MOST_BYTES:
            size += waiting[0].size
            some.append(waiting.popleft())
        _transact(socket, some, changes, errors)
    return errors


def generation(socket: NetlinkSocket) -> int:
    """How many transactions the namespace has seen, by whomever.  Raises KernelError."""
    (answer,) = socket.ask([wire.ask_generation()])
    if isinstance(answer, KernelError):
        raise answer
    return seen.parse_generation(answer.body)


def tables(socket: NetlinkSocket, family: NftFamily) -> list[NftTable]:
    """The tables of a family, without what is in them.  Raises KernelError."""
    return [seen.parse_table(one.body) for one in socket.dump(wire.dump_tables(family))]


def observe(
    socket: NetlinkSocket, family: NftFamily, table: str, expected: Sequence[NftChain] = ()
) -> list[NftObject]:
    """A table, its sets each followed by their elements, its chains with their rules.

    Nothing when there is no such table.  Elements of dynamic sets are left out: packets made
    them.  So are sets and maps of types that ``state`` does not know.  Raises KernelError; EAGAIN
    when others never stop writing.

    ``expected`` are chains that may be there as ``apply`` wrote them: the anonymous sets of those
    that are need not be read, each of which the kernel looks for among all sets of the table.
    """
    for _ in range(_TRIES):
        before = generation(socket)
        try:
            found = _observe(socket, family, table, expected)
        except KernelError as error:
            if error.errno not in (errno.ENOENT, errno.EAGAIN):  # it went away meanwhile
                raise
            continue
        if generation(socket) == before:
            return found
    raise KernelError(errno.EAGAIN, f"table {table} changed while it was read, {_TRIES} times")


def rules(socket: NetlinkSocket, family: NftFamily, table: str) -> dict[tuple[str, int], NftRule]:
    """The rules of a table by chain and handle, which is what the kernel tells of them in traces.

    Raises KernelError; ENOENT when there is no such table.
    """
    anonymous, _ = _sets(socket, family, table)
    found = [seen.parse_rule(one.body) for one in socket.dump(wire.dump_rules(family, table))]
    return {(one.chain, one.handle): one.rule(anonymous) for one in found}


def _transact(
    socket: NetlinkSocket,
    some: list[Unit],
    changes: Sequence[Change],
    errors: dict[int, KernelError],
) -> None:
    """Sends units until what is left of them is done."""
    for _ in range(_MOST_PASSES):
        if not some:
            return
        messages = [one for unit in some for one in unit.requests]
        refused, whole = socket.transaction(messages, wire.begin(), wire.end())
        if refused:
            some = list(_without(some, refused, changes, errors))
        elif whole is None:
            return
        elif len(some) == 1:
            _blame(some[0], whole, errors)
            return
        else:  # it is not said which
            half = len(some) // 2
            _transact(socket, some[:half], changes, errors)
            some = some[half:]
    for unit in some:
        _blame(unit, KernelError(errno.EAGAIN, "others of the transaction failed"), errors)


def _without(
    some: Iterable[Unit],
    refused: dict[int, KernelError],
    changes: Sequence[Change],
    errors: dict[int, KernelError],
) -> Iterator[Unit]:
    """The units without those that were refused; of several Changes, each by itself."""
    at = 0
    tangled = False
    for unit in some:
        own = {one: refused[at + one] for one in range(len(unit.requests)) if at + one in refused}
        at += len(unit.requests)
        error = next(iter(own.values()), None)
        if error is None or (tangled and error.errno in _TANGLED):
            yield unit
        elif len(unit.of) > 1:
            yield from units(changes, unit.of, errors, singly=True)
        elif (rest := unit.without_absent(own)) is not None:
            if rest.requests:
                yield rest
        else:
            anew: list[Unit] = []
            if error.errno in _NAME_TAKEN and unit.salt < _MOST_SALT and len(unit.requests) > 1:
                anew += rewritten(changes[unit.of[0]], unit.of[0], unit.salt + 1)
            yield from anew
            if not anew:
                _blame(unit, error, errors)
                tangled |= error.errno in _TANGLED


def _blame(unit: Unit, error: KernelError, errors: dict[int, KernelError]) -> None:
    for position in unit.of:
        errors.setdefault(position, error)


def _observe(
    socket: NetlinkSocket, family: NftFamily, table: str, expected: Sequence[NftChain]
) -> list[NftObject]:
    found: list[NftObject] = [one for one in tables(socket, family) if one.name == table]
    if not found:
        return []
    anonymous, named = _sets(socket, family, table, expected)
    for one in named:
        found.append(one)
        if not one.dynamic:
            rows: list[seen.Row] = []
            for frame in socket.dump(wire.dump_elements(family, table, one.name)):
                rows += seen.parse_rows(frame.body)
            found += seen.elements(one, rows)
    of: dict[str, list[NftRule]] = {}
    for frame in socket.dump(wire.dump_rules(family, table)):
        rule = seen.parse_rule(frame.body)
        of.setdefault(rule.chain, []).append(rule.rule(anonymous))
    for frame in socket.dump(wire.dump_chains(family)):
        if seen.table_of(frame.body) == table:
            chain = seen.parse_chain(frame.body)
            found.append(msgspec.structs.replace(chain, rules=tuple(of.get(chain.name, ()))))
    return found


def _sets(
    socket: NetlinkSocket, family: NftFamily, table: str, expected: Iterable[NftChain] = ()
) -> tuple[dict[str, AnonymousSet], list[NftSet]]:
    """What the anonymous sets of a table hold, and the named ones without their elements."""
    known = {one.name: one for chain in expected for one in wire.inline_sets(chain)}
    anonymous: dict[str, AnonymousSet] = {}
    named: list[NftSet] = []
    for frame in socket.dump(wire.dump_sets(family, table)):
        one = seen.parse_set(frame.body)
        if one.known is not None:
            named.append(one.known)
        elif one.anonymous and one.name in known:
            anonymous[one.name] = seen.inline_set(known[one.name])
        elif one.anonymous:
            members: list[Member] = []
            for part in socket.dump(wire.dump_elements(family, table, one.name)):
                members += seen.parse_members(part.body)
            anonymous[one.name] = AnonymousSet(tuple(members), one.interval)
    return anonymous, named
