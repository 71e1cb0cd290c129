"""The nodes' uplinks, and the way from one node's Pods to another's.  Pure.

The uplinks meet on a bridge in a namespace of their own, the outside, which is also where a client
beyond the cluster is.  A node knows each other node's Pods by a route to that node (host-gw), or
by one into a VXLAN, where packets travel as UDP between the nodes' addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hairpin.lab import names
from hairpin.model.address import IP, Network, ip, network
from hairpin.model.annotations import OVERLAY
from hairpin.model.node import Node
from hairpin.model.service import Service
from hairpin.model.snapshot import Snapshot
from hairpin.source.ranges import said_cidrs
from hairpin.source.settings import UPLINKS, UPLINKS_V6
from hairpin.state.change import Object, Wanted
from hairpin.state.links import Address, Bridged, Link, Neighbour, Route, Vxlan
from hairpin.state.sysctl import Sysctl

LANS: dict[int, Network] = {4: UPLINKS, 6: UPLINKS_V6}
"""By IP version; each one's first host is the outside."""
DEFAULTS: dict[int, Network] = {4: network("0.0.0.0/0"), 6: network("::/0")}
NO_DAD = Sysctl(name="net.ipv6.conf.default.accept_dad", value="0")
"""Link-local addresses can be used at once, and neighbours be asked for: there is nobody else who
could have them, and detecting that takes a second.  For links that are made later."""

_VXLAN_ID, _VXLAN_PORT = 1, 8472  # as flannel: Linux' own port, which is not IANA's
_OVERHEAD = {4: 50, 6: 70}  # bytes: outer Ethernet, IP, UDP and VXLAN headers
_MTU = 1500  # of the uplinks


def internal(node: Node) -> tuple[IP, ...]:
    """The node's own addresses, as it was admitted."""
    return tuple(ip(one.address) for one in node.status.addresses if one.type == "InternalIP")


def of_version(version: int, addresses: Iterable[IP]) -> IP | None:
    """The first address of that IP version."""
    return next((one for one in addresses if one.version == version), None)


def versions(node: Node) -> tuple[int, ...]:
    """The IP versions of the node's Pods."""
    return tuple(cidr.version for cidr in said_cidrs(node))


def bridge_mac(address: IP) -> str:
    """A bridge's own hardware address, as the bridge plugin of CNI made it: 0a:58 and the IPv4's.

    Without one of its own a bridge takes the lowest of its ports', another one as Pods come and
    go, and who knows the old one by ARP sends into the void for up to half a minute.
    """
    return ":".join(f"{byte:02x}" for byte in (0x0A, 0x58, *address.packed[-4:]))


def overlay(nodes: Iterable[Node]) -> bool:
    """Whether Pods of different nodes meet by VXLAN: one Node that says so is enough."""
    return any(node.metadata.annotations.get(OVERLAY) == "vxlan" for node in nodes)


def pod_mtu(nodes: Sequence[Node]) -> int | None:
    """The MTU of what Pods are on; None for the kernel's own."""
    if not overlay(nodes):
        return None
    return _MTU - max(_OVERHEAD[_carrier(node)] for node in nodes)


def plain(nodes: Iterable[str]) -> Iterator[Wanted]:
    """Nodes with an IPv4 uplink each and nothing else."""
    yield from _outside((4,))
    for index, name in enumerate(nodes):
        yield from _uplink(name, [LANS[4][2 + index]])


def build(nodes: Sequence[Node]) -> Iterator[Wanted]:
    """The uplinks of all nodes, and what they meet on."""
    every = dict.fromkeys((4, *(version for node in nodes for version in versions(node))))
    yield from _outside(tuple(every))
    for node in nodes:
        yield from _uplink(node.metadata.name, internal(node))


def between(nodes: Sequence[Node]) -> Iterator[Wanted]:
    """How nodes reach each other's Pods."""
    if overlay(nodes):
        for node in nodes:
            yield from _tunnel(node, nodes)
        return
    for node in nodes:
        for other in nodes:
            if other is not node:
                for cidr in said_cidrs(other):
                    via = of_version(cidr.version, internal(other))
                    if via is not None and cidr.version in versions(node):
                        route, why = Route(to=cidr, via=via), f"the Pods of {other.metadata.name}"
                        yield _own(node.metadata.name, route, why)


def from_outside(snapshot: Snapshot) -> Iterator[Wanted]:
    """What a cluster's router knows: where Pods are, and who takes Services' outer addresses.

    So Pods are reached, and answered, by their own addresses.
    """
    nodes = list(snapshot.nodes.values())
    taken: set[Network] = set()
    for node in nodes:
        for cidr in said_cidrs(node):
            via = of_version(cidr.version, internal(node))
            if via is not None:
                taken.add(cidr)
                owner = f"node {node.metadata.name}"
                yield _out(Route(to=cidr, via=via), owner, "the way to its Pods")
    local = _with_endpoints(snapshot)
    for service in snapshot.services.values():
        ingress = (one.ip for one in service.status.load_balancer.ingress if one.ip_mode == "VIP")
        for address in (*ingress, *service.spec.external_ips):
            if address is None or address in LANS[address.version]:
                continue
            to = network(f"{address}/{address.max_prefixlen}")
            via = _taker(service, address.version, nodes, local)
            if via is not None and to not in taken:
                taken.add(to)
                owner = f"service {'/'.join(service.key)}"
                yield _out(Route(to=to, via=via), owner, "leads to a node, which serves it")


