"""hairpin as the cloud: addresses for Services of type LoadBalancer.

What nobody gave an address gets one of each of its families; where none is left it waits for one,
as it does in a cluster that has no cloud.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hairpin.model.address import Network
from hairpin.model.metadata import Key
from hairpin.model.service import (
    LoadBalancerIngress,
    LoadBalancerStatus,
    Service,
    ServiceStatus,
)
from hairpin.model.snapshot import Snapshot
from hairpin.source.families import family
from hairpin.source.pool import Pool
from hairpin.source.settings import Settings

_Ingress = tuple[LoadBalancerIngress, ...]


def with_load_balancers(
    services: Mapping[Key, Service],
    previous: Snapshot,
    cidrs: tuple[Network, ...],
    settings: Settings,
) -> dict[Key, Service]:
    """The Services with ``status.loadBalancer``: that given, else ``spec.loadBalancerIP``, else
    what the Service had, else the lowest free address of each family.
    """
    pools = [Pool(cidr) for cidr in cidrs]
    chosen: dict[Key, _Ingress] = {}
    wanting: list[Service] = []
    for key, service in services.items():
        ingress = service.status.load_balancer.ingress
        if service.spec.type != "LoadBalancer":
            chosen[key] = ()
        elif _settled(service, settings) or _known(service, previous):
            chosen[key] = ingress or _known(service, previous)
        else:
            wanting.append(service)
    for pool in pools:
        for key, service in services.items():
            ips = (one.ip for one in chosen.get(key, ()))
            for ip in (*ips, *service.spec.external_ips):
                if ip is not None and ip in pool.network:
                    pool.hold(ip, str(service.ref))
    for service in wanting:
        taken = (
            pool.take(str(service.ref))
            for name in service.spec.ip_families
            for pool in pools
            if family(pool.network) == name
        )
        chosen[service.key] = tuple(LoadBalancerIngress(ip=ip) for ip in taken if ip is not None)
    return {
        key: service if _settled(service, settings) else _with(service, chosen[key])
        for key, service in services.items()
    }


def _settled(service: Service, settings: Settings) -> bool:
    """Complete already: what it says is so."""
    return settings.foreign and service.metadata.stored


def _known(service: Service, previous: Snapshot) -> _Ingress:
    """What needs no choice; nothing where an address is to be found."""
    if service.status.load_balancer.ingress:
        return service.status.load_balancer.ingress
    if service.spec.load_balancer_ip is not None:
        return (LoadBalancerIngress(ip=service.spec.load_balancer_ip),)
    before = previous.services.get(service.key)
    if before is None or before.spec.type != "LoadBalancer":
        return ()
    if before.spec.load_balancer_ip is not None:  # the wish is withdrawn, and so is what it got
        return ()
    had = before.status.load_balancer.ingress
    families = [family(one.ip) for one in had if one.ip is not None]
    return had if set(families) == set(service.spec.ip_families) else ()


def _with(service: Service, ingress: _Ingress) -> Service:
    """An address without a mode is a VIP, as the API server has it."""
    full = tuple(
        msgspec.structs.replace(one, ip_mode="VIP") if one.ip and one.ip_mode is None else one
        for one in ingress
    )
    if full == service.status.load_balancer.ingress:
        return service
    status = ServiceStatus(load_balancer=LoadBalancerStatus(ingress=full))
    return msgspec.structs.replace(service, status=status)
