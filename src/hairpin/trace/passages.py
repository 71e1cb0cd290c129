"""From what the kernel tells of traced packets to packets in base chains.

nf_tables tells rule by rule, with the packet's headers once for each base chain; iptables' legacy
variant with the whole packet each time.  Both become runs: one packet in one base chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from hairpin.state.nftrace import LoggedRule, TraceEvent
from hairpin.trace.observation import HookName

RuleKey = tuple[str, str, str, str, int]
"""Variant (nft, legacy), family, table, chain, and the rule's handle or number; 0: the policy."""

_HOOKS: tuple[HookName, ...] = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
_OBSERVERS: dict[str, HookName] = {
    "pre": "PREROUTING", "out": "OUTPUT", "pre-tracked": "PREROUTING", "out-tracked": "OUTPUT",
    "in": "INPUT", "fwd": "FORWARD", "post": "POSTROUTING",
    "link": "INGRESS",
}  # fmt: skip
"""The chains of ``netlink.nftrace``'s tables."""


class Run(msgspec.Struct, kw_only=True):
    """A packet in one base chain.

    ``hook`` None: not known yet, the chain's.  ``looking``: of a table that only asks, whose rules
    are no part of anything.
    """

    variant: str
    family: str
    table: str
    chain: str
    hook: HookName | None
    data: bytes
    keys: list[RuleKey] = []
    verdict: str = ""  # accept, drop; empty: not said
    iif: int = 0
    oif: int = 0
    looking: bool = False


def of_nft(events: Iterable[TraceEvent], observer: str) -> list[Run]:
    """The runs that nf_tables' events tell; ``observer`` is the table that asks."""
    runs: list[Run] = []
    open_: dict[int, Run] = {}
    for event in events:
        run = open_.get(event.packet)
        if event.network:
            run = open_[event.packet] = Run(
                variant="nft",
                family=event.family,
                table=event.table,
                chain=event.chain,
                hook=None,
                data=event.network + event.transport,
                iif=event.iif,
                oif=event.oif,
            )
            if event.table == observer:
                run.looking, run.hook = True, _OBSERVERS.get(event.chain)
            if not run.looking or runs[-1:] == [] or not _again(run, runs[-1]):
                runs.append(run)
        if run is None:  # its beginning was lost
            continue
        if event.verdict is not None:
            run.verdict = event.verdict.kind if event.verdict.kind in ("accept", "drop") else ""
        if run.looking or event.kind == "return":
            continue
        handle = event.handle if event.kind == "rule" else 0
        run.keys.append(("nft", event.family, event.table, event.chain, handle))
    return runs


def _again(run: Run, before: Run) -> bool:
    """Whether it was looked at twice in a row at one hook, by two chains of the same table."""
    return before.looking and (run.hook, run.family, run.data) == (
        before.hook, before.family, before.data,
    )  # fmt: skip


def of_log(logged: Iterable[LoggedRule], shift: int) -> list[Run]:
    """The runs that TRACE tells; ``shift`` rules of ours stand first in raw's built-in chains."""
    runs: list[Run] = []
    last: Run | None = None
    for one in logged:
        family = "ip" if one.version == 4 else "ip6"
        hook = _HOOKS[one.hook]
        if (
            last is None
            or (last.table, last.hook, last.data) != (one.table, hook, one.data)
            or last.verdict
        ):
            last = Run(
                variant="legacy",
                family=family,
                table=one.table,
                chain=hook,
                hook=hook,
                data=one.data,
                iif=one.iif,
                oif=one.oif,
            )
            runs.append(last)
        number = one.number
        if one.table == "raw" and one.chain in ("PREROUTING", "OUTPUT"):
            number -= shift
        if one.kind == "policy":
            number = 0
            last.verdict = "policy"  # which one it is, the rules say
        if one.kind != "return" and (number > 0 or one.kind == "policy"):
            last.keys.append(("legacy", family, one.table, one.chain, number))
    return runs


_STAGES: Mapping[str, int] = {
    "INGRESS": 0, "PREROUTING": 2, "INPUT": 3, "FORWARD": 4, "OUTPUT": 5, "POSTROUTING": 6,
}  # fmt: skip
LEGACY: Mapping[str, int] = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
"""The priorities of the legacy variant's tables (net/ipv4/netfilter/iptable_*.c); nat's is 100
where sources are rewritten."""


def order(hook: HookName, family: str, priority: int) -> tuple[float, int]:
    """Where on a packet's way through a namespace a base chain is.

    A bridge's own hooks are around those of IP: before it routes or forwards, and after.
    """
    stage = float(_STAGES[hook])
    if family == "bridge":
        stage = {
            "PREROUTING": 1.0,
            "INPUT": 1.5,
            "FORWARD": 4.5,
            "OUTPUT": 6.5,
            "POSTROUTING": 7.0,
        }[hook]
    return stage, priority
