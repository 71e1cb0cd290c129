"""A small cluster to tell a Proxy about: Services and EndpointSlices as values, said shortly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from hairpin.model.address import ip, network
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.endpointslice import (
    SERVICE_NAME,
    EndpointConditions,
    EndpointPort,
    EndpointSlice,
    SliceEndpoint,
)
from hairpin.model.metadata import Key, ObjectMeta, Protocol
from hairpin.model.service import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServicePort,
    ServiceSpec,
    ServiceStatus,
)
from hairpin.model.snapshot import Snapshot

CONFIG = KubeProxyConfiguration(mode="ipvs", cluster_cidr="10.244.0.0/16,fd00:244::/64")
NODE = "node1"

READY = EndpointConditions(ready=True, serving=True, terminating=False)
NOT_READY = EndpointConditions(ready=False, serving=False, terminating=False)
ENDING = EndpointConditions(ready=False, serving=True, terminating=True)

PortSpec = tuple[str, Protocol, int, int]
"""Name, protocol, port, node port (0 for none)."""


def service(
    name: str,
    ips: Sequence[str] = ("10.96.0.1",),
    ports: Sequence[PortSpec] = (("http", "TCP", 80, 0),),
    *,
    external: Sequence[str] = (),
    balancer: Sequence[str] = (),
    ranges: Sequence[str] = (),
    external_local: bool = False,
    internal_local: bool = False,
    affinity: bool = False,
    health: int | None = None,
) -> Service:
    """One as the API server would keep it."""
    node_port = any(port[3] for port in ports)
    return Service(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=ServiceSpec(
            type="LoadBalancer" if balancer else "NodePort" if node_port else "ClusterIP",
            cluster_ip=ip(ips[0]),
            cluster_ips=tuple(map(ip, ips)),
            ip_families=tuple("IPv6" if ":" in one else "IPv4" for one in ips),
            ports=tuple(
                ServicePort(name=label, protocol=protocol, port=port, node_port=node or None)
                for label, protocol, port, node in ports
            ),
            external_ips=tuple(map(ip, external)),
            external_traffic_policy="Local" if external_local else "Cluster",
            internal_traffic_policy="Local" if internal_local else "Cluster",
            session_affinity="ClientIP" if affinity else "None",
            load_balancer_source_ranges=tuple(map(network, ranges)),
            health_check_node_port=health,
        ),
        status=ServiceStatus(
            load_balancer=LoadBalancerStatus(
                ingress=tuple(LoadBalancerIngress(ip=ip(one)) for one in balancer)
            )
        ),
    )


def endpoint_slice(
    of: str,
    ips: Iterable[str],
    ports: Sequence[tuple[str, Protocol, int]] = (("http", "TCP", 8080),),
    *,
    name: str = "",
    node: str = NODE,
    conditions: EndpointConditions = READY,
) -> EndpointSlice:
    """A slice of the Service ``of`` with these addresses."""
    found = list(ips)
    return EndpointSlice(
        metadata=ObjectMeta(name=name or f"{of}-1", namespace="default", labels={SERVICE_NAME: of}),
        address_type="IPv6" if any(":" in one for one in found) else "IPv4",
        endpoints=tuple(
            SliceEndpoint(addresses=(ip(one),), conditions=conditions, node_name=node)
            for one in found
        ),
        ports=tuple(EndpointPort(name=label, protocol=p, port=port) for label, p, port in ports),
    )


def snapshot(*objects: Service | EndpointSlice) -> Snapshot:
    return Snapshot(objects)


def key(one: Service | EndpointSlice) -> Key:
    return one.metadata.namespace, one.metadata.name


def configured(**ipvs: object) -> KubeProxyConfiguration:
    """CONFIG with other values in its ``ipvs`` part."""
    return msgspec.structs.replace(CONFIG, ipvs=msgspec.structs.replace(CONFIG.ipvs, **ipvs))
