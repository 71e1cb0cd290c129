"""What is wanted of iptables' tables: chains with their rules in order, and the jumps to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from hairpin.present.iptables_save import Place, Spec, split
from hairpin.state.change import Wanted
from hairpin.state.netfilter import (
    Chain,
    DispatchChain,
    DispatchRule,
    Family,
    Jump,
    ServiceChain,
)

ANY_ORDER = frozenset(("KUBE-IPVS-OUT-FILTER",))
"""Chains of one owner that kube-proxy writes in no certain order."""


class Line(msgspec.Struct, frozen=True):
    """A rule that is wanted: how iptables-save prints it, whose it is."""

    spec: Spec
    owner: str


class Layout:
    """All that is wanted of one family's tables."""

    def __init__(self, wanted: Iterable[Wanted], family: Family) -> None:
        self.chains: dict[Place, list[Line]] = {}
        self.any_order: set[Place] = set()
        self.owners: dict[Place, str] = {}
        self.jumps: dict[Place, list[tuple[Jump, str]]] = {}
        lasts: dict[Place, list[Line]] = {}
        for one in wanted:
            thing = one.object
            match thing:
                case Chain() | ServiceChain() if thing.family == family:
                    own = (_spec(rule) for rule in thing.rules)
                    self._chain((thing.table, thing.name), one.owner, own)
                case DispatchChain() if thing.family == family:
                    place: Place = (thing.table, thing.name)
                    self._chain(place, one.owner, ())
                    self.any_order.add(place)
                    lasts[place] = [Line(_spec(rule), one.owner) for rule in thing.last]
                case Jump() if thing.family == family:
                    place = (thing.table, thing.chain)
                    self.jumps.setdefault(place, []).append((thing, one.owner))
        for one in wanted:
            thing = one.object
            if isinstance(thing, DispatchRule) and thing.family == family:
                line = Line(_spec(thing.rule), one.owner)
                self.chains.setdefault((thing.table, thing.chain), []).append(line)
        for place, last in lasts.items():
            self.chains[place] += last

    def _chain(self, place: Place, owner: str, rules: Iterable[Spec]) -> None:
        self.chains.setdefault(place, []).extend(Line(rule, owner) for rule in rules)
        self.owners[place] = owner
        if place[1] in ANY_ORDER:
            self.any_order.add(place)


def _spec(rule: str | Sequence[str]) -> Spec:
    return tuple(split(rule)) if isinstance(rule, str) else tuple(rule)
