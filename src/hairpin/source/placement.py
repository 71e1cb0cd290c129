"""Nodes and Pods as the API server, the scheduler and the network plugin leave them.

Pure and deterministic: every choice is the first possible one in the order of names, and what
was chosen before stays as long as it can.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from hairpin.model.address import IP, Network, ip
from hairpin.model.annotations import IMPLIED, POD_IP
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import Key, ObjectMeta
from hairpin.model.node import Node, NodeAddress
from hairpin.model.pod import Pod, PodIP
from hairpin.model.snapshot import Snapshot
from hairpin.source.pool import Pool
from hairpin.source.ranges import overlap, said_cidrs, service_cidrs
from hairpin.source.scheduling import scheduled_pods
from hairpin.source.settings import Settings

_IMPLIED_NAME = "node"
_IP_FIELD = f"metadata.annotations[{POD_IP}]"
_NODE_PREFIX = {4: 24, 6: 64}
"""The part of the Pod network that a node gets (kube-controller-manager --node-cidr-mask-size)."""


def bridge_address(node: Node) -> IP | None:
    """The node's own address on its Pod network: the first of its podCIDR."""
    return None if node.spec.pod_cidr is None else Pool(node.spec.pod_cidr).first


# Nodes


def placed_nodes(given: Snapshot, previous: Snapshot, settings: Settings) -> dict[Key, Node]:
    """The Nodes with their podCIDRs and addresses; where there is none, one that is implied.

    A Node gets a podCIDR of each family that it has none of; where it is not said which families
    the cluster has (``settings.families``), only one that has none at all.  Raises ManifestError
    for networks that overlap, are too small, or are used up.
    """
    nodes = {key: n for key, n in given.nodes.items() if IMPLIED not in n.metadata.annotations}
    if not nodes:
        implied = (*given.nodes.values(), *previous.nodes.values(), _implied_node())
        node = next(n for n in implied if IMPLIED in n.metadata.annotations)
        nodes = {node.key: node}
    settled = {key for key, n in nodes.items() if settings.foreign and n.metadata.stored}
    services = service_cidrs(nodes.values(), settings)
    cidrs = _pod_cidrs(nodes, settled, previous, settings, services)
    for key in nodes.keys() - settled:
        node = nodes[key]
        spec = msgspec.structs.replace(node.spec, pod_cidr=cidrs[key][0], pod_cidrs=cidrs[key])
        nodes[key] = msgspec.structs.replace(node, spec=spec)
    nodes = _with_addresses(nodes, previous, settings)
    own = [node for key, node in nodes.items() if key not in settled]
    # Whether a foreign cluster's networks are in each other's way is not known here.
    _check_networks(own, () if settings.foreign else services, settings.uplinks)
    return nodes


def _implied_node() -> Node:
    return Node(metadata=ObjectMeta(name=_IMPLIED_NAME, annotations={IMPLIED: "true"}))


def _pod_cidrs(
    nodes: Mapping[Key, Node],
    settled: Collection[Key],
    previous: Snapshot,
    settings: Settings,
    services: tuple[Network, ...],
) -> dict[Key, tuple[Network, ...]]:
    found: dict[Key, tuple[Network, ...]] = {}
    for key, node in nodes.items():
        before = previous.nodes.get(key)
        had = said_cidrs(before) if before else ()
        found[key] = said_cidrs(node) or had
        if settings.families is not None:
            missing = settings.families
            found[key] += tuple(
                cidr
                for cidr in had
                if cidr.version in missing and cidr.version not in _versions(found[key])
            )
    for key, node in nodes.items():
        if key in settled or (found[key] and settings.families is None):
            continue
        for whole in settings.pod_cidrs:
            if whole.version not in _versions(found[key]):
                taken = [*services, *(cidr for some in found.values() for cidr in some)]
                found[key] = (*found[key], _free_part(whole, taken, node))
    return found


def _versions(cidrs: Iterable[Network]) -> set[int]:
    return {cidr.version for cidr in cidrs}


