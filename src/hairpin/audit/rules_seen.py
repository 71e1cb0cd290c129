"""One family's iptables tables as they are and as they should be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hairpin.audit.case import Case
from hairpin.audit.layout import Layout
from hairpin.audit.rules_alike import probability
from hairpin.plan.ipvs_sets import EXTERNAL_IP_LOCAL, NAMES
from hairpin.present import iptables
from hairpin.present.iptables_save import Place, Printed, Spec
from hairpin.state.ipset import SetEntry
from hairpin.state.netfilter import (
    Chain,
    Family,
    Rule,
)

_PROGRAMS: dict[Family, str] = {"ip": "iptables", "ip6": "ip6tables"}
_COMMENT = ("-m", "comment", "--comment")
_COUNTED = ("-m", "nfacct", "--nfacct-name")
_FULLY = "--random-fully"
_CHANCE = "--probability"
_LATER_CHAIN: Place = ("filter", "KUBE-IPVS-OUT-FILTER")
_LATER_RULE: Place = ("filter", "KUBE-IPVS-FILTER")
_LATER_SET = frozenset(names[EXTERNAL_IP_LOCAL] for names in NAMES.values())


class Tables:
    """One family's tables, held against what is wanted of them."""

    def __init__(self, case: Case, family: Family, wanted: Layout) -> None:
        self.case = case
        self.family = family
        self.wanted = wanted
        self.gone: set[Place] = set()  # chains that are to go, and with them what leads there
        self.seen = case.held.tables.get(family, Printed())
        self._program = self.seen.program or _PROGRAMS[family]
        masquerades = [
            spec for specs in self.seen.chains.values() for spec in specs if "MASQUERADE" in spec
        ]
        # An iptables that does not know it (before 1.6.2) leaves it out everywhere.
        self._fully = any(_FULLY in spec for spec in masquerades)
        # Where no rule counts so, there may be no such counter, and none that names it can be made.
        self._counts = any(
            "nfacct" in spec for specs in self.seen.chains.values() for spec in specs
        )

    def plain(self, spec: Spec) -> Spec:
        """Without comments, and without what is not kube-proxy's choice: what iptables knows."""
        if not self._fully and _FULLY in spec:
            spec = tuple(word for word in spec if word != _FULLY)
        for match in (_COMMENT, _COUNTED):
            spec = _without(spec, match)
        if _CHANCE in spec[:-1]:
            at = spec.index(_CHANCE) + 1
            spec = (*spec[:at], probability(spec[at]), *spec[at + 1 :])
        return spec

    def older(self, place: Place, to: str = "") -> bool:
        """Whether a chain, or the jump from it ``to`` one, is to hold what no packet meets, and
        an older kube-proxy (1.28) does not make it."""
        chain = ("filter", to or place[1])
        return chain == _LATER_CHAIN and not self.wanted.chains.get(chain)

    def no_packet(self, place: Place, spec: Spec) -> bool:
        """Whether a rule looks up a set that is to be empty, and an older kube-proxy (1.28) has
        no such rule."""
        if place != _LATER_RULE or not _LATER_SET.intersection(spec):
            return False
        return not any(
            isinstance(one.object, SetEntry) and one.object.set in spec for one in self.case.plan
        )

    def command(self, place: Place, verb: str, spec: Spec = (), at: int | None = None) -> str:
        """A line for the shell: ``iptables -t nat -I CHAIN 1 …``."""
        if not self._counts:
            spec = _without(spec, _COUNTED)
        table = "" if place[0] == "filter" else f" -t {place[0]}"
        number = "" if at is None else f" {at}"
        rest = iptables.line(place[1], spec).removeprefix(f"-A {place[1]}") if spec else ""
        return f"{self._program}{table} {verb} {place[1]}{number}{rest}"

    def chain_of(self, place: Place, rules: Iterable[Spec]) -> Chain:
        """The chain as a value."""
        table: Any = place[0]  # only known tables are parsed and planned
        return Chain(table=table, name=place[1], rules=tuple(rules), family=self.family)

    def rule(self, place: Place, spec: Spec) -> Rule:
        """The rule as a value."""
        table: Any = place[0]
        return Rule(table=table, chain=place[1], spec=spec, family=self.family)

    def subject(self, place: Place) -> str:
        """``IPv6 nat KUBE-SERVICES``."""
        return f"{'IPv6 ' if self.family == 'ip6' else ''}{place[0]} {place[1]}"

    def goes_with_a_chain(self, place: Place, spec: Spec) -> bool:
        """Whether a rule leads to a chain that is to go."""
        return spec[-2:-1] in (("-j",), ("-g",)) and (place[0], spec[-1]) in self.gone

    def led_to(self, place: Place) -> list[tuple[Place, Spec]]:
        """The rules that lead into a chain, and where they stand."""
        return [
            (one, spec)
            for one, specs in self.seen.chains.items()
            if one[0] == place[0]
            for spec in specs
            if spec[-2:] in (("-j", place[1]), ("-g", place[1]))
        ]


def _without(spec: Spec, match: Spec) -> Spec:
    """A rule without a match of one option."""
    at = next((n for n in range(len(spec)) if spec[n : n + 3] == match), None)
    return spec if at is None else spec[:at] + spec[at + 4 :]


def text_of(place: Place, spec: Spec) -> str:
    """A rule without ``-A CHAIN``."""
    return iptables.line(place[1], spec).removeprefix(f"-A {place[1]} ")
