"""Services: one address for many Pods."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from hairpin.model.address import IP, ClusterIP, Network
from hairpin.model.metadata import Api, KubeObject, Port, Protocol

ServiceType = Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]
TrafficPolicy = Literal["Cluster", "Local"]
IPFamily = Literal["IPv4", "IPv6"]
IPFamilyPolicy = Literal["SingleStack", "PreferDualStack", "RequireDualStack"]
SessionAffinity = Literal["None", "ClientIP"]
IPMode = Literal["VIP", "Proxy"]
TrafficDistribution = Literal["PreferClose", "PreferSameZone", "PreferSameNode"]


class ServicePortName(msgspec.Struct, frozen=True, order=True):
    """The identity of one load-balanced port.

    As text like kube-proxy writes it, without the protocol: ``default/web:http``, or
    ``default/web`` for a port without a name (pkg/proxy/types.go).
    """

    namespace: str
    name: str
    port: str
    protocol: Protocol

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" + (f":{self.port}" if self.port else "")


class ServicePort(Api, frozen=True, kw_only=True):
    """``target_port`` None is ``port``; text is the name of a container's port."""

    port: Port
    name: str = ""
    protocol: Protocol = "TCP"
    target_port: Port | str | None = None
    node_port: Port | None = None
    app_protocol: str | None = None


class ClientIPConfig(Api, frozen=True, kw_only=True):
    timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 10800


class SessionAffinityConfig(Api, frozen=True, kw_only=True):
    client_ip: ClientIPConfig | None = None


class ServiceSpec(Api, frozen=True, kw_only=True):
    """What None means: the API server's default, which admission fills in, or "does not apply"."""

    type: ServiceType = "ClusterIP"
    selector: dict[str, str] = msgspec.field(default_factory=dict)
    ports: tuple[ServicePort, ...] = ()
    cluster_ip: ClusterIP | None = None
    cluster_ips: tuple[ClusterIP, ...] = ()
    ip_families: tuple[IPFamily, ...] = ()
    ip_family_policy: IPFamilyPolicy | None = None
    external_name: str = ""
    external_ips: tuple[IP, ...] = ()
    load_balancer_ip: IP | None = None
    load_balancer_class: str | None = None
    load_balancer_source_ranges: tuple[Network, ...] = ()
    allocate_load_balancer_node_ports: bool | None = None
    external_traffic_policy: TrafficPolicy | None = None
    internal_traffic_policy: TrafficPolicy | None = None
    health_check_node_port: Port | None = None
    publish_not_ready_addresses: bool = False
    session_affinity: SessionAffinity = "None"
    session_affinity_config: SessionAffinityConfig = SessionAffinityConfig()
    traffic_distribution: TrafficDistribution | None = None


class LoadBalancerIngress(Api, frozen=True, kw_only=True):
    ip: IP | None = None
    ip_mode: IPMode | None = None
    hostname: str = ""


class LoadBalancerStatus(Api, frozen=True, kw_only=True):
    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Api, frozen=True, kw_only=True):
    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(KubeObject, frozen=True, kw_only=True, tag="Service"):
    """One address and some ports, and a selector that says who answers there."""

    spec: ServiceSpec
    status: ServiceStatus = ServiceStatus()

    @property
    def headless(self) -> bool:
        """No address is wanted: names lead to the Pods themselves."""
        return self.spec.cluster_ip == "None"

    @property
    def virtual_ips(self) -> tuple[IP, ...]:
        """The cluster IPs; none for headless Services, ExternalName, and before admission."""
        return tuple(ip for ip in self.spec.cluster_ips if not isinstance(ip, str))

    def port_name(self, port: ServicePort) -> ServicePortName:
        """The identity of one of this Service's ports."""
        return ServicePortName(
            self.metadata.namespace, self.metadata.name, port.name, port.protocol
        )
