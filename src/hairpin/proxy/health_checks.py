"""What healthCheckNodePorts say, and where they listen.  Pure.

pkg/proxy/healthcheck/service_health.go in Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from hairpin.model.address import IP
from hairpin.model.metadata import Key
from hairpin.plan.service_plan import HealthCheck

Place = tuple[str, int]
"""Address and port."""
_VERSIONS = {"IPv4": 4, "IPv6": 6}
_EVERYWHERE = {4: "0.0.0.0", 6: "::"}


def answered(key: Key, local: int, healthy: bool) -> tuple[int, bytes, tuple[tuple[str, str], ...]]:
    """The HTTP code, the JSON and the headers of a Service's port.

    ``local`` ready endpoints are on this node; ``healthy`` is the proxy's own state.
    """
    body = {
        "service": {"namespace": key[0], "name": key[1]},
        "localEndpoints": local,
        "serviceProxyHealthy": healthy,
    }
    said = msgspec.json.format(msgspec.json.encode(body), indent=1)
    # KEP-3836: how much a load balancer may send here
    headers = (("X-Load-Balancing-Endpoint-Weight", str(local)),)
    return (200 if local and healthy else 503), said, headers


def listeners(
    wanted: Mapping[Key, HealthCheck], addresses: Mapping[int, Sequence[IP] | None]
) -> dict[Place, tuple[Key, int]]:
    """Where to listen, for which Service, and how many endpoints it has here.

    ``addresses`` are the node's by IP version, None for every one.  Of two Services with one port
    the first by name has it.
    """
    found: dict[Place, tuple[Key, int]] = {}
    for key in sorted(wanted):
        check = wanted[key]
        for family, local in zip(check.families, check.local, strict=True):
            version = _VERSIONS[family]
            given = addresses.get(version)
            hosts = [_EVERYWHERE[version]] if given is None else [str(ip) for ip in given]
            for host in hosts:
                found.setdefault((host, check.port), (key, local))
    return found
