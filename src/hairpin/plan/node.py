"""What a proxy must know of the node that it runs on."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

import msgspec

from hairpin.model.address import IP, Network
from hairpin.model.annotations import SERVICE_CIDR, networks
from hairpin.model.node import Node


class NodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One node, as planning sees it.

    ``addresses`` are where NodePorts answer, and what is never put on kube-ipvs0: those of all
    links but kube-ipvs0, both families, sorted, without loopback addresses (127.0.0.0/8, ::1)
    and IPv6 link-local ones.  IPv4 link-local addresses count.
    ``node_ips`` is the node's own address of each family that it has, the first family first.
    ``service_cidrs`` are the cluster's networks of ClusterIPs, as far as they are known.
    """

    name: str
    addresses: tuple[IP, ...] = ()
    node_ips: tuple[IP, ...] = ()
    zone: str | None = None
    pod_cidrs: tuple[Network, ...] = ()
    service_cidrs: tuple[Network, ...] = ()


def node_facts(
    name: str,
    node: Node | None,
    addresses: Iterable[IP],
    service_cidrs: Iterable[Network] = (),
) -> NodeFacts:
    """The facts of the node ``name``.

    ``addresses`` are those of every link but kube-ipvs0 in any order; what is no address of a
    node is left out here.  The node's own ones come from the Node's status (InternalIP before
    ExternalIP, one a family, as kube-proxy); a Node that says none has its first
    addresses, link-local ones last.  ``service_cidrs`` are the cluster's where the Node's
    annotation says none.
    """
    local = {ip for ip in addresses if _is_of_node(ip)}
    kept = tuple(sorted(local, key=lambda ip: (ip.version, int(ip))))
    said = _said(node) if node is not None else []
    return NodeFacts(
        name=name,
        addresses=kept,
        node_ips=_one_a_family(said or sorted(kept, key=lambda ip: ip.is_link_local)),
        zone=node.zone if node is not None else None,
        pod_cidrs=_pod_cidrs(node) if node is not None else (),
        service_cidrs=_service_cidrs(node) or tuple(service_cidrs),
    )


def _is_of_node(ip: IP) -> bool:
    return not (ip.is_loopback or (ip.version == 6 and ip.is_link_local))


def _said(node: Node) -> list[IP]:
    found: list[IP] = []
    for kind in ("InternalIP", "ExternalIP"):
        for one in node.status.addresses:
            if one.type == kind:
                try:
                    found.append(ip_address(one.address))
                except ValueError:
                    continue  # a Node may say anything there; the next one counts
    return found


def _one_a_family(ips: Iterable[IP]) -> tuple[IP, ...]:
    first: dict[int, IP] = {}
    for ip in ips:
        first.setdefault(ip.version, ip)
    return tuple(first.values())


def _pod_cidrs(node: Node) -> tuple[Network, ...]:
    spec = node.spec
    return spec.pod_cidrs or ((spec.pod_cidr,) if spec.pod_cidr is not None else ())


def _service_cidrs(node: Node | None) -> tuple[Network, ...]:
    text = node.metadata.annotations.get(SERVICE_CIDR) if node is not None else None
    return networks(text) if text is not None else ()