def _with_addresses(
    nodes: Mapping[Key, Node], previous: Snapshot, settings: Settings
) -> dict[Key, Node]:
    """The Nodes with an address of each of their families on the uplinks.

    It is the one that the Node says or had, else the lowest free one.  The first address of each
    network is the outside's.  Raises ManifestError where none is left.
    """
    found: dict[Key, list[IP]] = {key: [] for key in nodes}
    for whole in settings.uplinks:
        pool = Pool(whole)
        pool.hold(pool.first, "the outside")
        some = [key for key, n in nodes.items() if whole.version in _versions(n.spec.pod_cidrs)]
        for key in some:
            for one in (nodes[key], previous.nodes.get(key)):
                had = _of(whole.version, _host_addresses(one)) if one else None
                if had and not pool.refusal(had, "") and pool.holder(had) is None:
                    pool.hold(had, key[1])
                    found[key].append(had)
                    break
        for key in some:
            if _of(whole.version, found[key]) is None:
                address = pool.take(key[1])
                if address is None:
                    message = f"there is no address left for it in {whole}, the nodes' uplinks"
                    raise ManifestError(message, object=str(nodes[key].ref), remedy="take fewer")
                found[key].append(address)
    return {
        key: _with_status(node, found[key]) if found[key] else node for key, node in nodes.items()
    }


def _with_status(node: Node, addresses: Sequence[IP]) -> Node:
    """What a kubelet says: the addresses in the order of the podCIDRs, and the name."""
    order = [cidr.version for cidr in node.spec.pod_cidrs]
    internal = sorted(addresses, key=lambda address: order.index(address.version))
    said = (
        *(NodeAddress(type="InternalIP", address=str(address)) for address in internal),
        NodeAddress(type="Hostname", address=node.metadata.name),
    )
    if node.status.addresses == said:
        return node
    status = msgspec.structs.replace(node.status, addresses=said)
    return msgspec.structs.replace(node, status=status)


def _free_part(whole: Network, taken: list[Network], node: Node) -> Network:
    """The first part of the Pod network that is free.  Raises ManifestError."""
    prefix = max(_NODE_PREFIX[whole.version], whole.prefixlen)
    for part in whole.subnets(new_prefix=prefix):
        if not any(overlap(part, other) for other in taken):
            return part
    message = f"the Pod network {whole} has no part left"
    remedy = "give the Node a spec.podCIDR of its own"
    raise ManifestError(message, object=str(node.ref), field="spec.podCIDR", remedy=remedy)


def _check_networks(
    nodes: Iterable[Node], services: tuple[Network, ...], uplinks: tuple[Network, ...]
) -> None:
    known: list[tuple[Network, str]] = [(cidr, "the service CIDR") for cidr in services]
    known += [(cidr, "the network of the nodes' uplinks,") for cidr in uplinks]
    for node, cidr in [(one, cidr) for one in nodes for cidr in one.spec.pod_cidrs]:
        if cidr.max_prefixlen - cidr.prefixlen < 2:
            raise ManifestError(
                f"{cidr} has no room for the node's own address and a Pod",
                object=str(node.ref),
                field="spec.podCIDR",
                remedy="take a /30 or larger",
            )
        for other, name in known:
            if overlap(cidr, other):
                raise ManifestError(
                    f"{cidr} overlaps with {name} {other}",
                    object=str(node.ref),
                    field="spec.podCIDR",
                    remedy="choose networks that have no address in common",
                )
        known.append((cidr, f"the podCIDR of {node.ref},"))


# Pods


def placed_pods(
    pods: Mapping[Key, Pod],
    nodes: Mapping[Key, Node],
    given: Snapshot,
    previous: Snapshot,
    *,
    foreign: bool = False,
) -> dict[Key, Pod]:
    """The Pods with a node each, and an address of each family that their node has.

    A Pod that no Node takes has neither, and says why (``scheduling``).
    An address comes from the annotation, else it is the one the Pod had, else the lowest free
    one of its node.  ``foreign``: what another cluster's API server has had stays as it is.
    Raises ManifestError for a Node that does not exist, an address that the Pod cannot have, and a
    network that is full or missing.
    """
    settled = {key: pod for key, pod in pods.items() if foreign and pod.metadata.stored}
    others = {key: pod for key, pod in pods.items() if key not in settled}
    known = {node.metadata.name for node in (*given.nodes.values(), *previous.nodes.values())}
    scheduled = scheduled_pods(others, nodes, previous, known)
    pending = {key: _with_ips(pod, ()) for key, pod in scheduled.items() if not pod.spec.node_name}
    placed = {key: pod for key, pod in scheduled.items() if key not in pending}
    hosted = {key: pod for key, pod in placed.items() if pod.spec.host_network}
    networked = {key: pod for key, pod in placed.items() if key not in hosted}
    pools = {node.metadata.name: _node_pools(node) for node in nodes.values()}
    for pod in settled.values():
        for address in _addresses(pod):
            if pool := pools.get(pod.spec.node_name, {}).get(address.version):
                pool.hold(address, str(pod.ref))
    chosen: dict[Key, list[IP]] = {key: [] for key in networked}
    for version in (4, 6):
        of_family = {name: some[version] for name, some in pools.items() if version in some}
        for key, address in _chosen(networked, previous, of_family, pools, version).items():
            chosen[key].append(address)
    for key, pod in networked.items():
        order = list(pools[pod.spec.node_name])
        if not order:
            raise ManifestError(
                "has no address, and its Node no podCIDR to take one from",
                object=str(pod.ref),
                remedy=f"give Node {pod.spec.node_name} a spec.podCIDR",
            )
        chosen[key].sort(key=lambda address: order.index(address.version))
    by_name = {node.metadata.name: node for node in nodes.values()}
    found = {
        **settled,
        **pending,
        **{key: _with_ips(pod, chosen[key]) for key, pod in networked.items()},
        **{k: _with_ips(p, _host_addresses(by_name[p.spec.node_name])) for k, p in hosted.items()},
    }
    return {key: found[key] for key in pods}


