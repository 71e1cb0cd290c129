"""What a lab's namespaces should hold: Kubernetes objects and ingredients to a KernelState.

Pure.  A Pod is a namespace with one veth to its node's bridge; a node is a namespace with that
bridge and an uplink; the uplinks meet in one more namespace, the outside.  The order is that of
building: what a thing stands on comes before it.
"""

from __future__ import annotations

from collections.abc import Iterator

from hairpin.lab import names
from hairpin.lab.ingredients import Ingredients
from hairpin.model.address import IP, Network, ip, network
from hairpin.model.node import Node
from hairpin.model.pod import Pod
from hairpin.model.snapshot import Snapshot
from hairpin.plan import services
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
        yield from _services(snapshot, node, ingredients, abilities)


def _uplinks(nodes: list[str]) -> Iterator[Wanted]:
    outside = ip(str(LAN[1]))

    def out(thing: Object, why: str) -> Wanted:
        return Wanted(netns=names.OUTSIDE, object=thing, owner="lab", why=why)

    bridge = names.OUTSIDE_BRIDGE
    yield out(Link(name=bridge, type="bridge"), "the network between nodes")
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
    yield own(Link(name=bridge, type="bridge", promisc=promisc), "the bridge of its Pods")
    yield own(Address(link=bridge, ip=gateway(cidr), prefix=cidr.prefixlen), "its Pods' gateway")
    forward = on[ingredients.forwarding]
    yield own(Sysctl(name="net.ipv4.ip_forward", value=forward), "ingredient forwarding")
    if abilities.br_netfilter:
        bridged = on[ingredients.br_netfilter]
        name = "net.bridge.bridge-nf-call-iptables"
        yield own(Sysctl(name=name, value=bridged), "ingredient br-netfilter")
    if abilities.ipvs_conntrack:
        tracked = on[ingredients.ipvs_conntrack]
        yield own(Sysctl(name="net.ipv4.vs.conntrack", value=tracked), "ingredient ipvs-conntrack")
    if not abilities.iptables:
        return
    accept = ingredients.forward_accept == "on"
    policy = ChainPolicy(table="filter", chain="FORWARD", target="ACCEPT" if accept else "DROP")
    yield own(policy, "ingredient forward-accept")
    if accept:
        for way in ("-i", "-o"):
            rule = Rule(table="filter", chain="FORWARD", spec=(way, bridge, "-j", "ACCEPT"))
            yield own(rule, "ingredient forward-accept")
    if ingredients.masquerade == "on":
        spec = ("-s", str(cidr), "-j", "MASQUERADE")
        yield own(Rule(table="nat", chain="POSTROUTING", spec=spec), "ingredient masquerade")


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
    near = Link(name=names.POD_LINK, type="veth", peer=peer, peer_netns=node)
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


def _services(
    snapshot: Snapshot, node: Node, ingredients: Ingredients, abilities: Abilities
) -> Iterator[Wanted]:
    netns = names.node_netns(node.metadata.name)
    if ingredients.vip_local == "on" and abilities.dummy:
        # Down, as kube-proxy leaves it: an address of it is local all the same.
        link = Link(name=names.VIP_LINK, type="dummy", up=False)
        yield Wanted(netns=netns, object=link, owner="proxy", why="holds the ClusterIPs")
        yield from services.vip_addresses(snapshot.services.values(), netns, names.VIP_LINK)
    if abilities.ipvs:
        yield from services.servers(
            snapshot.services.values(), snapshot.endpointslices.values(), netns
        )
