"""Services as the API server leaves them: defaults, families, cluster IPs, node ports.

Sources: k8s.io/kubernetes pkg/apis/core/v1/defaults.go, pkg/registry/core/service.
Pure and deterministic; an address or port once allocated stays with its Service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from hairpin.model.address import IP, ClusterIP, Network
from hairpin.model.annotations import SERVICE_CIDR
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import Key
from hairpin.model.service import ClientIPConfig, Service, ServiceSpec, SessionAffinityConfig
from hairpin.model.snapshot import Snapshot
from hairpin.source.families import with_families
from hairpin.source.node_ports import with_node_ports
from hairpin.source.pool import Pool
from hairpin.source.settings import Settings

_Place = tuple[Key, int]
"""A Service and the index of a cluster IP in it."""


def admitted_services(
    given: Snapshot,
    previous: Snapshot,
    cidrs: tuple[Network, ...],
    settings: Settings,
    implied: Service | None = None,
    *,
    closed: bool = True,
) -> dict[Key, Service]:
    """The Services with their defaults, and with the cluster IPs and node ports that they want.

    An IP is the one asked for, else the one the Service had, else the lowest free one.  The first
    of the network is left for Services that ask for it: in a cluster it is the API server's.
    Raises ManifestError for an IP outside of the network (only if ``closed``) or held by another
    Service, for a network that is full, and so for node ports.  ``implied`` comes last, and is left
    out where no address is left.
    """
    services: dict[Key, Service] = {}
    everyone = [*given.services.values(), *(() if implied is None else (implied,))]
    for service in everyone:
        if settings.foreign and service.metadata.stored:
            services[service.key] = _read(service)
            continue
        before = previous.services.get(service.key)
        full = _defaulted(service)
        if full.spec.type != "ExternalName":
            full = with_families(full, before, cidrs, foreign=settings.foreign)
        services[service.key] = full
    services = _with_cluster_ips(services, previous, cidrs, settings, implied, closed)
    return with_node_ports(services, previous, settings)


def _with_cluster_ips(
    services: dict[Key, Service],
    previous: Snapshot,
    cidrs: tuple[Network, ...],
    settings: Settings,
    implied: Service | None,
    closed: bool,
) -> dict[Key, Service]:
    pools: dict[int, Pool] = {pool.network.version: pool for pool in map(Pool, cidrs)}
    last = None if implied is None else implied.key
    chosen: dict[_Place, IP] = {}
    wanting: dict[_Place, Service] = {}
    asked: dict[_Place, IP] = {}
    had: dict[_Place, IP] = {}
    for key, service in services.items():
        if service.spec.type == "ExternalName" or service.headless:
            continue
        if settings.foreign and service.metadata.stored:
            _hold_all(pools, service)
            continue
        old = previous.services.get(key) if key != last else None
        before: dict[int, IP] = {ip.version: ip for ip in old.virtual_ips} if old else {}
        for index, name in enumerate(service.spec.ip_families):
            wanting[key, index] = service
            if index < len(service.virtual_ips):
                asked[key, index] = service.virtual_ips[index]
            if ip := before.get(int(name[-1])):
                had[key, index] = ip
    # Who had an address before comes first: it is the newcomer that is refused.
    first = [place for place in wanting if place in had and asked.get(place) in (None, had[place])]
    for place in (*first, *asked):
        if place not in chosen:
            ip = asked.get(place, had.get(place))
            assert ip is not None
            chosen[place] = _held(pools, wanting[place], ip, closed)
    for pool in pools.values():
        if pool.holder(pool.first) is None:
            pool.hold(pool.first, "the API server")
    for place, service in wanting.items():
        if place not in chosen and place[0] != last:
            chosen[place] = _allocated(pools, service, place[1])
    if last is not None and (last, 0) in wanting and (last, 0) not in chosen:
        taken = pools[cidrs[0].version].take(str(wanting[last, 0].ref))
        if taken is None:
            del services[last]
        else:
            chosen[last, 0] = taken
    settled = {key for key, s in services.items() if settings.foreign and s.metadata.stored}
    return {key: s if key in settled else _with_ips(s, chosen) for key, s in services.items()}


def _hold_all(pools: Mapping[int, Pool], service: Service) -> None:
    for ip in service.virtual_ips:
        if ip.version in pools:
            pools[ip.version].hold(ip, str(service.ref))


def _held(pools: Mapping[int, Pool], service: Service, ip: IP, closed: bool) -> IP:
    """Raises ManifestError where the Service cannot have that address."""
    pool = pools.get(ip.version)
    if pool is None:  # a foreign cluster's second family
        return ip
    refusal = pool.refusal(ip, "the service CIDR") if closed else ""
    remedy = ""
    if refusal:
        remedy = f"the Node's annotation {SERVICE_CIDR} chooses another service CIDR"
    elif holder := pool.holder(ip):
        refusal = f"{ip} is already the cluster IP of {holder}"
        remedy = "leave the field out to get a free one"
    if refusal:
        second = ip in service.virtual_ips[1:]
        field = "spec.clusterIPs[1]" if second else "spec.clusterIP"
        raise ManifestError(refusal, object=str(service.ref), field=field, remedy=remedy)
    pool.hold(ip, str(service.ref))
    return ip


def _allocated(pools: Mapping[int, Pool], service: Service, index: int) -> IP:
    name = service.spec.ip_families[index]
    pool = pools[int(name[-1])]
    ip = pool.take(str(service.ref))
    if ip is None:
        raise ManifestError(
            f"there is no address left for it in the service CIDR {pool.network}",
            object=str(service.ref),
            field="spec.clusterIP",
            remedy=f"the Node's annotation {SERVICE_CIDR} chooses another service CIDR",
        )
    return ip


def _with_ips(service: Service, chosen: Mapping[_Place, IP]) -> Service:
    found = [chosen.get((service.key, index)) for index in range(2)]
    ips: tuple[ClusterIP, ...] = tuple(ip for ip in found if ip is not None)
    if service.headless:
        ips = ("None",)
    cluster_ip = ips[0] if ips else None
    spec = msgspec.structs.replace(service.spec, cluster_ip=cluster_ip, cluster_ips=ips)
    return msgspec.structs.replace(service, spec=spec)


# Defaults


def _read(service: Service) -> Service:
    """One that is complete; of an API server before 1.20, without its list of cluster IPs."""
    spec = service.spec
    if spec.cluster_ips or spec.cluster_ip is None:
        return service
    spec = msgspec.structs.replace(spec, cluster_ips=(spec.cluster_ip,))
    return msgspec.structs.replace(service, spec=spec)


def _defaulted(service: Service) -> Service:
    spec = service.spec
    changes: Mapping[str, object] = {
        "ports": tuple(
            msgspec.structs.replace(
                port, target_port=port.port if port.target_port is None else port.target_port
            )
            for port in spec.ports
        ),
        "cluster_ip": spec.cluster_ips[0] if spec.cluster_ips else spec.cluster_ip,
        "cluster_ips": spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ()),
    }
    if spec.type != "ExternalName":
        changes = {**changes, **dict(_proxied_defaults(spec))}
    return msgspec.structs.replace(service, spec=msgspec.structs.replace(spec, **changes))


def _proxied_defaults(spec: ServiceSpec) -> Iterator[tuple[str, object]]:
    """Of all types but ExternalName."""
    yield "internal_traffic_policy", spec.internal_traffic_policy or "Cluster"
    if spec.type in ("NodePort", "LoadBalancer") or spec.external_ips:
        yield "external_traffic_policy", spec.external_traffic_policy or "Cluster"
    if spec.type == "LoadBalancer" and spec.allocate_load_balancer_node_ports is None:
        yield "allocate_load_balancer_node_ports", True
    if spec.session_affinity == "None":
        yield "session_affinity_config", SessionAffinityConfig()
    elif spec.session_affinity_config.client_ip is None:
        yield "session_affinity_config", SessionAffinityConfig(client_ip=ClientIPConfig())
