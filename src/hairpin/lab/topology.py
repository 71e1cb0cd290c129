"""What a lab's namespaces should hold: Kubernetes objects and ingredients to a KernelState.

What Services ask of the nodes is no part of it: that is their proxies' (``lab.proxies``).

Pure.  A Pod is a namespace with one veth to its node's bridge; a node is a namespace with that
bridge and an uplink; the uplinks meet in one more namespace, the outside.  The order is that of
building: what a thing stands on comes before it.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from hairpin.lab import names
from hairpin.lab.adjust import FORWARDING
from hairpin.lab.ingredients import Ingredients
from hairpin.model.address import IP, Network, ip, network
from hairpin.model.node import Node, NodeAddress
from hairpin.model.pod import Pod
from hairpin.model.snapshot import Snapshot
from hairpin.source.settings import UPLINKS
from hairpin.state.abilities import Abilities
from hairpin.state.change import KernelState, Object, Wanted
from hairpin.state.links import Address, Link, Netns, Route
from hairpin.state.netfilter import ChainPolicy, Rule
from hairpin.state.sysctl import Sysctl

LAN = UPLINKS
_DEFAULT = network("0.0.0.0/0")
ALL = Abilities()


def gateway(pod_cidr: Network) -> IP:
    """The bridge's address: the first host of the node's Pod network."""
    return pod_cidr[1]


def uplink_address(index: int) -> IP:
    """The address of the n-th node on its uplink."""
    return LAN[2 + index]


def bridge_mac(address: IP) -> str:
    """A bridge's own hardware address, as the bridge plugin of CNI made it: 0a:58 and the IPv4's.

    Without one of its own a bridge takes the lowest of its ports', another one as Pods come and
    go, and who knows the old one by ARP sends into the void for up to half a minute.
    """
    return ":".join(f"{byte:02x}" for byte in (0x0A, 0x58, *address.packed[-4:]))


def with_addresses(snapshot: Snapshot) -> Snapshot:
    """With the addresses that the lab's nodes have, as their kubelets would say them."""
    nodes = []
    for index, node in enumerate(snapshot.nodes.values()):
        addresses = (
            NodeAddress(type="InternalIP", address=str(uplink_address(index))),
            NodeAddress(type="Hostname", address=node.metadata.name),
        )
        if node.status.addresses != addresses:
            status = msgspec.structs.replace(node.status, addresses=addresses)
            nodes.append(msgspec.structs.replace(node, status=status))
    return snapshot.merge(nodes) if nodes else snapshot


def desired(
    snapshot: Snapshot, ingredients: Ingredients, abilities: Abilities = ALL
) -> KernelState:
    """What all namespaces of the lab should hold, as far as the kernel can."""
    return KernelState(_everything(snapshot, ingredients, abilities))


def uplinks(nodes: list[str]) -> KernelState:
    """The nodes with their uplinks and nothing else, as a machine is before any Pod."""
    return KernelState(_uplinks(nodes))


def _everything(
    snapshot: Snapshot, ingredients: Ingredients, abilities: Abilities
) -> Iterator[Wanted]:
    nodes = list(snapshot.nodes.values())
    yield from _uplinks([node.metadata.name for node in nodes])
    yield from _routes(snapshot, nodes)
    for node in nodes:
        pods = [
            pod
            for pod in snapshot.pods.values()
            if pod.spec.node_name == node.metadata.name
            and pod.status.pod_ip
            and not pod.spec.host_network
        ]
        cidr = node.spec.pod_cidr
        if cidr is None:
            raise ValueError(f"Node {node.metadata.name} has no podCIDR: it was not admitted")
        yield from _bridge(node, cidr, ingredients, abilities)
        # By kind and not by Pod: what goes to one place goes out together, which took half the
        # time of sixteen Pods at once (200 Pods, guest).
        for part in (_pod_netns, _pod_inside, _pod_outside):
            for pod in pods:
                yield from part(pod, cidr, ingredients)


def _uplinks(nodes: list[str]) -> Iterator[Wanted]:
    outside = ip(str(LAN[1]))

    def out(thing: Object, why: str) -> Wanted:
        return Wanted(netns=names.OUTSIDE, object=thing, owner="lab", why=why)

    bridge = names.OUTSIDE_BRIDGE
    link = Link(name=bridge, type="bridge", mac=bridge_mac(outside))
    yield out(link, "the network between nodes")
    address = Address(link=bridge, ip=outside, prefix=LAN.prefixlen)
    yield out(address, "the nodes' gateway")
    for index, name in enumerate(nodes):
        here, owner, peer = names.node_netns(name), f"node {name}", names.uplink_peer(name)

        def own(thing: Object, why: str, here: str = here, owner: str = owner) -> Wanted:
            return Wanted(netns=here, object=thing, owner=owner, why=why)

        uplink = Link(name=names.UPLINK, type="veth", peer=peer, peer_netns=names.OUTSIDE)
        yield own(uplink, "its uplink")
        far = Link(name=peer, type="veth", master=bridge, peer=names.UPLINK, peer_netns=here)
        yield Wanted(netns=names.OUTSIDE, object=far, owner=owner, why="its uplink's far end")
        address = Address(link=names.UPLINK, ip=uplink_address(index), prefix=LAN.prefixlen)
        yield own(address, "its address")
        yield own(Route(to=_DEFAULT, via=outside), "its way to everywhere else")


