"""Nodes and Pods as the API server, the scheduler and the network plugin leave them.

Pure and deterministic: every choice is the first possible one in the order of names, and what
was chosen before stays as long as it can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from hairpin.model.address import IP, Network, ip, network
from hairpin.model.annotations import IMPLIED, POD_IP, SERVICE_CIDR
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import Key, ObjectMeta
from hairpin.model.node import Node
from hairpin.model.pod import Pod, PodIP
from hairpin.model.snapshot import Snapshot
from hairpin.source.pool import Pool
from hairpin.source.settings import Settings

_IMPLIED_NAME = "node"
_IP_FIELD = f"metadata.annotations[{POD_IP}]"
_NODE_PREFIX = {4: 24, 6: 64}
"""The part of the Pod network that a node gets (kube-controller-manager --node-cidr-mask-size)."""


def bridge_address(node: Node) -> IP | None:
    """The node's own address on its Pod network: the first of its podCIDR."""
    return None if node.spec.pod_cidr is None else Pool(node.spec.pod_cidr).first


def service_cidr(nodes: Iterable[Node], settings: Settings) -> Network:
    """The network of ClusterIPs: a Node's annotation, or the setting.

    Raises ManifestError where two Nodes disagree.
    """
    said: Node | None = None
    for node in nodes:
        text = node.metadata.annotations.get(SERVICE_CIDR)
        if text is None:
            continue
        if said and said.metadata.annotations[SERVICE_CIDR] != text:
            raise ManifestError(
                f"{said.ref} says {said.metadata.annotations[SERVICE_CIDR]}",
                object=str(node.ref),
                field=f"metadata.annotations[{SERVICE_CIDR}]",
                remedy="a cluster has one service CIDR: say it on one Node",
            )
        said = node
    return network(said.metadata.annotations[SERVICE_CIDR]) if said else settings.service_cidr


# Nodes


def placed_nodes(given: Snapshot, previous: Snapshot, settings: Settings) -> dict[Key, Node]:
    """The Nodes with their podCIDRs; where there is none, one that is implied.

    Raises ManifestError for networks that overlap, are too small, or are used up.
    """
    nodes = {key: n for key, n in given.nodes.items() if IMPLIED not in n.metadata.annotations}
    if not nodes:
        implied = (*given.nodes.values(), *previous.nodes.values(), _implied_node())
        node = next(n for n in implied if IMPLIED in n.metadata.annotations)
        nodes = {node.key: node}
    services = service_cidr(nodes.values(), settings)
    cidrs = _pod_cidrs(nodes, previous, settings, services)
    for key, node in nodes.items():
        spec = msgspec.structs.replace(
            node.spec,
            pod_cidr=cidrs[key],
            pod_cidrs=(cidrs[key], *node.spec.pod_cidrs[1:]),
        )
        nodes[key] = msgspec.structs.replace(node, spec=spec)
    _check_networks(nodes.values(), services)
    return nodes


def _implied_node() -> Node:
    return Node(metadata=ObjectMeta(name=_IMPLIED_NAME, annotations={IMPLIED: "true"}))


def _pod_cidrs(
    nodes: Mapping[Key, Node], previous: Snapshot, settings: Settings, services: Network
) -> dict[Key, Network]:
    found: dict[Key, Network] = {}
    for key, node in nodes.items():
        before = previous.nodes.get(key)
        first = node.spec.pod_cidrs[0] if node.spec.pod_cidrs else None
        said = node.spec.pod_cidr or first or (before.spec.pod_cidr if before else None)
        if said is not None:
            found[key] = said
    prefix = max(_NODE_PREFIX[settings.pod_cidr.version], settings.pod_cidr.prefixlen)
    for key, node in nodes.items():
        if key in found:
            continue
        taken = (services, *found.values())
        parts = settings.pod_cidr.subnets(new_prefix=prefix)
        free = next((part for part in parts if not any(_overlap(part, t) for t in taken)), None)
        if free is None:
            message = f"the Pod network {settings.pod_cidr} has no part left"
            remedy = "give the Node a spec.podCIDR of its own"
            raise ManifestError(message, object=str(node.ref), field="spec.podCIDR", remedy=remedy)
        found[key] = free
    return found


def _check_networks(nodes: Iterable[Node], services: Network) -> None:
    known: list[tuple[Network, str]] = [(services, "the service CIDR")]
    for node in nodes:
        cidr = node.spec.pod_cidr
        if cidr is None:
            continue
        if cidr.max_prefixlen - cidr.prefixlen < 2:
            raise ManifestError(
                f"{cidr} has no room for the node's own address and a Pod",
                object=str(node.ref),
                field="spec.podCIDR",
                remedy="take a /30 or larger",
            )
        for other, name in known:
            if _overlap(cidr, other):
                raise ManifestError(
                    f"{cidr} overlaps with {name} {other}",
                    object=str(node.ref),
                    field="spec.podCIDR",
                    remedy="choose networks that have no address in common",
                )
        known.append((cidr, f"the podCIDR of {node.ref},"))


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


