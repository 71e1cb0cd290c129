"""Services and EndpointSlices to the virtual and real servers of IPVS mode.

So far ClusterIP, TCP and UDP, IPv4: the kube-proxy behaviours beyond that come with the complete
planner.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from hairpin.model.address import IP
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.metadata import Key
from hairpin.model.service import Service, ServicePort
from hairpin.state.change import Wanted
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """One address and port behind a ServicePort."""

    ip: IP
    port: int


def virtual_ips(services: Iterable[Service]) -> list[tuple[Service, IP]]:
    """Each ClusterIP with the Service that it belongs to, in the Services' order."""
    return [(service, ip) for service in services for ip in service.virtual_ips]


def vip_addresses(services: Iterable[Service], netns: str, link: str) -> Iterator[Wanted]:
    """The ClusterIPs as addresses of a local link.

    IPVS looks at packets in LOCAL_IN only (net/netfilter/ipvs/ip_vs_core.c), and only what is
    addressed to this node comes by there.
    """
    for service, ip in virtual_ips(services):
        yield Wanted(
            netns=netns,
            object=Address(link=link, ip=ip, prefix=ip.max_prefixlen),
            owner=f"service {service.metadata.namespace}/{service.metadata.name}",
            why="a ClusterIP must be local for IPVS to see its packets",
        )


def servers(
    services: Iterable[Service], slices: Iterable[EndpointSlice], netns: str, scheduler: str = "rr"
) -> Iterator[Wanted]:
    """A virtual server for each port of each ClusterIP, a real server for each ready endpoint."""
    by_service: dict[Key, list[EndpointSlice]] = {}
    for one in slices:
        if one.service_key:
            by_service.setdefault(one.service_key, []).append(one)
    for service, ip in virtual_ips(services):
        own = by_service.get(service.key, [])
        for port in service.spec.ports:
            yield from _port(service, ip, port, own, netns, scheduler)


def _port(
    service: Service,
    ip: IP,
    port: ServicePort,
    slices: list[EndpointSlice],
    netns: str,
    scheduler: str,
) -> Iterator[Wanted]:
    owner = f"service {service.port_name(port)}"
    server = VirtualServer(protocol=port.protocol, ip=ip, port=port.port, scheduler=scheduler)
    yield Wanted(netns=netns, object=server, owner=owner, why="its ClusterIP and port")
    for endpoint in endpoints(slices, port, ip.version):
        real = RealServer(
            protocol=port.protocol,
            vip=ip,
            vport=port.port,
            ip=endpoint.ip,
            port=endpoint.port,
        )
        yield Wanted(netns=netns, object=real, owner=owner, why="a ready endpoint")


def endpoints(slices: Iterable[EndpointSlice], port: ServicePort, version: int) -> list[Endpoint]:
    """The ready endpoints of one port: merged over slices, each once, in order."""
    found: set[Endpoint] = set()
    for one in slices:
        if one.address_type != f"IPv{version}":
            continue
        numbers = [
            each.port
            for each in one.ports
            if each.name == port.name and each.protocol == port.protocol and each.port
        ]
        for endpoint in one.endpoints:
            if endpoint.conditions.ready is not False and endpoint.addresses:
                found.update(Endpoint(endpoint.addresses[0], number) for number in numbers)
    return sorted(found)
