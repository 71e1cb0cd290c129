"""Services as the API server leaves them: defaults and cluster IPs.

Sources: k8s.io/kubernetes pkg/apis/core/v1/defaults.go, pkg/registry/core/service.
Pure and deterministic; an address once allocated stays with its Service.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hairpin.model.address import IP, ClusterIP, Network
from hairpin.model.annotations import SERVICE_CIDR
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import Key
from hairpin.model.service import ClientIPConfig, Service, ServiceSpec, SessionAffinityConfig
from hairpin.model.snapshot import Snapshot
from hairpin.source.pool import Pool


def admitted_services(
    given: Snapshot, previous: Snapshot, cidr: Network, implied: Service | None = None
) -> dict[Key, Service]:
    """The Services with their defaults, and with a cluster IP each that wants one.

    The IP is the one asked for, else the one the Service had, else the lowest free one.  The first
    of the network is left for Services that ask for it: in a cluster it is the API server's.
    Raises ManifestError for an IP outside of the network or held by another Service, and for a
    network that is full.  ``implied`` comes last, and is left out where no address is left.
    """
    services = {key: _defaulted(service) for key, service in given.services.items()}
    if implied is not None:
        services[implied.key] = _defaulted(implied)
    pool = Pool(cidr)
    chosen: dict[Key, ClusterIP] = {
        key: "None" for key, service in services.items() if service.headless
    }
    wanting = {
        key: service
        for key, service in services.items()
        if service.spec.type != "ExternalName" and not service.headless
    }
    had = {key: ip for key, old in previous.services.items() for ip in old.virtual_ips[:1]}
    if implied is not None:
        had.pop(implied.key, None)  # it asks for what it had, where nobody else does
    asked = {key: ip for key, s in wanting.items() if isinstance(ip := s.spec.cluster_ip, IP)}
    # Who had an address before comes first: it is the newcomer that is refused.
    first = [key for key in wanting if key in had and asked.get(key, had[key]) == had[key]]
    for key in (*first, *asked):
        if key not in chosen:
            ip = asked.get(key, had.get(key))
            assert ip is not None
            chosen[key] = _held(pool, wanting[key], ip)
    if pool.holder(pool.first) is None:
        pool.hold(pool.first, "the API server")
    for key, service in wanting.items():
        if key not in chosen and not (implied is not None and key == implied.key):
            chosen[key] = _allocated(pool, service)
    if implied is not None and implied.key not in chosen:
        last = pool.take(str(implied.ref))
        if last is None:
            del services[implied.key]
        else:
            chosen[implied.key] = last
    return {key: _with_ip(service, chosen.get(key)) for key, service in services.items()}


def _held(pool: Pool, service: Service, ip: IP) -> IP:
    refusal = pool.refusal(ip, "the service CIDR")
    remedy = ""
    if refusal:
        remedy = f"the Node's annotation {SERVICE_CIDR} chooses another service CIDR"
    elif holder := pool.holder(ip):
        refusal = f"{ip} is already the cluster IP of {holder}"
        remedy = "leave the field out to get a free one"
    if refusal:
        raise ManifestError(refusal, object=str(service.ref), field="spec.clusterIP", remedy=remedy)
    pool.hold(ip, str(service.ref))
    return ip


def _allocated(pool: Pool, service: Service) -> IP:
    ip = pool.take(str(service.ref))
    if ip is None:
        raise ManifestError(
            f"there is no address left for it in the service CIDR {pool.network}",
            object=str(service.ref),
            field="spec.clusterIP",
            remedy=f"the Node's annotation {SERVICE_CIDR} chooses another service CIDR",
        )
    return ip


def _with_ip(service: Service, ip: ClusterIP | None) -> Service:
    ips = () if ip is None else (ip,)
    spec = msgspec.structs.replace(service.spec, cluster_ip=ip, cluster_ips=ips)
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
    }
    if spec.type != "ExternalName":
        changes = {**changes, **_proxied_defaults(spec)}
    return msgspec.structs.replace(service, spec=msgspec.structs.replace(spec, **changes))


def _proxied_defaults(spec: ServiceSpec) -> Mapping[str, object]:
    """Of all types but ExternalName."""
    changes: dict[str, object] = {
        "internal_traffic_policy": spec.internal_traffic_policy or "Cluster",
        "ip_families": spec.ip_families or ("IPv4",),
        "ip_family_policy": "SingleStack",  # what PreferDualStack comes to with one family
    }
    if spec.type in ("NodePort", "LoadBalancer") or spec.external_ips:
        changes["external_traffic_policy"] = spec.external_traffic_policy or "Cluster"
    if spec.type == "LoadBalancer" and spec.allocate_load_balancer_node_ports is None:
        changes["allocate_load_balancer_node_ports"] = True
    if spec.session_affinity == "ClientIP" and spec.session_affinity_config.client_ip is None:
        changes["session_affinity_config"] = SessionAffinityConfig(client_ip=ClientIPConfig())
    return changes
