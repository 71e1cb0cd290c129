"""What the hooks of one namespace tell of a connection's packets.

By nf_tables' trace where there is nf_tables for IP, else by TRACE of iptables' legacy variant; the
bit of a packet that either sets is the same, so that with nf_tables the legacy rules are told of
too.  Neither changes what becomes of a packet.  What is left when the process is killed: nothing
of nf_tables; rules with a comment of TRACE, which the next ``Watch`` takes away.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count
from typing import Literal

import msgspec

from hairpin.kernel import trace_target
from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.netns import Netns
from hairpin.kernel.nflog import LogListener
from hairpin.kernel.nftables import generation
from hairpin.kernel.nftrace import Observer, TraceListener
from hairpin.kernel.rule_texts import Texts
from hairpin.netlink import message as wire
from hairpin.netlink import nftables_format as form
from hairpin.netlink import nftrace
from hairpin.netlink.conntrack import NETLINK_NETFILTER
from hairpin.netlink.message import Frame, Request
from hairpin.netlink.nftables_seen import parse_table
from hairpin.state.nftrace import LoggedRule, Looked, TraceEvent
from hairpin.trace.observation import HookName, Passage
from hairpin.trace.passages import LEGACY, RuleKey, Run, of_log, of_nft, order
from hairpin.trace.rules import SavedRule

_NUMBERS = count(1)
_MOST = 20_000  # events of one namespace that are kept
_HOOKS: tuple[HookName, ...] = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
_LEGACY_TABLES = {4: "/proc/thread-self/net/ip_tables_names",
                  6: "/proc/thread-self/net/ip6_tables_names"}  # fmt: skip


class Watch:
    """Listens from ``start`` to ``stop``.

    ``legacy``: there is no nf_tables for IP here.  ``shared``: the namespace is not a lab's, so
    that its logger is left as it is; rules of the legacy variant are not told of then.
    """

    def __init__(
        self, netns: Netns, looked: Looked, *, legacy: bool = False, shared: bool = False
    ) -> None:
        self.netns = netns
        self.means = ""
        """How it listens: nft, TRACE, both ("nft, TRACE"); empty where it cannot."""
        self.lost = False
        """Whether the kernel told more than there was room for."""
        self._looked = looked
        self._legacy = legacy
        self._shared = shared
        self._name = f"hairpin-trace-{os.getpid()}-{next(_NUMBERS)}"
        self._observer: Observer | None = None
        self._rules: trace_target.TraceRules | None = None
        self._events: TraceListener | None = None
        self._log: LogListener | None = None
        self._told: list[TraceEvent] = []
        self._logged: list[LoggedRule] = []

    def start(self, saved: Mapping[str, str] | None = None) -> None:
        """Begins; where this kernel cannot, ``means`` stays empty.

        ``saved``: what iptables-save said here, to find what an interrupted trace left.
        """
        version = self._looked.version
        names = legacy_tables(self.netns, version)
        try:
            if self._legacy:
                self._start_legacy("".join((saved or {}).values()))
                return
            if names and self._shared:
                return  # the trace of its rules would go to the kernel's log
            self._events = TraceListener(self.netns)
            self._observer = Observer(self.netns, self._looked, self._name)
            self.means = "nft"
            if names:
                with suppress(OSError, KernelError):
                    self._log = LogListener(self.netns, version)
                    self.means = "nft, TRACE"
        except (OSError, KernelError):
            self.close()
            self.means = ""

    def _start_legacy(self, saved: str) -> None:
        if self._shared:
            return
        version = self._looked.version
        if trace_target.left(self.netns, version, saved):
            trace_target.sweep(self.netns, version)
        self._log = LogListener(self.netns, version)
        self._rules = trace_target.TraceRules(self.netns, self._looked)
        self.means = "TRACE"

    def urgent(self) -> list[int]:
        """Descriptors with little room behind them: to be read as soon as they are readable."""
        some = (self._events, self._log)
        return [one.fileno() for one in some if one is not None and not one.roomy]

    def read(self) -> None:
        """Makes room: takes what has come."""
        with suppress(KernelError):
            if self._events is not None:
                self._told += self._events.read()
                self.lost |= self._events.lost or len(self._told) > _MOST
                del self._told[_MOST:]
            if self._log is not None:
                self._logged += self._log.read()
                self.lost |= self._log.lost or len(self._logged) > _MOST
                del self._logged[_MOST:]

    def close(self) -> None:
        """Ends it and takes away what was put there; may be called at any time."""
        for one in (self._observer, self._rules, self._log, self._events):
            if one is not None:
                with suppress(OSError, KernelError):
                    one.close()
        self._observer = self._rules = self._log = self._events = None

    def stop(self) -> list[Run]:
        """Ends it and gives what was told, in the order of packets' ways."""
        self.read()
        shift = self._rules.shift if self._rules is not None else 0
        self.close()
        runs = of_nft(self._told, self._name) + of_log(self._logged, shift)
        places = self._places(runs)
        known = [one for one in runs if one.hook is not None]
        if self._told and self._logged:  # two sockets, and no order between them
            known.sort(key=lambda one: places[one.family, one.table, one.chain])
        return known

    def _places(self, runs: Iterable[Run]) -> dict[tuple[str, str, str], tuple[float, int]]:
        """Where each base chain is on the way; runs get their hooks."""
        found: dict[tuple[str, str, str], tuple[float, int]] = {}
        hooks: dict[tuple[str, str, str], tuple[HookName, int] | None] = {}
        for run in runs:
            key = run.family, run.table, run.chain
            if run.variant == "legacy" and run.hook is not None:
                priority = LEGACY.get(run.table, 0)
                if run.table == "nat" and run.hook in ("POSTROUTING", "INPUT"):
                    priority = -priority
                found[key] = order(run.hook, run.family, priority)
                continue
            if run.looking and run.hook is not None:
                priority = nftrace.priority_of(run.chain)
                found[key] = order(run.hook, run.family, priority)
                continue
            if key not in hooks:
                hooks[key] = _hook_of(self.netns, *key)
            base = hooks[key]
            if base is not None:
                run.hook = base[0]
                found[key] = order(base[0], run.family, base[1])
        return found


