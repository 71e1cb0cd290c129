"""iptables mode, as kube-proxy has it: chains of Services, and chains that lead to them.

A full sync reads all tables once and writes what differs in one go; a change of one Service is
written without reading anything.  Both are one program for each family.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from hairpin.kernel.apply import Failed, Kernel
from hairpin.kernel.errors import KernelError
from hairpin.kernel.iptables_script import Saved, owned
from hairpin.mode import difference
from hairpin.mode.base import Compared, place_of
from hairpin.mode.difference import Wishes
from hairpin.mode.stages import send
from hairpin.mode.wants import Adjust, Differences, Wants, put_change
from hairpin.model.address import IP
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.plan import iptables_names as names
from hairpin.plan.iptables import DISPATCH, IptablesPlanner
from hairpin.plan.node import NodeFacts
from hairpin.plan.service_plan import Occupancy
from hairpin.state.change import Change, Object, Wanted
from hairpin.state.netfilter import (
    Chain,
    DispatchChain,
    DispatchRule,
    Family,
    Jump,
    PacketCounter,
    ServiceChain,
    Table,
)
from hairpin.state.sysctl import Sysctl

_T = TypeVar("_T")
_FAMILIES: tuple[Family, ...] = ("ip", "ip6")
_NOT_WANTED = "not wanted by any Service"
_DUMMY = "kube-ipvs0"  # of IPVS mode, whose addresses are no node's

# What the kubelet leaves: where it is, KUBE-FIREWALL is its own as well.
_KUBELET = (("mangle", "KUBE-IPTABLES-HINT"), ("mangle", "KUBE-KUBELET-CANARY"))

_PUT: dict[type, int] = {Sysctl: 0, PacketCounter: 1}
_IPTABLES = 2


class IptablesMode:
    """One network namespace programmed in iptables mode.  Holds nothing of what it did."""

    def __init__(self, kernel: Kernel, netns: str, config: KubeProxyConfiguration) -> None:
        self.kernel = kernel
        self.netns = netns
        self._config = config
        self._counters: tuple[str, ...] | None = None  # not known yet
        frame = IptablesPlanner(config, NodeFacts(name=""), netns).frame(Occupancy())
        self._frame: list[Object] = [one.object for one in frame]

    def desired(self, node: NodeFacts, adjust: Adjust | None = None) -> Wants:
        """Nothing but the frame so far; put Services into it."""
        wants = Wants(self._planner, node, self.netns, adjust)
        wants.forget_changes()
        return wants

    def _planner(self, node: NodeFacts) -> IptablesPlanner:
        if self._counters is None:
            self._counters = self._countable()
        return IptablesPlanner(self._config, node, self.netns, self._counters)

    def _countable(self) -> tuple[str, ...]:
        """The packet counters that this kernel can have: kube-proxy does without, too."""
        try:
            self.kernel.packet_counters(self.netns)
        except OSError:
            return ()
        return names.COUNTERS

    def node_addresses(self) -> list[IP]:
        """The addresses of all links but kube-ipvs0.  Raises KernelError."""
        seen = self.kernel.observe_addresses(self.netns)
        return [one.ip for one in seen if one.link != _DUMMY]

    def observe(self) -> list[Object]:
        """What of ours the kernel holds, settings left out.  Raises KernelError."""
        held: list[Object] = []
        try:
            counted = self.kernel.packet_counters(self.netns)
        except KernelError:
            counted = {}
        held += [PacketCounter(name=name) for name in names.COUNTERS if name in counted]
        for family in _FAMILIES:
            held += self._held(self.kernel.saved_chains(self.netns, family))
        return held

    def _held(self, saved: Saved) -> list[Object]:
        family = saved.family
        held: list[Object] = []
        for table, name in _service_chains(saved):
            rules = tuple(saved.lines[table, name])
            held.append(ServiceChain(table=table, name=name, rules=rules, family=family))
        for table, name, _ in DISPATCH:
            if (table, name) in saved.lines:
                held.append(DispatchChain(table=table, name=name, family=family))
                held += [
                    DispatchRule(table=table, chain=name, rule=rule, family=family)
                    for rule in saved.lines[table, name]
                ]
        held += self._framed(saved, ())
        return held

    def _framed(self, saved: Saved, wanted: Iterable[Jump]) -> list[Chain | Jump]:
        """The proxy's own chains, and the jumps to all of its chains."""
        places: set[tuple[Table, str]] = set()
        targets: set[str] = set()
        for one in self._frame:
            if isinstance(one, Chain) and one.family == saved.family:
                places.add((one.table, one.name))
            elif isinstance(one, Jump):
                targets.add(one.to)
        return owned(saved, wanted, places, targets)

    def compare(self, wants: Wants) -> Compared:
        """How the kernel differs from what is wanted.  Does not raise for the kernel."""
        found = Differences()
        unread: dict[str, KernelError] = {}

        def read(kind: str, look: Callable[[], _T], nothing: _T) -> _T:
            try:
                return look()
            except OSError as error:
                unread[kind] = KernelError.of(error)
                return nothing

        wishes = Wishes(wants)
        difference.settings(wishes, self._settings(wishes), found)
        self._compare_counters(wishes, found)
        for family in _FAMILIES:
            saved = read(
                f"chain ({family})",
                lambda family=family: self.kernel.saved_chains(self.netns, family),  # type: ignore[misc]
                Saved(family=family),
            )
            self._compare_frame(wishes, saved, found)
            _compare_chains(wishes, saved, found)
            _compare_rules(wishes, saved, found)
        return Compared(found, [], unread)

    def differences(self, wants: Wants) -> list[Change]:
        """The Changes that would bring this kernel to what is wanted, nothing of it applied.

        Raises KernelError when the kernel cannot be read.
        """
        compared = self.compare(wants)
        for error in compared.unread.values():
            raise error
        return list(compared.differences)

    def apply(self, differences: Differences) -> list[Failed]:
        """Applies all that can be; gives what is not so.  Does not raise for the kernel."""
        first: dict[int, list[Change]] = {}
        for change in (*differences.puts, *map(put_change, differences.missing)):
            first.setdefault(_PUT.get(type(change.object), _IPTABLES), []).append(change)
        last: list[Change] = []
        for change in differences.removals:
            if isinstance(change.object, PacketCounter):
                last.append(change)  # no rule may count in it any more
            else:
                first.setdefault(_IPTABLES, []).append(change)
        failed: list[Failed] = []
        for rank in sorted(first):
            failed += send(self.kernel, first[rank])
        return failed + send(self.kernel, last)

    def clean_up(self, kept: Collection[str] = ()) -> tuple[list[Change], list[Failed]]:
        """Removes exactly what is ours: what was tried, and what of it could not be done.

        ``kept`` are the places that another mode has taken over (``mode.base.places``).  Settings
        stay as they are, and KUBE-FIREWALL where there is a kubelet.  Raises KernelError when the
        kernel cannot be read.
        """
        kubelet = any(
            place in self.kernel.saved_chains(self.netns, "ip").lines for place in _KUBELET
        )
        gone: list[Change] = []
        for one in self.observe():
            if isinstance(one, DispatchRule) or place_of(one) in kept:
                continue  # rules go with their chain
            if kubelet and names.LOCALNET_FIREWALL in one.key:
                continue
            gone.append(Change(verb="remove", netns=self.netns, object=one, reason="clean-up"))
        return gone, self.apply(Differences([], gone))

    def _settings(self, wishes: Wishes) -> list[Sysctl]:
        seen: list[Sysctl] = []
        for want in wishes.of(Sysctl):
            assert isinstance(want.object, Sysctl)
            try:
                seen.append(self.kernel.read_sysctl(self.netns, want.object.name))
            except OSError:
                continue  # setting it says why, if it is so still
        return seen

    def _compare_counters(self, wishes: Wishes, found: Differences) -> None:
        wanted = wishes.of(PacketCounter)
        if not wanted:
            return
        try:
            have = self.kernel.packet_counters(self.netns)
        except OSError:
            have = {}
        for want in wanted:
            assert isinstance(want.object, PacketCounter)
            if want.object.name not in have:
                found.puts.append(put_change(want))

    def _compare_frame(self, wishes: Wishes, saved: Saved, found: Differences) -> None:
        """Chains that are the proxy's own, and jumps."""
        jumps = _of(wishes, Jump, saved.family)
        order = [one.object for one in jumps if isinstance(one.object, Jump)]
        seen = self._framed(saved, order)
        have = {one.key: one for one in seen}
        for want in (*_of(wishes, Chain, saved.family), *jumps):
            one = have.pop(want.object.key, None)
            if one != want.object:
                found.puts.append(put_change(want, one))
        for one in have.values():
            found.removals.append(_removal(wishes, one))


