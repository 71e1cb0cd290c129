"""Claims' objects in the API's shape, with the cast's addresses filled in."""

from __future__ import annotations

import copy
import threading
from typing import Any

from hairpin.claims.cast import Cast
from hairpin.claims.promises import EXTERNAL_IP, EXTERNAL_IP6, Backend, Manifest, Slice
from hairpin.lab.session import LabError
from hairpin.model.decode import CLUSTER_SCOPED
from hairpin.model.endpointslice import SERVICE_NAME

_EXTERNAL = {EXTERNAL_IP: "203.0.113.{}", EXTERNAL_IP6: "2001:db8:e::{:x}"}
_MOST_EXTERNAL = 254
_PORTS = range(10000, 19000)  # below those that kernels choose (ip_local_port_range)


class Addresses:
    """What every claim must have for itself: external addresses (TEST-NET-3, RFC 5737), ports."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given: dict[tuple[str, str], int] = {}
        self._port = _PORTS.start

    def of(self, namespace: str, service: str, word: str) -> str:
        """Raises LabError when there is none left."""
        with self._lock:
            number = self._given.setdefault((namespace, service), len(self._given) + 1)
        if number > _MOST_EXTERNAL:
            raise LabError("no external address is left for another Service")
        return _EXTERNAL[word].format(number)

    def ports(self, count: int) -> int:
        """The first of so many ports for a client's end, which no other connection has had lately.

        The kernel gives the same port to connections with different destinations.  Where both are
        Services with the same endpoint, the endpoint's answers are the same to conntrack, and the
        second connection is dropped for as long as the first is remembered (insert_failed).
        """
        with self._lock:
            if self._port + count > _PORTS.stop:
                self._port = _PORTS.start
            first, self._port = self._port, self._port + count
        return first


def shape(one: Manifest, namespace: str, cast: Cast, addresses: Addresses) -> dict[str, Any]:
    """The object, in that namespace.  Raises LabError for an address that nobody has."""
    made = _slice(one, cast) if isinstance(one, Slice) else copy.deepcopy(one)
    if made["kind"] not in CLUSTER_SCOPED:
        made["metadata"]["namespace"] = namespace
    spec = made.get("spec", {})
    if made["kind"] == "Pod":
        spec["nodeName"] = cast.name(spec.get("nodeName", "n1"))
    template = spec.get("template", {}).get("spec", {})
    if "nodeName" in template:
        template["nodeName"] = cast.name(template["nodeName"])
    if "externalIPs" in spec:
        name = made["metadata"]["name"]
        spec["externalIPs"] = [
            addresses.of(namespace, name, text) if text in _EXTERNAL else text
            for text in spec["externalIPs"]
        ]
    return made


def _slice(one: Slice, cast: Cast) -> dict[str, Any]:
    ports = [
        {"protocol": protocol, "port": number, **({"name": name} if name else {})}
        for name, protocol, number in one.ports
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": one.name, "labels": {SERVICE_NAME: one.service, **one.labels}},
        "addressType": f"IPv{one.family}",
        "endpoints": [_endpoint(backend, one.family, cast) for backend in one.backends],
        "ports": ports,
    }


def _endpoint(backend: Backend, family: int, cast: Cast) -> dict[str, Any]:
    member = cast.members[backend.pod]
    conditions = {
        name: value
        for name in ("ready", "serving", "terminating")
        if (value := getattr(backend, name)) is not None
    }
    endpoint: dict[str, Any] = {
        "addresses": [str(cast.pod_ip(backend.pod, family))],
        "conditions": conditions,
        "nodeName": cast.names.get(member.node, member.node),
        "zone": member.zone,
    }
    nodes = [cast.names.get(each, each) for each in backend.nodes]
    hints = {
        name: [{"name": each} for each in values]
        for name, values in (("forZones", backend.zones), ("forNodes", nodes))
        if values
    }
    return {**endpoint, "hints": hints} if hints else endpoint