def passages(
    netns: Netns, runs: Iterable[Run], saved: Mapping[str, str], *, legacy: bool
) -> tuple[list[Passage], list[SavedRule]]:
    """Runs with their rules in words; ``rules`` of passages are places in the second list."""
    some = list(runs)
    keys: dict[RuleKey, int] = {}
    for run in some:
        for key in run.keys:
            keys[key] = keys.get(key, 0) + 1
    texts = Texts(netns, saved, "legacy" if legacy else "nft").find(keys)
    rules: list[SavedRule] = []
    at: dict[RuleKey, int] = {}
    for key, times in keys.items():
        at[key] = len(rules)
        rules.append(_with_packets(texts[key], times))
    links: dict[int, str] = {}
    found = []
    for run in some:
        if run.hook is None:
            continue
        last = rules[at[run.keys[-1]]] if run.keys else None
        found.append(
            Passage(
                netns=netns.name,
                hook=run.hook,
                family=run.family,
                table="" if run.looking else run.table,
                data=run.data,
                rules=tuple(at[key] for key in run.keys),
                verdict=_verdict(run, last),
                link_in=_link(netns, run.iif, links),
                link_out=_link(netns, run.oif, links),
            )
        )
    return found, rules


def _with_packets(rule: SavedRule, times: int) -> SavedRule:
    return msgspec.structs.replace(rule, packets=times)


_ENDS = {"DROP": "drop", "REJECT": "drop", "ACCEPT": "accept", "DNAT": "accept", "SNAT": "accept",
         "MASQUERADE": "accept", "REDIRECT": "accept"}  # fmt: skip


def _verdict(run: Run, last: SavedRule | None) -> Literal["accept", "drop", ""]:
    """What a chain said: nf_tables tells, of the legacy variant the last rule's target does."""
    said = run.verdict if run.variant == "nft" else _ENDS.get(last.target, "") if last else ""
    if said == "drop":
        return "drop"
    return "accept" if said == "accept" else ""


def _link(netns: Netns, index: int, known: dict[int, str]) -> str:
    """A link's name; empty for none, or one that is gone."""
    if not index:
        return ""
    if index not in known:
        known[index] = ""
        with netns.entered(), suppress(OSError):
            known[index] = socket.if_indextoname(index)
    return known[index]


def _hook_of(netns: Netns, family: str, table: str, chain: str) -> tuple[HookName, int] | None:
    """The hook and priority of a base chain of nf_tables; None where it is gone."""
    body = form.head(nftrace.family_number(family)) + wire.text(form.CHAIN_TABLE, table)
    body += wire.text(form.CHAIN_NAME, chain)
    with suppress(OSError, KernelError):
        asked = NetlinkSocket(NETLINK_NETFILTER, netns)
        try:
            (answer,) = asked.ask([Request(form.kind(form.GETCHAIN), 0, body)])
        finally:
            asked.close()
        if isinstance(answer, Frame):
            hook, priority = nftrace.parse_hook(answer.body)
            if family == "netdev":
                return ("INGRESS", priority) if hook == 0 else None
            return _HOOKS[hook], priority
    return None


def legacy_tables(netns: Netns, version: int) -> list[str]:
    """The tables of iptables' legacy variant that are in use in a namespace."""
    with netns.entered(), suppress(OSError), open(_LEGACY_TABLES[version]) as names:
        return names.read().split()
    return []


def has_rules(netns: Netns, version: int, *, legacy: bool) -> bool:
    """Whether somebody made rules in a namespace, as far as that is cheap to know."""
    if legacy_tables(netns, version):
        return True
    if legacy:
        return False
    with suppress(OSError, KernelError):
        asked = NetlinkSocket(NETLINK_NETFILTER, netns)
        try:
            return generation(asked) > _UNTOUCHED
        finally:
            asked.close()
    return False


_UNTOUCHED = 1  # nf_tables' generation in a new namespace


_TRACKING = ("nat", "kube-proxy")
"""Tables with chains that rewrite, so that connections are tracked where they are."""


def is_tracked(netns: Netns, version: int) -> bool:
    """Whether connections are tracked in a namespace: to ask must not switch it on.

    Told by the tables of those who rewrite; one of another name is not known.
    """
    if "nat" in legacy_tables(netns, version):
        return True
    with suppress(OSError, KernelError):
        asked = NetlinkSocket(NETLINK_NETFILTER, netns)
        try:
            tables = asked.dump(nftrace.dump_tables("ip" if version == 4 else "ip6"))
        finally:
            asked.close()
        return any(parse_table(one.body).name in _TRACKING for one in tables)
    return False