def _node_pools(node: Node) -> dict[int, Pool]:
    """By version, in the order of the Node's podCIDRs."""
    pools: dict[int, Pool] = {cidr.version: Pool(cidr) for cidr in said_cidrs(node)}
    for pool in pools.values():
        pool.hold(pool.first, f"{node.ref} itself")
    return pools


def _host_addresses(node: Node) -> list[IP]:
    """The node's own: the first internal one of each family."""
    found: dict[int, IP] = {}
    for one in node.status.addresses:
        if one.type == "InternalIP":
            address = ip(one.address)
            found.setdefault(address.version, address)
    return list(found.values())


def _addresses(pod: Pod | None) -> tuple[IP, ...]:
    if pod is None:
        return ()
    ips = tuple(one.ip for one in pod.status.pod_ips)
    first = pod.status.pod_ip
    return ips if first is None or first in ips else (first, *ips)


def _of(version: int, addresses: Iterable[IP]) -> IP | None:
    return next((address for address in addresses if address.version == version), None)


def _chosen(
    pods: Mapping[Key, Pod],
    previous: Snapshot,
    pools: Mapping[str, Pool],
    every: Mapping[str, Mapping[int, Pool]],
    version: int,
) -> dict[Key, IP]:
    """The addresses of one family, of those Pods whose nodes have it."""
    some = {key: pod for key, pod in pods.items() if pod.spec.node_name in pools}
    asked = {}
    for key, pod in some.items():
        if text := pod.metadata.annotations.get(POD_IP):
            address, own = ip(text), every[pod.spec.node_name]
            # One of a family that the node has not is refused where its first address is chosen.
            if address.version == version or (
                address.version not in own and version == next(iter(own))
            ):
                asked[key] = address
    chosen: dict[Key, IP] = {}
    _keep(some, previous, pools, asked, version, chosen)
    for key, pod in some.items():
        if key not in chosen:
            pool = pools[pod.spec.node_name]
            free = pool.take(str(pod.ref))
            if free is None:
                raise _full(pod, pool)
            chosen[key] = free
    return chosen


def _keep(
    pods: Mapping[Key, Pod],
    previous: Snapshot,
    pools: Mapping[str, Pool],
    asked: Mapping[Key, IP],
    version: int,
    chosen: dict[Key, IP],
) -> None:
    """Chooses the addresses that Pods ask for or have had.

    Pods that had theirs before come first, so that it is the newcomer that is refused.
    """
    had = {key: _of(version, _addresses(previous.pods.get(key))) for key in pods}
    first = [key for key in pods if had[key] and asked.get(key, had[key]) == had[key]]
    for key in (*first, *asked):
        pod, pool = pods[key], pools[pods[key].spec.node_name]
        address = asked.get(key, had[key])
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
        address, pool = _of(version, _addresses(pod)), pools[pod.spec.node_name]
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


def _with_ips(pod: Pod, addresses: Sequence[IP]) -> Pod:
    status = msgspec.structs.replace(
        pod.status,
        pod_ip=addresses[0] if addresses else None,
        pod_ips=tuple(PodIP(ip=address) for address in addresses),
    )
    return msgspec.structs.replace(pod, status=status)
