"""IPVS mode, as kube-proxy has it: virtual servers, sets, static rules, addresses on a dummy.

desired: what Services ask, planned one at a time (``Wants``).  observe: what of that the kernel
holds.  apply: differences made true in an order that no crash can spoil.  clean_up: all of ours
taken away.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import TypeVar

from hairpin.kernel.apply import Failed, Kernel
from hairpin.kernel.errors import KernelError
from hairpin.mode import difference, ownership, stages
from hairpin.mode.base import Compared, place_of
from hairpin.mode.difference import Wishes
from hairpin.mode.ownership import DUMMY, Marks
from hairpin.mode.wants import Adjust, Differences, Wants
from hairpin.model.address import IP, Network
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.netlink.ipvs_table import Group, ObjectKey
from hairpin.plan.ipvs import Planner
from hairpin.plan.node import NodeFacts
from hairpin.plan.service_plan import Occupancy
from hairpin.state.change import Change, Object
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import RealServer, Timeouts, VirtualServer
from hairpin.state.links import Address, Link
from hairpin.state.netfilter import Chain, Family, Jump
from hairpin.state.sysctl import Sysctl

_T = TypeVar("_T")
_PREFIX = "KUBE-"  # of the names of all our sets
_FAMILIES: tuple[Family, ...] = ("ip", "ip6")


class IpvsMode:
    """One network namespace programmed in IPVS mode.  Holds nothing of what it did."""

    def __init__(
        self,
        kernel: Kernel,
        netns: str,
        config: KubeProxyConfiguration,
        *,
        takes_over: bool = False,
    ) -> None:
        self.kernel = kernel
        self.netns = netns
        self._config = config
        self._takes_over = takes_over  # until something was applied
        self._excluded: list[Network] = [
            ipaddress.ip_network(text, strict=False) for text in config.ipvs.exclude_cidrs
        ]
        # All sets, chains and jumps that there ever are, whatever Services want.
        nothing = Planner(config, NodeFacts(name=""), netns).frame(Occupancy())
        self._frame: list[Object] = [one.object for one in nothing]
        self._addresses: list[Address] | None = None  # read and not used up, nothing done since

    def desired(self, node: NodeFacts, adjust: Adjust | None = None) -> Wants:
        """Nothing but the frame so far; put Services into it."""
        wants = Wants(self._planner, node, self.netns, adjust)
        wants.forget_changes()
        return wants

    def _planner(self, node: NodeFacts) -> Planner:
        return Planner(self._config, node, self.netns)

    def node_addresses(self) -> list[IP]:
        """The addresses of all links but kube-ipvs0.  Raises KernelError.

        What is read serves the next ``compare`` too, if nothing is applied before it.
        """
        seen = self._addresses = self.kernel.observe_addresses(self.netns)
        return [one.ip for one in seen if one.link != DUMMY]

    def observe(self) -> list[Object]:
        """What of ours the kernel holds, settings left out.  Raises KernelError."""
        addresses = self.kernel.observe_addresses(self.netns)
        link = self.kernel.observe_link(self.netns, DUMMY)
        frame = {one.key for one in self._frame}
        held: list[Object] = [one for one in (link,) if one is not None]
        held += [one for one in addresses if one.link == DUMMY]
        sets = self._own_sets(self.kernel.observe_sets(self.netns, _PREFIX))
        held += sets
        for family in _FAMILIES:
            seen = self.kernel.observe_chains(self.netns, family)
            held += [one for one in seen if one.key in frame]
        servers = self._servers()
        every = [one for one in servers if isinstance(one, VirtualServer)]
        marks = self._marks(addresses, sets)
        ours = {one.key for one in ownership.ours(marks, servers, every)}
        own = False
        for one in servers:
            own = one.key in ours if isinstance(one, VirtualServer) else own
            if own:
                held.append(one)
        return held

    def _servers(self) -> list[VirtualServer | RealServer]:
        """What IPVS there is; none in a kernel without IPVS."""
        try:
            return self.kernel.observe_servers(self.netns)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return []
            raise

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

        kernel, netns = self.kernel, self.netns
        wishes = Wishes(wants)
        link: Link | None = read("link", lambda: kernel.observe_link(netns, DUMMY), None)
        difference.link(wishes, link, found)
        difference.settings(wishes, self._settings(wishes), found)
        known, self._addresses = self._addresses, None
        addresses: list[Address] = (
            known
            if known is not None
            else read("address", lambda: kernel.observe_addresses(netns), [])
        )
        difference.addresses(wishes, addresses, found)
        sets = self._own_sets(read("set", lambda: kernel.observe_sets(netns, _PREFIX), []))
        difference.sets(wishes, sets, found)
        chains: list[Chain | Jump] = []
        for family in _FAMILIES:
            jumps = [
                one.object
                for one in wishes.of(Jump)
                if isinstance(one.object, Jump) and one.object.family == family
            ]
            look = partial(kernel.observe_chains, netns, family, jumps)
            chains += read(f"chain ({family})", look, [])
        difference.chains(wishes, chains, self._frame, found)
        servers: dict[ObjectKey, Group] = read(
            "server", lambda: kernel.observe_groups(netns, wishes.real_servers), {}
        )
        marks = partial(self._marks, addresses, sets)
        strays = difference.servers(wishes, servers, marks, found)
        return Compared(found, strays, unread)

    def differences(self, wants: Wants) -> list[Change]:
        """The Changes that would bring this kernel to what is wanted, nothing of it applied.

        Raises KernelError when the kernel cannot be read.
        """
        compared = self.compare(wants)
        for error in compared.unread.values():
            raise error
        gone = [
            Change(verb="remove", netns=self.netns, object=one, reason="no wanted endpoint")
            for one in compared.strays
            if not (one.protocol == "TCP" and one.weight == 0)  # its connections end
        ]
        return [*compared.differences, *gone]

    def apply(self, differences: Differences) -> list[Failed]:
        """Applies all that can be; gives what is not so.  Does not raise for the kernel.

        Virtual servers in ``ipvs.excludeCIDRs`` are made and never removed.
        """
        self._addresses = None
        if differences.removals:
            kept = Differences(differences.puts, self._removable(differences.removals))
            kept.missing = differences.missing
            differences = kept
        # Rules of another mode send packets to endpoints before IPVS sees them, until they go.
        chains_last, self._takes_over = self._takes_over, False
        return stages.apply(self.kernel, differences, chains_last=chains_last)

    def clean_up(self, kept: Collection[str] = ()) -> tuple[list[Change], list[Failed]]:
        """Removes exactly what is ours: what was tried, and what of it could not be done.

        ``kept`` are the places that another mode has taken over (``mode.base.places``).  Settings
        stay as they are: what they were before is not known.  Raises KernelError when the kernel
        cannot be read.
        """
        gone = [
            Change(verb="remove", netns=self.netns, object=one, reason="clean-up")
            for one in self.observe()
            # These go with what they are in or on.
            if not isinstance(one, SetEntry | RealServer) and place_of(one) not in kept
        ]
        # With kube-ipvs0 go its addresses, in one call.
        linked = any(isinstance(change.object, Link) for change in gone)
        gone = [one for one in gone if not (linked and isinstance(one.object, Address))]
        return gone, stages.apply(self.kernel, Differences([], gone))

    def _settings(self, wishes: Wishes) -> list[Sysctl | Timeouts]:
        seen: list[Sysctl | Timeouts] = []
        for want in (*wishes.of(Sysctl), *wishes.of(Timeouts)):
            try:
                if isinstance(want.object, Sysctl):
                    seen.append(self.kernel.read_sysctl(self.netns, want.object.name))
                else:
                    seen.append(self.kernel.ipvs(self.netns).timeouts())
            except OSError:
                continue  # setting it says why, if it is so still
        return seen

    def _own_sets(self, seen: Sequence[IpSet | SetEntry]) -> list[IpSet | SetEntry]:
        names = {one.name for one in self._frame if isinstance(one, IpSet)}
        return [one for one in seen if (one.name if isinstance(one, IpSet) else one.set) in names]

    def _removable(self, removals: Sequence[Change]) -> list[Change]:
        """Without excluded virtual servers, and real servers that go or stay with theirs."""
        kept: list[Change] = []
        without = set()
        for change in removals:
            if isinstance(change.object, VirtualServer):
                without.add(change.object.key)
                if ownership.excluded(change.object.ip, self._excluded):
                    continue
            kept.append(change)
        if not without:
            return kept
        return [
            change
            for change in kept
            if not isinstance(change.object, RealServer)
            or ownership.server_of(change.object).key not in without
        ]

    def _marks(self, addresses: Iterable[Address], sets: Iterable[Object]) -> Marks:
        kept = list(addresses)
        return Marks(
            bound=[one.ip for one in kept if one.link == DUMMY],
            entries=[one for one in sets if isinstance(one, SetEntry)],
            node=[one.ip for one in kept if one.link != DUMMY],
            excluded=self._excluded,
        )
