"""The networks of the whole cluster: what a Node's annotation says, or the settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from hairpin.model.address import Network, network
from hairpin.model.annotations import LOAD_BALANCER_CIDR, SERVICE_CIDR, networks
from hairpin.model.errors import ManifestError
from hairpin.model.node import Node
from hairpin.model.service import Service
from hairpin.model.snapshot import Snapshot
from hairpin.source.settings import Settings

_SPARE = (network("198.51.100.0/24"), network("203.0.113.0/24"))  # TEST-NET-2 and 3, RFC 5737


def fitted(settings: Settings, given: Snapshot, previous: Snapshot) -> Settings:
    """The settings with one network of each family that the cluster has, its first one first.

    The families are those of the annotation; where no Node has it, those of the Nodes' podCIDRs
    (now and before), else those that clusters begin with, and what Services cannot do without.
    Raises ManifestError where two Nodes disagree.
    """
    if settings.families is None:
        return settings
    nodes = given.nodes or previous.nodes
    said = _said(nodes.values(), SERVICE_CIDR)
    if said is not None:
        versions: list[int] = [cidr.version for cidr in said[0]]
    else:
        both = (*nodes.values(), *(n for key, n in previous.nodes.items() if key in nodes))
        versions = [cidr.version for node in both for cidr in said_cidrs(node)]
        versions = versions or list(settings.families)
        versions += _asked(given.services.values())
    order = dict.fromkeys(versions)

    def chosen(cidrs: tuple[Network, ...]) -> tuple[Network, ...]:
        return tuple(cidr for version in order for cidr in cidrs if cidr.version == version)

    return msgspec.structs.replace(
        settings,
        families=tuple(order),
        service_cidrs=chosen(settings.service_cidrs),
        pod_cidrs=chosen(settings.pod_cidrs),
        load_balancer_cidrs=chosen(settings.load_balancer_cidrs),
    )


def said_cidrs(node: Node) -> tuple[Network, ...]:
    """The networks of the Node's Pods, as far as they are chosen."""
    first = node.spec.pod_cidr or (node.spec.pod_cidrs[0] if node.spec.pod_cidrs else None)
    return () if first is None else (first, *node.spec.pod_cidrs[1:])


def _asked(services: Iterable[Service]) -> Iterator[int]:
    """The IP versions that Services cannot do without."""
    for service in services:
        spec = service.spec
        if service.headless and not spec.selector:  # whatever families it names: it has no address
            continue
        yield from (int(name[-1]) for name in spec.ip_families)
        ips = (spec.cluster_ip, *spec.cluster_ips)
        yield from (one.version for one in ips if one is not None and not isinstance(one, str))
        if spec.ip_family_policy == "RequireDualStack":
            yield from (4, 6)


def service_cidrs(nodes: Iterable[Node], settings: Settings) -> tuple[Network, ...]:
    """The networks of ClusterIPs, the one of the cluster's first family first.

    Raises ManifestError where two Nodes disagree.
    """
    said = _said(nodes, SERVICE_CIDR)
    return settings.service_cidrs if said is None else said[0]


def says_service_cidr(nodes: Iterable[Node]) -> bool:
    """Whether a Node does, so that it is known what lies outside."""
    return any(SERVICE_CIDR in node.metadata.annotations for node in nodes)


def load_balancer_cidrs(
    nodes: Iterable[Node], settings: Settings, taken: Iterable[Network]
) -> tuple[Network, ...]:
    """The networks of load balancers' addresses, clear of those that are ``taken``.

    Raises ManifestError where two Nodes disagree, or a network that one says is in the way.
    """
    others = tuple(taken)
    said = _said(nodes, LOAD_BALANCER_CIDR)
    if said is None:
        wished = (*settings.load_balancer_cidrs, *_SPARE)
        free = [cidr for cidr in wished if not any(overlap(cidr, other) for other in others)]
        first: dict[int, Network] = {cidr.version: cidr for cidr in reversed(free)}
        return tuple(first[version] for version in sorted(first))
    cidrs, node = said
    for cidr in cidrs:
        for other in others:
            if overlap(cidr, other):
                raise ManifestError(
                    f"{cidr} overlaps with {other}",
                    object=str(node.ref),
                    field=f"metadata.annotations[{LOAD_BALANCER_CIDR}]",
                    remedy="choose networks that have no address in common",
                )
    return cidrs


def overlap(one: Network, other: Network) -> bool:
    """Whether they have an address in common."""
    return one.version == other.version and one.overlaps(other)


def _said(nodes: Iterable[Node], name: str) -> tuple[tuple[Network, ...], Node] | None:
    said: Node | None = None
    for node in nodes:
        text = node.metadata.annotations.get(name)
        if text is None:
            continue
        if said and said.metadata.annotations[name] != text:
            raise ManifestError(
                f"{said.ref} says {said.metadata.annotations[name]}",
                object=str(node.ref),
                field=f"metadata.annotations[{name}]",
                remedy="it is the whole cluster's: say it on one Node",
            )
        said = node
    return (networks(said.metadata.annotations[name]), said) if said else None