def _routes(snapshot: Snapshot, nodes: list[Node]) -> Iterator[Wanted]:
    """What a cluster's router knows: where Pods are, and who takes Services' outer addresses.

    So Pods are reached, and answered, by their own addresses.  The first node takes the others.
    """

    def out(to: Network, via: IP, owner: str, why: str) -> Wanted:
        route = Route(to=to, via=via)
        return Wanted(netns=names.OUTSIDE, object=route, owner=owner, why=why)

    taken: set[Network] = set()
    for index, node in enumerate(nodes):
        cidr = node.spec.pod_cidr
        if cidr is not None:
            taken.add(cidr)
            owner = f"node {node.metadata.name}"
            yield out(cidr, uplink_address(index), owner, "the way to its Pods")
    for service in snapshot.services.values():
        ingress = (one.ip for one in service.status.load_balancer.ingress if one.ip_mode == "VIP")
        for address in (*ingress, *service.spec.external_ips):
            if address is None or address.version != LAN.version or address in LAN:
                continue
            to = network(f"{address}/{address.max_prefixlen}")
            if to not in taken:
                taken.add(to)
                owner = f"service {'/'.join(service.key)}"
                yield out(to, uplink_address(0), owner, "leads to a node, which serves it")


def _bridge(
    node: Node, cidr: Network, ingredients: Ingredients, abilities: Abilities
) -> Iterator[Wanted]:
    owner = f"node {node.metadata.name}"

    def own(thing: Object, why: str) -> Wanted:
        netns = names.node_netns(node.metadata.name)
        return Wanted(netns=netns, object=thing, owner=owner, why=why)

    on = {"on": "1", "off": "0"}
    bridge = names.BRIDGE
    promisc = ingredients.hairpin == "promisc"
    link = Link(name=bridge, type="bridge", promisc=promisc, mac=bridge_mac(gateway(cidr)))
    yield own(link, "the bridge of its Pods")
    yield own(Address(link=bridge, ip=gateway(cidr), prefix=cidr.prefixlen), "its Pods' gateway")
    forward = on[ingredients.forwarding]
    yield own(Sysctl(name=FORWARDING, value=forward), "ingredient forwarding")
    if abilities.br_netfilter:
        bridged = on[ingredients.br_netfilter]
        name = "net.bridge.bridge-nf-call-iptables"
        yield own(Sysctl(name=name, value=bridged), "ingredient br-netfilter")
    if not abilities.iptables:
        return
    accept = ingredients.forward_accept == "on"
    policy = ChainPolicy(table="filter", chain="FORWARD", target="ACCEPT" if accept else "DROP")
    yield own(policy, "ingredient forward-accept")
    if accept:
        for way in ("-i", "-o"):
            rule = Rule(table="filter", chain="FORWARD", spec=(way, bridge, "-j", "ACCEPT"))
            yield own(rule, "ingredient forward-accept")


def _pod_netns(pod: Pod, _cidr: Network, _ingredients: Ingredients) -> Iterator[Wanted]:
    inside = names.pod_netns(*pod.key)
    yield Wanted(
        netns=inside, object=Netns(name=inside), owner=_owner(pod), why="its network namespace"
    )


def _pod_inside(pod: Pod, cidr: Network, ingredients: Ingredients) -> Iterator[Wanted]:
    inside, node = names.pod_netns(*pod.key), names.node_netns(pod.spec.node_name)

    def own(thing: Object, why: str) -> Wanted:
        return Wanted(netns=inside, object=thing, owner=_owner(pod), why=why)

    assert pod.status.pod_ip is not None
    peer = names.pod_veth(*pod.key)
    # Whoever gets the address of a Pod that is gone is found at once: no neighbour's memory of it
    # is wrong then.
    mac = bridge_mac(pod.status.pod_ip)
    near = Link(name=names.POD_LINK, type="veth", mac=mac, peer=peer, peer_netns=node)
    yield own(near, "its link to the node")
    address = Address(link=names.POD_LINK, ip=pod.status.pod_ip, prefix=cidr.prefixlen)
    yield own(address, "its address")
    if ingredients.gateway == "on":
        yield own(Route(to=_DEFAULT, via=gateway(cidr)), "ingredient gateway")


def _pod_outside(pod: Pod, _cidr: Network, ingredients: Ingredients) -> Iterator[Wanted]:
    far = Link(
        name=names.pod_veth(*pod.key),
        type="veth",
        master=names.BRIDGE,
        hairpin=ingredients.hairpin == "port",
        peer=names.POD_LINK,
        peer_netns=names.pod_netns(*pod.key),
    )
    node = names.node_netns(pod.spec.node_name)
    yield Wanted(netns=node, object=far, owner=_owner(pod), why="the node's end of its link")


def _owner(pod: Pod) -> str:
    return f"pod {'/'.join(pod.key)}"
