"""One node's kernel held against what Services ask of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hairpin.audit import ipvs, leftovers, nftables, node, rules, settings, stale
from hairpin.audit.case import HERE, Case
from hairpin.audit.held import Held, Part
from hairpin.audit.hints import hints
from hairpin.audit.owners import Owners
from hairpin.audit.report import WHATS, Finding, NotJudged, Report
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.snapshot import Snapshot
from hairpin.plan.node import NodeFacts
from hairpin.plan.whole import plan
from hairpin.state.netfilter import PacketCounter
from hairpin.state.sysctl import Sysctl

_NEEDED: dict[str, tuple[Part, ...]] = {
    "ipvs": ("ipvs", "ipset", "iptables", "ip6tables", "addresses"),
    "iptables": ("iptables", "ip6tables"),
    "nftables": ("nftables",),
}
"""What must be known for a verdict, by mode."""

_OLDER = (
    "an older kube-proxy wrote them (there is a chain mark-for-masquerade), by other rules than "
    "1.36; sets and maps were judged"
)
_SIX: tuple[Part, ...] = ("ip6tables",)
_LOOKED: dict[Part, str] = {
    "ipvs": "leftovers of IPVS mode: virtual servers",
    "ipset": "leftovers of IPVS mode: sets",
    "iptables": "leftovers in iptables",
    "ip6tables": "leftovers in ip6tables",
    "nftables": "leftovers of nftables mode",
    "addresses": "links and their addresses",
    "settings": "settings (sysctls)",
    "timeouts": "IPVS's timeouts",
    "conntrack": "stale connections of UDP",
    "bridge": "hairpin mode of bridges",
}


def case_of(
    snapshot: Snapshot, config: KubeProxyConfiguration, facts: NodeFacts, held: Held
) -> Case:
    """What is to be judged.  ``config.mode`` is the mode to be judged by."""
    return Case(
        held=held,
        plan=plan(snapshot, config, facts, HERE),
        config=config,
        node=facts,
        owners=Owners(snapshot, facts),
    )


def report(case: Case, problems: Iterable[str] = ()) -> Report:
    """Everything that is to be said of one node; ``problems`` are of objects passed over."""
    told = [*problems, *case.plan.problems]
    for (namespace, name), lines in case.plan.conflicts.items():
        told += [f"Service {namespace}/{name}: {line}" for line in lines]
    told += hints(case)
    return Report(
        node=case.node.name,
        mode=case.config.mode or "iptables",
        findings=tuple(_in_order(_findings(case))),
        notes=tuple(node.notes(case)),
        not_judged=tuple(_not_judged(case)),
        problems=tuple(told),
        judged=_judged(case),
    )


def _findings(case: Case) -> Iterator[Finding]:
    mode = case.config.mode
    if mode == "ipvs":
        yield from ipvs.judge(case)
    if mode in ("ipvs", "iptables"):
        yield from rules.judge(case)
    if mode == "nftables":
        yield from nftables.judge(case)
    if case.held.knows("settings"):
        yield from settings.judge(case)
    yield from leftovers.judge(case)
    if case.held.knows("conntrack"):
        yield from stale.judge(case)


def _in_order(findings: Iterable[Finding]) -> Sequence[Finding]:
    """What is of one owner together, the frame first, leftovers last; what is gravest first."""
    rank = {what: number for number, what in enumerate(WHATS)}

    def place(one: Finding) -> tuple[bool, bool, str, int]:
        return (one.what == "leftover", one.owner != "proxy", one.owner, rank[one.what])

    return sorted(findings, key=place)


def _not_judged(case: Case) -> Iterator[NotJudged]:
    if case.config.mode == "nftables" and nftables.older(case.held):
        yield NotJudged(part="chains of nftables mode", why=_OLDER)
    needed = set(_NEEDED[case.config.mode or "iptables"])
    if 6 not in case.owners.versions():
        needed -= set(_SIX)
    for part, why in case.held.unread.items():
        if part == "timeouts" and case.config.mode != "ipvs":
            continue
        what = part if part in needed else _LOOKED[part]
        yield NotJudged(part=what, why=why, needed=part in needed)


def _judged(case: Case) -> dict[str, int]:
    """How many wanted objects there are of each kind."""
    counts: dict[str, int] = {}
    for one in case.plan:
        kind = str(one.object.__struct_config__.tag)
        if isinstance(one.object, PacketCounter):
            continue  # no tool of those that are read shows it
        if isinstance(one.object, Sysctl) and one.object.name not in case.held.settings:
            continue
        counts[kind] = counts.get(kind, 0) + 1
    return counts
