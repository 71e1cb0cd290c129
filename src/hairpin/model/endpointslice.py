"""EndpointSlices: who answers for a Service (discovery.k8s.io/v1)."""

from __future__ import annotations

from typing import Literal

from hairpin.model.address import IP
from hairpin.model.metadata import Api, Key, KubeObject, Port, Protocol

AddressType = Literal["IPv4", "IPv6"]
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"


class EndpointConditions(Api, frozen=True, kw_only=True):
    """None is unknown: ready and serving count as true then, terminating as false."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ForZone(Api, frozen=True, kw_only=True):
    name: str


class ForNode(Api, frozen=True, kw_only=True):
    name: str


class EndpointHints(Api, frozen=True, kw_only=True):
    """For whose clients an endpoint is meant."""

    for_zones: tuple[ForZone, ...] = ()
    for_nodes: tuple[ForNode, ...] = ()


class ObjectReference(Api, frozen=True, kw_only=True):
    kind: str
    name: str
    namespace: str = ""


class SliceEndpoint(Api, frozen=True, kw_only=True):
    """One endpoint; several addresses are the same endpoint's, and proxies take the first."""

    addresses: tuple[IP, ...]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None
    hints: EndpointHints = EndpointHints()
    target_ref: ObjectReference | None = None


class EndpointPort(Api, frozen=True, kw_only=True):
    """``port`` None is "all ports", which proxies pass over."""

    name: str = ""
    protocol: Protocol = "TCP"
    port: Port | None = None
    app_protocol: str | None = None


class EndpointSlice(KubeObject, frozen=True, kw_only=True, tag="EndpointSlice"):
    """Endpoints that share a family and a list of ports."""

    address_type: AddressType
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()

    @property
    def service_key(self) -> Key | None:
        """The Service that this slice is of; None if it says none."""
        name = self.metadata.labels.get(SERVICE_NAME)
        return (self.metadata.namespace, name) if name else None
