"""Where a claim's connections go: the addresses and ports that its Services have got."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hairpin.claims.cast import PORT, Cast, by_family
from hairpin.claims.promises import To
from hairpin.lab.session import LabError
from hairpin.model.address import IP, ip

Shape = Mapping[str, Any]


class Targets:
    """The Services of one namespace, as the lab shows them."""

    def __init__(self, namespace: str, cast: Cast) -> None:
        self._namespace = namespace
        self._cast = cast
        self._services: dict[str, Any] = {}

    def look(self, services: Iterable[Shape]) -> None:
        """Learns its Services from all that the lab has."""
        self._services = {
            one["metadata"]["name"]: one
            for one in services
            if one["metadata"]["namespace"] == self._namespace
        }

    def service(self, name: str) -> Any:
        """A Service in the API's shape.  Raises LabError where there is none."""
        if name not in self._services:
            raise LabError(f"there is no Service {self._namespace}/{name}")
        return self._services[name]

    def resolve(self, to: To, protocol: str = "TCP") -> tuple[IP, int]:
        """The address and port that is meant.  Raises LabError where there is none."""
        if to.kind == "pod":
            return self._cast.pod_ip(to.pod, to.family), int(to.port) or PORT
        if to.kind == "address":
            return ip(to.address), int(to.port)
        spec = self.service(to.service)["spec"]
        if to.kind == "health-check":
            return self._cast.node_ip(to.node, to.family), int(spec["healthCheckNodePort"])
        port = _port(spec, to, protocol)
        if to.kind in ("node-port", "localhost"):
            return self._node(to), _node_port(port, to)
        address = by_family(self._texts(to)).get(to.family)
        if address is None:
            raise LabError(f"Service {to.service} has no {to} (IPv{to.family})")
        return address, int(to.port if isinstance(to.port, int) and to.port else port["port"])

    def _node(self, to: To) -> IP:
        if to.kind == "localhost":
            return ip("127.0.0.1" if to.family == 4 else "::1")
        return self._cast.node_ip(to.node, to.family)

    def _texts(self, to: To) -> Sequence[str]:
        shape = self.service(to.service)
        match to.kind:
            case "cluster-ip":
                return list(shape["spec"].get("clusterIPs", ()))
            case "external-ip":
                return list(shape["spec"].get("externalIPs", ()))
        ingress = shape.get("status", {}).get("loadBalancer", {}).get("ingress", ())
        return [one["ip"] for one in ingress if "ip" in one]


def _port(spec: Any, to: To, protocol: str) -> Any:
    """By name or number; else the first of that protocol, else the first."""
    ports = spec.get("ports", ())
    for port in ports:
        if to.port in (port.get("name"), port["port"]):
            return port
    same = [port for port in ports if port.get("protocol", "TCP") == protocol]
    return (same or ports)[0]


def _node_port(port: Any, to: To) -> int:
    number = port.get("nodePort")
    if not number:
        raise LabError(f"Service {to.service} has no node port")
    return int(number)
