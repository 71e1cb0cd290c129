"""What a lab's namespaces should hold: Kubernetes objects and ingredients to a KernelState.

What Services ask of the nodes is no part of it: that is their proxies' (``lab.proxies``).

Pure.  A Pod is a namespace with one veth to its node's bridge, unless it is in its node's network;
a node is a namespace with that bridge and an uplink (``lab.underlay``).  The order is that of
building: what a thing stands on comes before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from hairpin.lab import names, underlay
from hairpin.lab.adjust import FORWARDING, FORWARDING_V6
from hairpin.lab.ingredients import Ingredients
from hairpin.lab.underlay import DEFAULTS, NO_DAD, bridge_mac
from hairpin.model.address import IP, Network
from hairpin.model.node import Node
from hairpin.model.pod import Pod
from hairpin.model.snapshot import Snapshot
from hairpin.source.ranges import said_cidrs
from hairpin.state.abilities import Abilities
from hairpin.state.change import KernelState, Object, Wanted
from hairpin.state.links import Address, Link, Netns, Route
from hairpin.state.netfilter import ChainPolicy, Family, Rule
from hairpin.state.sysctl import Sysctl

ALL = Abilities()
_FAMILIES: dict[int, Family] = {4: "ip", 6: "ip6"}


class Home(msgspec.Struct, frozen=True):
    """What a Pod must know of the place it is put in."""

    cidrs: dict[int, Network]  # by IP version
    ingredients: Ingredients
    mtu: int | None


def gateway(pod_cidr: Network) -> IP:
    """The bridge's address: the first host of the node's Pod network."""
    return pod_cidr[1]


def desired(
    snapshot: Snapshot, ingredients: Ingredients, abilities: Abilities = ALL
) -> KernelState:
    """What all namespaces of the lab should hold, as far as the kernel can."""
    return KernelState(_everything(snapshot, ingredients, abilities))


def uplinks(nodes: list[str]) -> KernelState:
    """The nodes with their uplinks and nothing else, as a machine is before any Pod."""
    return KernelState(underlay.plain(nodes))


def in_cluster_network(pod: Pod) -> bool:
    """Whether the Pod has a namespace of its own, and an address that it can have there."""
    return bool(pod.status.pod_ips) and not pod.spec.host_network


def _everything(
    snapshot: Snapshot, ingredients: Ingredients, abilities: Abilities
) -> Iterator[Wanted]:
    nodes = list(snapshot.nodes.values())
    for node in nodes:
        if not said_cidrs(node):
            raise ValueError(f"Node {node.metadata.name} has no podCIDR: it was not admitted")
    yield from underlay.build(nodes)
    yield from underlay.from_outside(snapshot)
    mtu = underlay.pod_mtu(nodes)
    on_node: dict[str, list[Pod]] = {node.metadata.name: [] for node in nodes}
    for pod in snapshot.pods.values():
        if in_cluster_network(pod):
            on_node[pod.spec.node_name].append(pod)
    for node in nodes:
        home = Home({cidr.version: cidr for cidr in said_cidrs(node)}, ingredients, mtu)
        yield from _bridge(node, home, abilities)
        # By kind and not by Pod: what goes to one place goes out together, which took half the
        # time of sixteen Pods at once (200 Pods, guest).
        for part in (_pod_netns, _pod_inside, _pod_outside):
            for pod in on_node[node.metadata.name]:
                yield from part(pod, home)
    yield from underlay.between(nodes)


def _bridge(node: Node, home: Home, abilities: Abilities) -> Iterator[Wanted]:
    owner = f"node {node.metadata.name}"

    def own(thing: Object, why: str) -> Wanted:
        netns = names.node_netns(node.metadata.name)
        return Wanted(netns=netns, object=thing, owner=owner, why=why)

    ingredients, cidrs = home.ingredients, list(home.cidrs.values())
    on = {"on": "1", "off": "0"}
    bridge = names.BRIDGE
    promisc = ingredients.hairpin == "promisc"
    mac = bridge_mac(gateway(cidrs[0]))
    link = Link(name=bridge, type="bridge", promisc=promisc, mac=mac, mtu=home.mtu)
    yield own(link, "the bridge of its Pods")
    for cidr in cidrs:
        address = Address(link=bridge, ip=gateway(cidr), prefix=cidr.prefixlen)
        yield own(address, "its Pods' gateway")
    forward = on[ingredients.forwarding]
    yield own(Sysctl(name=FORWARDING, value=forward), "ingredient forwarding")
    if 6 in home.cidrs:
        yield own(Sysctl(name=FORWARDING_V6, value=forward), "ingredient forwarding")
    if abilities.br_netfilter:
        bridged = on[ingredients.br_netfilter]
        for version, family in _FAMILIES.items():
            if version == 4 or version in home.cidrs:
                name = f"net.bridge.bridge-nf-call-{family}tables"
                yield own(Sysctl(name=name, value=bridged), "ingredient br-netfilter")
    if not abilities.iptables:
        return
    accept = ingredients.forward_accept == "on"
    target: Literal["ACCEPT", "DROP"] = "ACCEPT" if accept else "DROP"
    for version, family in _FAMILIES.items():
        if version == 6 and version not in home.cidrs:
            continue
        policy = ChainPolicy(table="filter", chain="FORWARD", target=target, family=family)
        yield own(policy, "ingredient forward-accept")
        for way in ("-i", "-o") if accept else ():
            spec = (way, bridge, "-j", "ACCEPT")
            rule = Rule(table="filter", chain="FORWARD", spec=spec, family=family)
            yield own(rule, "ingredient forward-accept")


def _pod_netns(pod: Pod, _home: Home) -> Iterator[Wanted]:
    inside = names.pod_netns(*pod.key)
    yield Wanted(
        netns=inside, object=Netns(name=inside), owner=_owner(pod), why="its network namespace"
    )


def _pod_inside(pod: Pod, home: Home) -> Iterator[Wanted]:
    inside, node = names.pod_netns(*pod.key), names.node_netns(pod.spec.node_name)

    def own(thing: Object, why: str) -> Wanted:
        return Wanted(netns=inside, object=thing, owner=_owner(pod), why=why)

    addresses = [one.ip for one in pod.status.pod_ips]
    if any(address.version == 6 for address in addresses):
        yield own(NO_DAD, "link-local addresses at once")
    peer = names.pod_veth(*pod.key)
    # Whoever gets the address of a Pod that is gone is found at once: no neighbour's memory of it
    # is wrong then.
    mac = bridge_mac(addresses[0])
    near = Link(name=names.POD_LINK, type="veth", mac=mac, peer=peer, peer_netns=node, mtu=home.mtu)
    yield own(near, "its link to the node")
    for address in addresses:
        cidr = home.cidrs[address.version]
        own_address = Address(link=names.POD_LINK, ip=address, prefix=cidr.prefixlen)
        yield own(own_address, "its address")
        if home.ingredients.gateway == "on":
            route = Route(to=DEFAULTS[address.version], via=gateway(cidr))
            yield own(route, "ingredient gateway")


def _pod_outside(pod: Pod, home: Home) -> Iterator[Wanted]:
    far = Link(
        name=names.pod_veth(*pod.key),
        type="veth",
        master=names.BRIDGE,
        hairpin=home.ingredients.hairpin == "port",
        peer=names.POD_LINK,
        peer_netns=names.pod_netns(*pod.key),
        mtu=home.mtu,
    )
    node = names.node_netns(pod.spec.node_name)
    yield Wanted(netns=node, object=far, owner=_owner(pod), why="the node's end of its link")


def _owner(pod: Pod) -> str:
    return f"pod {'/'.join(pod.key)}"
