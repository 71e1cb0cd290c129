"""Services and EndpointSlices for tests, with as little said as possible."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from hairpin.model.address import IP
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.endpointslice import (
    SERVICE_NAME,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    ForNode,
    ForZone,
    SliceEndpoint,
)
from hairpin.model.metadata import ObjectMeta
from hairpin.model.service import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from hairpin.plan.ipvs import Planner
from hairpin.plan.node import NodeFacts
from hairpin.plan.service_plan import ServicePlan
from hairpin.state.ipset import SetEntry
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address

NODE = NodeFacts(
    name="node1",
    addresses=(ip_address("192.0.2.1"), ip_address("fd31::1")),
    node_ips=(ip_address("192.0.2.1"), ip_address("fd31::1")),
    zone="z1",
    pod_cidrs=(ip_network("10.244.0.0/24"), ip_network("fd00:244::/64")),
)


def service(
    *ports: ServicePort,
    name: str = "web",
    namespace: str = "default",
    ips: Iterable[str] = ("10.96.0.1",),
    ingress: Iterable[str | LoadBalancerIngress] = (),
    external: Iterable[str] = (),
    ranges: Iterable[str] = (),
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> Service:
    """One with port 80 if none is given.  ``ips`` are its ClusterIPs."""
    cluster_ips: tuple[Any, ...] = tuple(ip if ip == "None" else ip_address(ip) for ip in ips)
    given = [one if isinstance(one, LoadBalancerIngress) else at(one) for one in ingress]
    return Service(
        metadata=ObjectMeta(name=name, namespace=namespace, labels=labels or {}),
        spec=ServiceSpec(
            ports=ports or (ServicePort(port=80),),
            cluster_ip=cluster_ips[0] if cluster_ips else None,
            cluster_ips=cluster_ips,
            ip_families=tuple(
                spec.pop("families", None)
                or ("IPv6" if getattr(ip, "version", 4) == 6 else "IPv4" for ip in cluster_ips)
            ),
            external_ips=tuple(map(ip_address, external)),
            load_balancer_source_ranges=tuple(map(ip_network, ranges)),
            **spec,
        ),
        status=ServiceStatus(load_balancer=LoadBalancerStatus(ingress=tuple(given))),
    )


def at(ip: str, **rest: Any) -> LoadBalancerIngress:
    return LoadBalancerIngress(ip=ip_address(ip), **rest)


def endpoint(
    ip: str,
    node: str | None = "node2",
    *,
    zones: Iterable[str] = (),
    nodes: Iterable[str] = (),
    **conditions: bool | None,
) -> SliceEndpoint:
    """Ready where nothing is said."""
    return SliceEndpoint(
        addresses=(ip_address(ip),),
        conditions=EndpointConditions(**conditions),
        node_name=node,
        hints=EndpointHints(
            for_zones=tuple(ForZone(name=one) for one in zones),
            for_nodes=tuple(ForNode(name=one) for one in nodes),
        ),
    )


TERMINATING: dict[str, Any] = {"ready": False, "serving": True, "terminating": True}
GONE: dict[str, Any] = {"ready": False, "serving": False, "terminating": True}


def slice_of(
    *endpoints: SliceEndpoint,
    ports: Iterable[EndpointPort] = (EndpointPort(port=8080),),
    name: str = "web-1",
    of: str = "web",
    labels: dict[str, str] | None = None,
    address_type: Any = None,
) -> EndpointSlice:
    versions = [ip.version for each in endpoints for ip in each.addresses]
    return EndpointSlice(
        metadata=ObjectMeta(
            name=name, namespace="default", labels={SERVICE_NAME: of, **(labels or {})}
        ),
        address_type=address_type or ("IPv6" if 6 in versions else "IPv4"),
        endpoints=endpoints,
        ports=tuple(ports),
    )


def planned(
    one: Service,
    *slices: EndpointSlice,
    config: KubeProxyConfiguration | None = None,
    node: NodeFacts = NODE,
) -> ServicePlan:
    return Planner(config or KubeProxyConfiguration(mode="ipvs"), node, "").service(one, slices)


def servers(plan: ServicePlan) -> dict[str, list[str]]:
    """``TCP 10.96.0.1:80`` → its real servers."""
    found: dict[str, list[str]] = {}
    for each in plan.wanted:
        match each.object:
            case VirtualServer() as one:
                found[f"{one.protocol} {_at(one.ip, one.port)}"] = []
            case RealServer() as one:
                found[f"{one.protocol} {_at(one.vip, one.vport)}"].append(_at(one.ip, one.port))
    return found


def entries(plan: ServicePlan, name: str) -> list[str]:
    """The entries of one set, as ipset prints them."""
    objects = (each.object for each in plan.wanted)
    return [str(one) for one in objects if isinstance(one, SetEntry) and one.set == name]


def addresses(plan: ServicePlan) -> list[str]:
    """Those of kube-ipvs0."""
    return [str(each.object.ip) for each in plan.wanted if isinstance(each.object, Address)]


def _at(ip: IP, port: int) -> str:
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"