# Pods


def placed_pods(
    pods: Mapping[Key, Pod], nodes: Mapping[Key, Node], given: Snapshot, previous: Snapshot
) -> dict[Key, Pod]:
    """The Pods with a node and an address each.

    An address comes from the annotation, else it is the one the Pod had, else the lowest free
    one of its node.  Raises ManifestError for a Node that does not exist, an address that the Pod
    cannot have, and a network that is full.
    """
    scheduled = _scheduled(pods, nodes, given, previous)
    pools = {node.metadata.name: _node_pool(node) for node in nodes.values()}
    chosen: dict[Key, IP] = {}
    _keep(scheduled, previous, pools, chosen)
    for key, pod in scheduled.items():
        if key not in chosen:
            address = pools[pod.spec.node_name].take(str(pod.ref))
            if address is None:
                raise _full(pod, pools[pod.spec.node_name])
            chosen[key] = address
    return {key: _with_ip(pod, chosen[key]) for key, pod in scheduled.items()}


def _scheduled(
    pods: Mapping[Key, Pod], nodes: Mapping[Key, Node], given: Snapshot, previous: Snapshot
) -> dict[Key, Pod]:
    """Pods that name no Node go where the fewest are."""
    load = {node.metadata.name: 0 for node in nodes.values()}
    passed = {n.metadata.name for n in (*given.nodes.values(), *previous.nodes.values())} - set(
        load
    )
    where: dict[Key, str] = {}
    for key, pod in pods.items():
        before = previous.pods.get(key)
        name = pod.spec.node_name or (before.spec.node_name if before else "")
        if name in load:
            where[key] = name
            load[name] += 1
        elif pod.spec.node_name and name not in passed:
            raise ManifestError(
                f'there is no Node "{name}"',
                object=str(pod.ref),
                field="spec.nodeName",
                remedy=f"there is {', '.join(sorted(load)[:5])}",
            )
    for key in pods:
        if key not in where:
            where[key] = min(load, key=lambda name: (load[name], name))
            load[where[key]] += 1
    return {key: _on(pod, where[key]) for key, pod in pods.items()}


def _node_pool(node: Node) -> Pool:
    assert node.spec.pod_cidr is not None
    pool = Pool(node.spec.pod_cidr)
    pool.hold(pool.first, f"{node.ref} itself")
    return pool


def _keep(
    pods: Mapping[Key, Pod], previous: Snapshot, pools: Mapping[str, Pool], chosen: dict[Key, IP]
) -> None:
    """Chooses the addresses that Pods ask for or have had.

    Pods that had theirs before come first, so that it is the newcomer that is refused.
    """
    had = {key: before.status.pod_ip for key, before in previous.pods.items()}
    asked = {
        key: ip(text) for key, pod in pods.items() if (text := pod.metadata.annotations.get(POD_IP))
    }
    first = [key for key in pods if had.get(key) and asked.get(key, had[key]) == had[key]]
    for key in (*first, *asked):
        pod, pool = pods[key], pools[pods[key].spec.node_name]
        address = asked.get(key, had.get(key))
        if key in chosen or address is None:
            continue
        cidr = f"the podCIDR of Node {pod.spec.node_name},"
        refusal = pool.refusal(address, cidr)
        if not refusal and (holder := pool.holder(address)):
            refusal = f"{address} is already the address of {holder}"
        if not refusal:
            pool.hold(address, str(pod.ref))
            chosen[key] = address
        elif key in asked:
            span = f"{pool.first + 1} to {pool.last}"
            remedy = f"Pods of Node {pod.spec.node_name} can have {span}"
            raise ManifestError(refusal, object=str(pod.ref), field=_IP_FIELD, remedy=remedy)
    for key, pod in pods.items():
        address, pool = pod.status.pod_ip, pools[pod.spec.node_name]
        if key in chosen or address is None or pool.refusal(address, "") or pool.holder(address):
            continue
        pool.hold(address, str(pod.ref))
        chosen[key] = address


def _full(pod: Pod, pool: Pool) -> ManifestError:
    return ManifestError(
        f"there is no address left for it in {pool.network}",
        object=str(pod.ref),
        remedy=f"give Node {pod.spec.node_name} a larger spec.podCIDR",
    )


def _on(pod: Pod, node: str) -> Pod:
    if pod.spec.node_name == node:
        return pod
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=node))


def _with_ip(pod: Pod, address: IP) -> Pod:
    status = msgspec.structs.replace(pod.status, pod_ip=address, pod_ips=(PodIP(ip=address),))
    return msgspec.structs.replace(pod, status=status)
