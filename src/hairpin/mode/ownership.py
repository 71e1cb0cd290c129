"""Which kernel objects are ours, told from the kernel alone.

After a crash nothing but the kernel is left to ask, and on the same node others may keep virtual
servers, sets and rules of their own.  Most of ours bear their names: kube-ipvs0 and what is on
it, the sets and chains of the frame.  A virtual server has no name.  It is ours when

- its address is on kube-ipvs0, or
- its address, port and protocol are in one of the sets that list what is served, or
- its address is the node's and its port is in a set of node ports, or
- its port is in a set of node ports and it shares a real server with one of ours, or has none:
  it answered for a node address that has gone since.

Set entries are made before the virtual servers that they tell of and removed after them, so that
this holds whenever a sync is cut off.  One in ``ipvs.excludeCIDRs`` or with a firewall mark is
never ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hairpin.model.address import IP, Network
from hairpin.state.ipset import SetEntry
from hairpin.state.ipvs import Protocol, RealServer, VirtualServer

DUMMY = "kube-ipvs0"
"""The link that holds the virtual addresses."""

_SERVED = frozenset(
    (
        "KUBE-CLUSTER-IP",
        "KUBE-EXTERNAL-IP",
        "KUBE-EXTERNAL-IP-LOCAL",
        "KUBE-LOAD-BALANCER",
        "KUBE-NODE-PORT-SCTP-HASH",
    )
)
_NODE_PORTS: dict[str, Protocol] = {"KUBE-NODE-PORT-TCP": "TCP", "KUBE-NODE-PORT-UDP": "UDP"}
_BOUND = "KUBE-IPVS-IPS"
_SIX = "KUBE-6-"

ObjectKey = tuple[object, ...]
Mark = tuple[Protocol, int, int, int]
"""Protocol, address as a number, IP version, port; the address of a node port is 0."""


class Marks:
    """What the kernel holds beside virtual servers that says which of them are ours."""

    def __init__(
        self,
        bound: Iterable[IP],
        entries: Iterable[SetEntry],
        node: Iterable[IP],
        excluded: Sequence[Network] = (),
    ) -> None:
        self._bound = {(int(ip), ip.version) for ip in bound}
        self._marks = {found for entry in entries if (found := mark(entry)) is not None}
        self._node = {(int(ip), ip.version) for ip in node}
        self._excluded = excluded

    def owns(self, server: VirtualServer) -> bool:
        """Whether its own address and port say that it is ours."""
        if server.fwmark or excluded(server.ip, self._excluded):
            return False
        at = (int(server.ip), server.ip.version)
        if at in self._bound or (server.protocol, *at, server.port) in self._marks:
            return True
        return at in self._node and self._node_port(server)

    def may_own(self, server: VirtualServer) -> bool:
        """Whether it is ours if it has no real servers but those of ours."""
        if server.fwmark or excluded(server.ip, self._excluded):
            return False
        return self._node_port(server)

    def _node_port(self, server: VirtualServer) -> bool:
        return (server.protocol, 0, server.ip.version, server.port) in self._marks


def ours(
    marks: Marks,
    seen: Sequence[VirtualServer | RealServer],
    candidates: Sequence[VirtualServer],
) -> list[VirtualServer]:
    """Those of the candidates that are ours.

    ``seen`` is all there is, each virtual server followed by its real servers; those that are no
    candidates are known to be ours.
    """
    mine = [server for server in candidates if marks.owns(server)]
    perhaps = {server.key: server for server in candidates if marks.may_own(server)}
    for server in mine:
        perhaps.pop(server.key, None)
    if not perhaps:
        return mine
    foreign = {server.key for server in candidates} - {server.key for server in mine}
    behind: dict[ObjectKey, set[tuple[object, ...]]] = {key: set() for key in perhaps}
    known: set[tuple[object, ...]] = set()
    own = known
    for one in seen:
        if isinstance(one, VirtualServer):
            own = behind.get(one.key, set()) if one.key in foreign else known
        else:
            own.add((one.protocol, int(one.ip), one.ip.version, one.port))
    return mine + [
        server
        for key, server in perhaps.items()
        if not behind[key] or not known.isdisjoint(behind[key])
    ]


def mark(entry: SetEntry) -> Mark | None:
    """What an entry says about a virtual server, None if nothing."""
    stem, version = _stem(entry.set)
    if stem in _SERVED and entry.ip is not None and entry.protocol is not None:
        return (entry.protocol, int(entry.ip), entry.ip.version, entry.port)
    protocol = _NODE_PORTS.get(stem)
    return (protocol, 0, version, entry.port) if protocol is not None else None


def marks_of(server: VirtualServer) -> tuple[Mark, Mark]:
    """The entries that would tell of a virtual server: by its address, by its port alone."""
    version = server.ip.version
    return (
        (server.protocol, int(server.ip), version, server.port),
        (server.protocol, 0, version, server.port),
    )


def server_of(real: RealServer) -> VirtualServer:
    """The virtual server that a real server is behind: what names it, and no more."""
    return VirtualServer(protocol=real.protocol, ip=real.vip, port=real.vport, fwmark=real.fwmark)


def tells_of_bound(entry: SetEntry) -> bool:
    """Whether it is of the set that lists what is on kube-ipvs0, outside of which all is as
    others want it and inside of which what is not served is refused."""
    return _stem(entry.set)[0] == _BOUND


def excluded(ip: IP, networks: Sequence[Network]) -> bool:
    """Whether it is in one of ``ipvs.excludeCIDRs``."""
    return any(ip.version == one.version and ip in one for one in networks)


def _stem(name: str) -> tuple[str, int]:
    """The name of a set without its family, and the family."""
    return ("KUBE-" + name[len(_SIX) :], 6) if name.startswith(_SIX) else (name, 4)
