"""Changes made true, in batches, with every error given to the Change that caused it."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from hairpin.kernel import (
    conntrack,
    ipset,
    ipvs,
    ipvs_table,
    links,
    links_seen,
    netns,
    packet_counters,
    sysctl,
)
from hairpin.kernel.errors import KernelError
from hairpin.kernel.iptables import OBJECTS, Iptables, Variant
from hairpin.kernel.iptables_script import Saved
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.netns import Netns
from hairpin.kernel.sockets import Sockets
from hairpin.netlink.conntrack import NETLINK_NETFILTER
from hairpin.netlink.generic import NETLINK_GENERIC
from hairpin.netlink.ipvs_table import Expected, Group, ObjectKey
from hairpin.netlink.link import NETLINK_ROUTE
from hairpin.state import links as state
from hairpin.state.change import Change
from hairpin.state.conntrack import Flow
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import (
    Connection,
    Protocol,
    RealServer,
    RealServerSeen,
    Timeouts,
    VirtualServer,
    VirtualServerSeen,
)
from hairpin.state.links import Address, Bridged, Link, Neighbour, Route
from hairpin.state.netfilter import (
    Chain,
    ChainPolicy,
    Family,
    Jump,
    PacketCounter,
    Rule,
)
from hairpin.state.nftables import (
    NftChain,
    NftElement,
    NftFamily,
    NftObject,
    NftRule,
    NftSet,
    NftTable,
)
from hairpin.state.sysctl import Sysctl

Seen = Link | Address | Route

_ROUTE, _IPVS, _IPTABLES, _SYSCTL, _NETNS = "route", "ipvs", "iptables", "sysctl", "netns"
_TIMEOUTS, _IPSET, _COUNTERS = "ipvs-timeouts", "ipset", "packet-counters"
_NFTABLES = "nftables"
_DOORS: dict[type, str] = {
    Link: _ROUTE,
    Address: _ROUTE,
    Route: _ROUTE,
    Neighbour: _ROUTE,
    Bridged: _ROUTE,
    VirtualServer: _IPVS,
    RealServer: _IPVS,
    Timeouts: _TIMEOUTS,
    **dict.fromkeys(OBJECTS, _IPTABLES),
    PacketCounter: _COUNTERS,
    IpSet: _IPSET,
    SetEntry: _IPSET,
    NftTable: _NFTABLES,
    NftChain: _NFTABLES,
    NftSet: _NFTABLES,
    NftElement: _NFTABLES,
    Sysctl: _SYSCTL,
    state.Netns: _NETNS,
}


class Failed(msgspec.Struct, frozen=True):
    """A Change that is not so, and why."""

    change: Change
    error: KernelError

    def __str__(self) -> str:
        return f"{self.change.netns}: {self.change.verb} {self.change.object}: {self.error}"


class Kernel:
    """Linux, seen as namespaces with names.

    ``netns_dir`` is where namespaces made here are mounted for ``ip netns`` to see
    (``/run/netns``), None for nowhere.  ``legacy_iptables`` is for kernels without the nf_tables
    families that Debian's default iptables needs; ``iptables`` insists on a variant.  Used by one
    thread.
    """

    def __init__(
        self,
        netns_dir: str | None = None,
        *,
        legacy_iptables: bool = False,
        iptables: Variant | None = None,
    ) -> None:
        self.namespaces: dict[str, Netns] = {}
        self.spent: dict[str, float] = {}
        """Seconds that applying took, by the way in: netns, route, iptables, ipvs, sysctl."""
        self._netns_dir = netns_dir
        self._sockets = Sockets()
        self._iptables = Iptables(legacy=legacy_iptables, variant=iptables)

    def adopt(self, handle: Netns) -> None:
        """Knows an existing namespace by ``handle.name`` from now on, and closes it at the end."""
        known = self.namespaces.get(handle.name)
        if known is not None and known is not handle:
            raise ValueError(f"a namespace {handle.name} is known already")
        self.namespaces[handle.name] = handle

    def let_go(self, name: str) -> None:
        """Knows the namespace no more; it lives on where it is mounted."""
        self._sockets.forget(name)
        self.namespaces.pop(name).close()

    def apply(self, changes: Iterable[Change]) -> list[Failed]:
        """Applies Changes in their order and gives those that are not so afterwards.

        Consecutive Changes of one namespace and kind go out together; one that fails does not
        stop the later ones.  What is so already counts as done.
        """
        todo = changes if isinstance(changes, list | tuple) else list(changes)
        failed = []
        start = 0
        timed, began = "", 0.0
        while start < len(todo):
            name, door = _place(todo[start])
            # Looking at the clock takes 17 us in the guest: once where the kind changes, and not
            # for a single Change, which takes 60.
            if door != timed and len(todo) > 1:
                timed, began = door, self._spend(timed, began)
            try:
                errors, count = self._apply(name, door, todo, start)
            except OSError as error:
                self._sockets.forget(name)  # one that did not answer may answer too late
                count = _run_length(todo, start)
                errors = dict.fromkeys(range(count), KernelError.of(error))
            failed += [Failed(todo[start + at], errors[at]) for at in sorted(errors)]
            start += count
        if timed:
            self._spend(timed, began)
        return failed

    def observe(self, name: str, *, derived: bool = False) -> list[Seen]:
        """The links, addresses and routes of a namespace; see ``links_seen.observe``."""
        socket = self._sockets.get(self._handle(name), NETLINK_ROUTE)
        return links_seen.observe(socket, self.namespaces, derived=derived)

    def observe_rules(self, name: str, family: Family = "ip") -> list[Rule | ChainPolicy]:
        """iptables rules and policies of a namespace in the order in which they stand."""
        return self._iptables.observe(self._handle(name), family)

    def observe_addresses(self, name: str, link: str | None = None) -> list[Address]:
        """The addresses of one link (none where there is no such link), or of all; cheap.

        Those that the kernel makes by itself are left out, as in ``observe``.
        """
        socket = self._sockets.get(self._handle(name), NETLINK_ROUTE)
        return links_seen.observe_addresses(socket, link)

    def observe_link(self, name: str, link: str) -> Link | None:
        """One link by its name, None where there is none.  Its master and peer are left out."""
        socket = self._sockets.get(self._handle(name), NETLINK_ROUTE)
        return links_seen.observe_link(socket, link)

    def observe_chains(
        self, name: str, family: Family = "ip", wanted: Iterable[Jump] = ()
    ) -> list[Chain | Jump]:
        """The chains of kube-proxy's names, and the jumps to them in built-in chains.

        Jumps that are not where they belong, or in another order than those of ``wanted``, are
        not ``in_place``.
        """
        return self._iptables.observe_owned(self._handle(name), family, wanted)

    def saved_chains(self, name: str, family: Family = "ip") -> Saved:
        """All chains of one family of iptables, as lines."""
        return self._iptables.saved(self._handle(name), family)

    def packet_counters(self, name: str) -> dict[str, int]:
        """What the packet counters of a namespace have counted, by name."""
        return packet_counters.observe(self._sockets.get(self._handle(name), NETLINK_NETFILTER))

    def observe_sets(self, name: str, prefix: str = "") -> list[IpSet | SetEntry]:
        """The ipsets whose name begins so, each followed by its entries."""
        return ipset.observe(self._sockets.get(self._handle(name), NETLINK_NETFILTER), prefix)

    def observe_nft(
        self, name: str, family: NftFamily, table: str, expected: Sequence[NftChain] = ()
    ) -> list[NftObject]:
        """A table of nf_tables with all that is in it; see ``nftables.observe``."""
        from hairpin.kernel.nftables import observe

        return observe(
            self._sockets.get(self._handle(name), NETLINK_NETFILTER), family, table, expected
        )

    def nft_tables(self, name: str, family: NftFamily) -> list[NftTable]:
        """The tables of nf_tables of a family, without what is in them; cheap."""
        from hairpin.kernel.nftables import tables

        return tables(self._sockets.get(self._handle(name), NETLINK_NETFILTER), family)

    def nft_rules(self, name: str, family: NftFamily, table: str) -> dict[tuple[str, int], NftRule]:
        """The rules of a table of nf_tables by chain and handle."""
        from hairpin.kernel.nftables import rules

        return rules(self._sockets.get(self._handle(name), NETLINK_NETFILTER), family, table)

    def nft_generation(self, name: str) -> int:
        """How many transactions nf_tables has seen in a namespace, by whomever."""
        from hairpin.kernel.nftables import generation

        return generation(self._sockets.get(self._handle(name), NETLINK_NETFILTER))

    def observe_servers(self, name: str) -> list[VirtualServer | RealServer]:
        """Virtual servers, each followed by its real servers, without counters; cheap.

        See ``ipvs_table.observe`` for what is not told of thresholds.
        """
        found: list[VirtualServer | RealServer] = []
        for server, behind in self.observe_groups(name).values():
            found.append(server)
            found += behind
        return found

    def observe_groups(self, name: str, expected: Expected | None = None) -> dict[ObjectKey, Group]:
        """The same by the virtual servers' keys; ``expected`` as in ``ipvs_table.observe``."""
        handle = self._handle(name)
        socket = self._sockets.get(handle, NETLINK_GENERIC)
        return ipvs_table.observe(socket, handle, expected)

    def flows(self, name: str, protocol: Protocol | None = None) -> Iterator[Flow]:
        """Tracked connections, of one protocol or all, one after the other.

        The table is never in memory as a whole; see ``conntrack.flows``.
        """
        return conntrack.flows(self._handle(name), protocol)

    def delete_flows(self, name: str, flows: Sequence[Flow]) -> list[KernelError | None]:
        """Forgets tracked connections, in batches; the verdict on each.  Absent ones are fine."""
        return conntrack.delete(self._sockets.get(self._handle(name), NETLINK_NETFILTER), flows)

    def observe_real_servers(
        self, name: str, servers: Sequence[VirtualServer]
    ) -> list[tuple[RealServerSeen, ...]]:
        """What is behind each of these virtual servers, with counts of connections.

        Nothing for one that is not there.  Costs one dump a virtual server, whatever the rest.
        """
        socket = self._sockets.get(self._handle(name), NETLINK_GENERIC)
        return ipvs.observe_real_servers(socket, servers)

    def observe_ipvs(self, name: str) -> list[VirtualServerSeen]:
        """Virtual servers of a namespace with real servers and counters."""
        return ipvs.observe(self._sockets.get(self._handle(name), NETLINK_GENERIC))

    def ipvs(self, name: str) -> ipvs.Ipvs:
        """IPVS of a namespace: timeouts, counters, connections and all else that is no Change."""
        handle = self._handle(name)
        return ipvs.Ipvs(handle, self._sockets.get(handle, NETLINK_GENERIC))

    def connections(self, name: str) -> list[Connection]:
        """IPVS's connection table in a namespace."""
        return ipvs.connections(self._handle(name))

    def read_sysctl(self, name: str, setting: str) -> Sysctl:
        """A setting as it is in a namespace."""
        return sysctl.read(self._handle(name), setting)

    def route_socket(self, name: str) -> NetlinkSocket:
        """rtnetlink in a namespace, for what is no Change.  Raises KernelError."""
        return self._sockets.get(self._handle(name), NETLINK_ROUTE)

    def flush_conntrack(self, name: str) -> None:
        """Forgets all tracked connections of a namespace."""
        conntrack.flush(self._sockets.get(self._handle(name), NETLINK_NETFILTER))

    def close(self, *, destroy: bool = False) -> None:
        """Lets go of all namespaces; ``destroy`` also takes their mounts away."""
        self._sockets.close()
        for handle in self.namespaces.values():
            if destroy:
                handle.destroy()
            else:
                handle.close()
        self.namespaces.clear()

    def _spend(self, door: str, began: float) -> float:
        """Adds the seconds since ``began`` to what the door has taken; gives the time now."""
        now = time.monotonic()
        if door:
            self.spent[door] = self.spent.get(door, 0.0) + now - began
        return now

    def _apply(
        self, name: str, door: str, todo: Sequence[Change], start: int
    ) -> tuple[dict[int, KernelError], int]:
        """Applies Changes from ``start`` on: errors by position from there, how many they were."""
        if door == _IPVS:  # finds by itself where its Changes end: they may be ten thousands
            socket = self._sockets.get(self._handle(name), NETLINK_GENERIC)
            return ipvs.apply(socket, todo[start : start + ipvs.MOST])
        if door == _IPSET:  # so does this
            socket = self._sockets.get(self._handle(name), NETLINK_NETFILTER)
            return ipset.apply(socket, todo[start : start + ipset.MOST])
        count = _run_length(todo, start)
        verdicts = self._apply_run(name, door, todo[start : start + count])
        return {at: error for at, error in enumerate(verdicts) if error is not None}, count

    def _apply_run(
        self, name: str, door: str, run: Sequence[Change]
    ) -> Sequence[KernelError | None]:
        if door == _NETNS:
            return [self._apply_netns(change) for change in run]
        handle = self._handle(name)
        match door:
            case "route":
                socket = self._sockets.get(handle, NETLINK_ROUTE)
                return links.apply(socket, self.namespaces, run)
            case "ipvs-timeouts":
                return ipvs.apply_timeouts(self._sockets.get(handle, NETLINK_GENERIC), run)
            case "iptables":
                return self._iptables.apply(handle, run)
            case "packet-counters":
                socket = self._sockets.get(handle, NETLINK_NETFILTER)
                return packet_counters.apply(socket, run)
            case "nftables":  # imported here: not for the guest, which cannot use it
                from hairpin.kernel.nftables import apply as apply_nft

                errors = apply_nft(self._sockets.get(handle, NETLINK_NETFILTER), run)
                return [errors.get(at) for at in range(len(run))]
            case _:
                return sysctl.apply(handle, run)

    def _apply_netns(self, change: Change) -> KernelError | None:
        name = change.object.key[1]
        assert isinstance(name, str)
        path = f"{self._netns_dir}/{name}" if self._netns_dir is not None else None
        try:
            if change.verb == "remove":
                self._sockets.forget(name)
                known = self.namespaces.pop(name, None)
                if known is not None:
                    known.destroy()
                elif path is not None:
                    netns.forget_mount(path)
            elif name not in self.namespaces:
                self.namespaces[name] = Netns.made(name, path)
        except OSError as error:
            return KernelError.of(error, f"namespace {name}: {error}")
        return None

    def _handle(self, name: str) -> Netns:
        try:
            return self.namespaces[name]
        except KeyError:
            raise KernelError(errno.ENOENT, f"no namespace {name}") from None


def _place(change: Change) -> tuple[str, str]:
    """What consecutive Changes must share to go out together."""
    door = _DOORS[type(change.object)]
    return ("", door) if door == _NETNS else (change.netns, door)


def _run_length(todo: Sequence[Change], start: int) -> int:
    """How many Changes from ``start`` on go out together."""
    place = _place(todo[start])
    end = start
    while end < len(todo) and _place(todo[end]) == place:
        end += 1
    return end - start