def _taker(
    service: Service, version: int, nodes: Sequence[Node], local: dict[tuple[str, str], set[str]]
) -> IP | None:
    """The address of the first node that a load balancer would send to.

    With externalTrafficPolicy Local these are the nodes whose health check says that they have
    ready endpoints; where that is no node, all count, as at clouds' load balancers.  Nodes that
    are lost come last.
    """
    able = [node for node in nodes if of_version(version, internal(node)) is not None]
    able = [node for node in able if node.ready] or able
    if service.spec.external_traffic_policy == "Local":
        having = local.get(service.key, set())
        able = [node for node in able if node.metadata.name in having] or able
    return of_version(version, internal(able[0])) if able else None


def _with_endpoints(snapshot: Snapshot) -> dict[tuple[str, str], set[str]]:
    """The nodes with ready endpoints, by the Services whose policy is Local."""
    found: dict[tuple[str, str], set[str]] = {
        key: set()
        for key, service in snapshot.services.items()
        if service.spec.external_traffic_policy == "Local"
    }
    if not found:
        return found
    for piece in snapshot.endpointslices.values():
        having = found.get(piece.service_key) if piece.service_key else None
        if having is not None:
            for one in piece.endpoints:
                if one.node_name and one.conditions.ready is not False:
                    having.add(one.node_name)
    return found


def _outside(families: Sequence[int]) -> Iterator[Wanted]:
    bridge = names.OUTSIDE_BRIDGE
    if 6 in families:
        yield _out(NO_DAD, "lab", "link-local addresses at once")
    link = Link(name=bridge, type="bridge", mac=bridge_mac(LANS[4][1]))
    yield _out(link, "lab", "the network between nodes")
    for version in families:
        lan = LANS[version]
        address = Address(link=bridge, ip=lan[1], prefix=lan.prefixlen)
        yield _out(address, "lab", "the nodes' gateway")


def _uplink(name: str, addresses: Sequence[IP]) -> Iterator[Wanted]:
    here, peer = names.node_netns(name), names.uplink_peer(name)
    if any(address.version == 6 for address in addresses):
        yield _own(name, NO_DAD, "link-local addresses at once")
    # Who had the address before is forgotten at once if its hardware address goes with it.
    mac = bridge_mac(addresses[0]) if addresses else None
    uplink = Link(name=names.UPLINK, type="veth", peer=peer, peer_netns=names.OUTSIDE, mac=mac)
    yield _own(name, uplink, "its uplink")
    bridge = names.OUTSIDE_BRIDGE
    far = Link(name=peer, type="veth", master=bridge, peer=names.UPLINK, peer_netns=here)
    yield _out(far, f"node {name}", "its uplink's far end")
    for address in addresses:
        lan = LANS[address.version]
        own = Address(link=names.UPLINK, ip=address, prefix=lan.prefixlen)
        yield _own(name, own, "its address")
        default = Route(to=DEFAULTS[address.version], via=lan[1])
        yield _own(name, default, "its way to everywhere else")


def _carrier(node: Node) -> int:
    """The IP version that carries the VXLAN: the node's first."""
    return internal(node)[0].version


def _tunnel(node: Node, nodes: Sequence[Node]) -> Iterator[Wanted]:
    """The node's end of the VXLAN and the way to all others, as flannel builds it.

    Each end is called by the network addresses of its Pods' networks, which no Pod has; what
    there is to know of the other ends is said, and never asked for.
    """
    name, link = node.metadata.name, names.VXLAN
    carrier = _carrier(node)
    local = internal(node)[0]
    settings = Vxlan(id=_VXLAN_ID, local=local, port=_VXLAN_PORT)
    device = Link(
        name=link, type="vxlan", mtu=_MTU - _OVERHEAD[carrier], mac=_tunnel_mac(node),
        vxlan=settings,
    )  # fmt: skip
    yield _own(name, device, "its end of the overlay")
    for cidr in said_cidrs(node):
        end = Address(link=link, ip=cidr.network_address, prefix=cidr.max_prefixlen)
        yield _own(name, end, "its address in the overlay")
    for other in nodes:
        there = of_version(carrier, internal(other))
        if other is node or there is None:
            continue
        mac, why = _tunnel_mac(other), f"the Pods of {other.metadata.name}"
        yield _own(name, Bridged(link=link, mac=mac, to=there), why)
        for cidr in said_cidrs(other):
            if cidr.version in versions(node):
                via = cidr.network_address
                yield _own(name, Neighbour(link=link, ip=via, mac=mac), why)
                yield _own(name, Route(to=cidr, via=via, link=link, onlink=True), why)


def _tunnel_mac(node: Node) -> str:
    """Follows from the node's address, so that all others know it; never a bridge's."""
    last = ":".join(f"{byte:02x}" for byte in internal(node)[0].packed[-4:])
    return f"0a:59:{last}"


def _own(name: str, thing: Object, why: str) -> Wanted:
    return Wanted(netns=names.node_netns(name), object=thing, owner=f"node {name}", why=why)


def _out(thing: Object, owner: str, why: str) -> Wanted:
    return Wanted(netns=names.OUTSIDE, object=thing, owner=owner, why=why)
