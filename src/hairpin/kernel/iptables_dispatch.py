"""What iptables-restore must be told of the chains of Services, and of the rules that lead there.

A chain of a ServicePort is written whole.  Of a chain that many Services have rules in only what
differs is written, unless that is a lot: each single rule costs a look at the whole chain.

What stands in the kernel may be unknown: reading it costs more than a change of one Service does.
Then everything is taken to be as it was left, and iptables-restore, which does all or nothing,
says when it is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from hairpin.state.change import Change
from hairpin.state.netfilter import DispatchChain, DispatchRule, ServiceChain, Table

Place = tuple[Table, str]
"""Table and chain."""

KINDS = (ServiceChain, DispatchChain, DispatchRule)

_MANY = 64  # rules of one chain that differ: above that it is written whole


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line for iptables-restore, or the lines that fill one chain, and the position of the
    Change that it is for."""

    text: str
    change: int | None = None


class Dispatch:
    """Changes taken one after the other; ``standing`` is what each chain holds, None: unknown."""

    def __init__(self, standing: Mapping[Place, Sequence[str]] | None) -> None:
        # ":CHAIN" makes a chain or empties it, and all of them come before rules.
        self.heads: dict[Place, Line] = {}
        self.fills: dict[Place, list[Line]] = {}
        self.bodies: dict[Table, list[Line]] = {}
        self.tails: dict[Place, Line] = {}
        self._standing = standing
        self._chains: dict[Place, tuple[int, Change]] = {}
        self._rules: dict[Place, list[tuple[int, Change]]] = {}

    def take(self, position: int, change: Change) -> None:
        """One Change of the ``KINDS``; a later one of the same object counts."""
        thing = change.object
        if isinstance(thing, ServiceChain):
            place = (thing.table, thing.name)
            if change.verb == "remove":
                self._drop(place, position)
            else:
                self._write(place, position, thing.rules)
        elif isinstance(thing, DispatchChain):
            self._chains[thing.table, thing.name] = (position, change)
        elif isinstance(thing, DispatchRule):
            self._rules.setdefault((thing.table, thing.chain), []).append((position, change))

    def resolve(self) -> None:
        """Nothing more is taken: what becomes of the chains that many have rules in."""
        for place in dict.fromkeys((*self._chains, *self._rules)):
            position, chain = self._chains.get(place, (None, None))
            if chain is not None and chain.verb == "remove":
                self._drop(place, position)
            else:
                self._dispatch(place, position, chain, self._rules.get(place, []))

    def _write(self, place: Place, position: int, rules: Sequence[str]) -> None:
        if self._standing is not None and self._standing.get(place) == list(rules):
            return
        self._declare(place, position)
        self.tails.pop(place, None)
        head = f"-A {place[1]} "
        text = "\n".join([head + rule for rule in rules])
        self.fills[place] = [Line(text, position)] if text else []

    def _drop(self, place: Place, position: int | None) -> None:
        if self._standing is not None and place not in self._standing:
            return
        self._declare(place, position)
        self.fills.pop(place, None)
        self.tails[place] = Line(f"-X {place[1]}", position)

    def _declare(self, place: Place, position: int | None) -> None:
        self.heads[place] = Line(f":{place[1]} - [0:0]", position)

    def _dispatch(
        self,
        place: Place,
        position: int | None,
        chain: Change | None,
        rules: Sequence[tuple[int, Change]],
    ) -> None:
        adds, gone = _by_rule(rules)
        last: tuple[str, ...] = ()
        if chain is not None and isinstance(chain.object, DispatchChain):
            last = chain.object.last
        if self._standing is None:
            self._differ(place, adds, gone, {})
            return
        stands = self._standing.get(place)
        if stands is None:
            self._declare(place, position)
            self._fill(place, [*adds.items(), *((rule, position) for rule in last)])
            return
        counts = Counter(stands)
        adds = {rule: at for rule, at in adds.items() if counts[rule] != 1}
        gone |= {rule: at for rule, at in adds.items() if counts[rule]}
        if chain is not None and not _ends_with(stands, last):
            before = chain.before
            old = before.last if isinstance(before, DispatchChain) else ()
            gone |= dict.fromkeys((*old, *last), position)
        elif chain is not None:
            last = ()
        gone = {rule: at for rule, at in gone.items() if counts[rule]}
        if len(adds) + len(gone) <= _MANY:
            self._differ(place, adds, gone, counts)
            end = [Line(f"-A {place[1]} {rule}", position) for rule in last]
            self.bodies.setdefault(place[0], []).extend(end)
            return
        self._declare(place, position)
        kept = [(rule, None) for rule in stands if rule not in gone]
        self._fill(place, [*adds.items(), *kept, *((rule, position) for rule in last)])

    def _fill(self, place: Place, rules: Sequence[tuple[str, int | None]]) -> None:
        self.fills[place] = [Line(f"-A {place[1]} {rule}", at) for rule, at in rules]

    def _differ(
        self,
        place: Place,
        adds: Mapping[str, int | None],
        gone: Mapping[str, int | None],
        counts: Mapping[str, int],
    ) -> None:
        """Removes first: a rule that is there twice is both."""
        body = self.bodies.setdefault(place[0], [])
        for rule, at in gone.items():
            body += [Line(f"-D {place[1]} {rule}", at)] * counts.get(rule, 1)
        for number, (rule, at) in enumerate(adds.items(), 1):
            body.append(Line(f"-I {place[1]} {number} {rule}", at))


def _by_rule(
    changes: Sequence[tuple[int, Change]],
) -> tuple[dict[str, int | None], dict[str, int | None]]:
    """What is to be there and what is to be gone, each with the Change that says so."""
    adds: dict[str, int | None] = {}
    gone: dict[str, int | None] = {}
    for position, change in changes:
        thing, before = change.object, change.before
        assert isinstance(thing, DispatchRule)
        if change.verb == "remove":
            gone[thing.rule] = position
            continue
        adds[thing.rule] = position
        if isinstance(before, DispatchRule) and before.rule != thing.rule:
            gone[before.rule] = position
    for rule in adds:
        gone.pop(rule, None)
    return adds, gone


def _ends_with(stands: Sequence[str], last: Sequence[str]) -> bool:
    """Whether these rules are the end, and nowhere else."""
    at = len(stands) - len(last)
    return list(stands[at:]) == list(last) and not set(last).intersection(stands[:at])