def _of(wishes: Wishes, kind: type, family: Family) -> list[Wanted]:
    return [one for one in wishes.of(kind) if getattr(one.object, "family", None) == family]


def _service_chains(saved: Saved) -> Iterable[tuple[Table, str]]:
    return [at for at in saved.lines if at[1].startswith(names.SERVICE_PREFIXES)]


def _compare_chains(wishes: Wishes, saved: Saved, found: Differences) -> None:
    """Of the chains of ServicePorts."""
    lines, family = saved.lines, saved.family
    wanted: set[tuple[Table, str]] = set()
    for want in wishes.of(ServiceChain):
        one = want.object
        assert isinstance(one, ServiceChain)
        if one.family != family:
            continue
        at = (one.table, one.name)
        wanted.add(at)
        stands = lines.get(at)
        if stands is None:
            found.missing.append(want)
        elif tuple(stands) != one.rules:
            before = ServiceChain(
                table=one.table, name=one.name, rules=tuple(stands), family=family
            )
            found.puts.append(put_change(want, before))
    for table, name in _service_chains(saved):
        if (table, name) not in wanted:
            rules = tuple(lines[table, name])
            stray = ServiceChain(table=table, name=name, rules=rules, family=family)
            found.removals.append(_removal(wishes, stray))


def _compare_rules(wishes: Wishes, saved: Saved, found: Differences) -> None:
    """Of the chains that many ServicePorts have rules in, and of these rules."""
    family = saved.family
    chains: dict[tuple[Table, str], DispatchChain] = {}
    for want in _of(wishes, DispatchChain, family):
        one = want.object
        assert isinstance(one, DispatchChain)
        at = (one.table, one.name)
        chains[at] = one
        stands = saved.lines.get(at)
        if stands is None:
            found.missing.append(want)
        elif tuple(stands[len(stands) - len(one.last) :]) != one.last:
            found.puts.append(put_change(want, DispatchChain(
                table=one.table, name=one.name, last=(), family=family)))  # fmt: skip
    counts = {at: Counter(saved.lines.get(at, ())) for at in chains}
    for want in _of(wishes, DispatchRule, family):
        rule = want.object
        assert isinstance(rule, DispatchRule)
        count = counts.get((rule.table, rule.chain), Counter()).pop(rule.rule, 0)
        if not count:
            found.missing.append(want)
        elif count > 1:
            found.puts.append(put_change(want, rule))
    for at, chain in chains.items():
        for text in counts[at]:
            if text not in chain.last:
                stray = DispatchRule(table=at[0], chain=at[1], rule=text, family=family)
                found.removals.append(_removal(wishes, stray))


def _removal(wishes: Wishes, one: Object) -> Change:
    return Change(verb="remove", netns=wishes.wants.netns, object=one, reason=_NOT_WANTED)
