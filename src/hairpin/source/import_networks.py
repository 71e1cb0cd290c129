"""The networks in which what was imported of a cluster can keep its addresses.

Each Node gets one of each family that covers its podCIDR and its Pods' addresses, as far as no two
networks meet: clusters whose Pods' addresses do not follow the nodes cannot keep them all.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network

import msgspec

from hairpin.model.address import IP, Network, network
from hairpin.model.annotations import SERVICE_CIDR, networks
from hairpin.model.node import Node
from hairpin.model.pod import Pod
from hairpin.model.service import Service
from hairpin.source.ranges import overlap, said_cidrs
from hairpin.source.settings import LAB

_SPARE = (
    network("10.244.0.0/16"),
    network("10.128.0.0/16"),
    network("172.29.0.0/16"),
    *(cidr for cidr in LAB.pod_cidrs if cidr.version == 6),
)
"""Pod networks for when the cluster's own cannot be had."""
_LONGEST = {4: 24, 6: 64}  # prefix lengths of a Node's Pod network
_SHORTEST = {4: 8, 6: 48}
_SERVICES = {4: 16, 6: 112}  # the longest prefix of the service CIDR
_BESIDE = 4  # the node itself, the DNS, and the two addresses that nobody can have


def with_service_cidrs(node: Node, services: Sequence[Service], families: Sequence[int]) -> Node:
    """The Node with an annotation that says the service CIDRs, if there are Services at all."""
    ips = [ip for service in services for ip in service.virtual_ips]
    if SERVICE_CIDR in node.metadata.annotations or not ips:
        return node
    said = []
    for version in families:
        own = [ip for ip in ips if ip.version == version]
        cover = _cover(own, _SERVICES[version])
        usual = next(cidr for cidr in LAB.service_cidrs if cidr.version == version)
        fits = cover is not None and cover.prefixlen >= _SHORTEST[version]
        said.append(str(cover if fits else usual))
    annotations = {**node.metadata.annotations, SERVICE_CIDR: ",".join(said)}
    metadata = msgspec.structs.replace(node.metadata, annotations=annotations)
    return msgspec.structs.replace(node, metadata=metadata)


def families_of(
    nodes: Iterable[Node], services: Iterable[Service], pods: Iterable[Pod]
) -> tuple[int, ...]:
    """The IP versions that the cluster has, its first one first."""
    found: dict[int, None] = {}
    for service in services:
        if service.spec.type == "ExternalName" or (
            service.headless and not service.spec.selector
        ):  # it has no addresses, whatever families it names
            continue
        found.update(dict.fromkeys(ip.version for ip in service.virtual_ips))
        found.update(dict.fromkeys(int(name[-1]) for name in service.spec.ip_families))
    for pod in pods:
        found.update(dict.fromkeys(one.ip.version for one in pod.status.pod_ips))
    for node in nodes:
        found.update(dict.fromkeys(cidr.version for cidr in said_cidrs(node)))
    return tuple(found) or (4,)


def with_pod_cidrs(
    nodes: Sequence[Node], pods: Iterable[Pod], families: Sequence[int]
) -> Iterator[Node]:
    """The Nodes with a Pod network of each family, clear of all others."""
    taken: list[Network] = list(LAB.uplinks)
    for node in nodes:
        if text := node.metadata.annotations.get(SERVICE_CIDR):
            taken += networks(text)
    on: dict[str, list[Pod]] = {}
    for pod in pods:
        on.setdefault(pod.spec.node_name, []).append(pod)
    for index, node in enumerate(nodes):
        own = on.get(node.metadata.name, [])
        later = [cidr for other in nodes[index + 1 :] for cidr in said_cidrs(other)]
        chosen = []
        for version in families:
            cidr = _chosen(node, own, version, [*taken, *later])
            if cidr is not None:  # else admission will say which networks are in the way
                chosen.append(cidr)
                taken.append(cidr)
        spec = msgspec.structs.replace(
            node.spec, pod_cidr=chosen[0] if chosen else None, pod_cidrs=tuple(chosen)
        )
        yield msgspec.structs.replace(node, spec=spec)


def addresses_kept(pods: Iterable[Pod], nodes: Mapping[str, Node]) -> Iterator[tuple[Pod, bool]]:
    """Each Pod with the addresses that it can keep, and whether it can keep them all."""
    taken: set[IP] = set()
    for pod in pods:
        node = nodes.get(pod.spec.node_name)
        cidrs = said_cidrs(node) if node else ()
        own = {cidr[1] for cidr in cidrs}
        kept = tuple(
            one
            for one in pod.status.pod_ips
            if one.ip not in taken | own and any(_has(cidr, one.ip) for cidr in cidrs)
        )
        taken.update(one.ip for one in kept)
        status = msgspec.structs.replace(
            pod.status, pod_ip=kept[0].ip if kept else None, pod_ips=kept
        )
        yield msgspec.structs.replace(pod, status=status), kept == pod.status.pod_ips


def _chosen(node: Node, pods: list[Pod], version: int, taken: list[Network]) -> Network | None:
    had = [one.ip for pod in pods for one in pod.status.pod_ips if one.ip.version == version]
    said = next((cidr for cidr in said_cidrs(node) if cidr.version == version), None)
    room = len(pods) + _BESIDE
    longest = _LONGEST[version]
    both = [*had, said[0], said[-1]] if said else had
    wished = [_cover(both, longest), said, _cover(had, longest)]
    spare = (
        part
        for whole in _SPARE
        if whole.version == version
        for part in whole.subnets(
            new_prefix=min(longest, 32 - room.bit_length() + (version == 6) * 96)
        )
    )
    for one in (*wished, *spare):
        if (
            one is not None
            and one.prefixlen >= _SHORTEST[version]
            and one.num_addresses >= room
            and not any(overlap(one, other) for other in taken)
        ):
            return one
    return None


def _has(cidr: Network, ip: IP) -> bool:
    """Whether somebody can have that address there."""
    if ip.version != cidr.version or ip not in cidr or ip == cidr.network_address:
        return False
    return ip.version == 6 or ip != cidr.broadcast_address


def _cover(ips: Sequence[IP], longest: int) -> Network | None:
    """The smallest network with all of ``ips``, which share a family, of at most that prefix."""
    if not ips:
        return None
    numbers = [int(ip) for ip in ips]
    differing = (min(numbers) ^ max(numbers)).bit_length()
    if ips[0].version == 4:
        return IPv4Network((min(numbers), min(longest, 32 - differing)), strict=False)
    return IPv6Network((min(numbers), min(longest, 128 - differing)), strict=False)
