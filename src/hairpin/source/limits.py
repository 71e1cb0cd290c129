"""What Kubernetes has and hairpin does not do yet.  Every line here is meant to go."""

from __future__ import annotations

from collections.abc import Iterator

from hairpin.model.address import IP, Network
from hairpin.model.annotations import IMPLIED
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import KubeObject
from hairpin.model.node import Node
from hairpin.model.service import Service
from hairpin.model.snapshot import Snapshot

_NOW = "for now: one Node, IPv4, and Services of type ClusterIP over TCP and UDP"
_YET = "is not supported yet"


def check(snapshot: Snapshot) -> None:
    """Raises ManifestError for the first object that asks for more than hairpin does."""
    nodes = [node for node in snapshot.nodes.values() if IMPLIED not in node.metadata.annotations]
    for extra in nodes[1:]:
        _refuse(extra, "", f"a second Node, beside {nodes[0].ref}, {_YET}")
    for node in nodes:
        _each(node, _node(node))
    for pod in snapshot.pods.values():
        if pod.spec.host_network:
            _refuse(pod, "spec.hostNetwork", f"the node's network {_YET} for Pods")
    for deployment in snapshot.deployments.values():
        if deployment.spec.template.spec.host_network:
            field = "spec.template.spec.hostNetwork"
            _refuse(deployment, field, f"the node's network {_YET} for Pods")
    for service in snapshot.services.values():
        _each(service, _service(service))
    for piece in snapshot.endpointslices.values():
        if piece.address_type != "IPv4":
            _refuse(piece, "addressType", f"{piece.address_type} {_YET}")


def _node(node: Node) -> Iterator[tuple[str, str]]:
    if _is_v6(node.spec.pod_cidr):
        yield "spec.podCIDR", f"IPv6 {_YET}"
    for index, cidr in enumerate(node.spec.pod_cidrs):
        if _is_v6(cidr):
            yield f"spec.podCIDRs[{index}]", f"IPv6 {_YET}"


def _service(service: Service) -> Iterator[tuple[str, str]]:
    spec = service.spec
    if spec.type in ("NodePort", "LoadBalancer"):
        yield "spec.type", f"{spec.type} {_YET}"
    if spec.external_ips:
        yield "spec.externalIPs", f"{spec.external_ips[0]}: an address from outside {_YET}"
    if spec.session_affinity != "None":
        yield "spec.sessionAffinity", f"{spec.session_affinity} {_YET}"
    for index, port in enumerate(spec.ports):
        if port.protocol == "SCTP":
            yield f"spec.ports[{index}].protocol", f"SCTP {_YET}"
    if spec.ip_family_policy == "RequireDualStack":
        yield "spec.ipFamilyPolicy", f"RequireDualStack {_YET}"
    for index, family in enumerate(spec.ip_families):
        if family == "IPv6":
            yield f"spec.ipFamilies[{index}]", f"IPv6 {_YET}"
    if any(_is_v6(ip) for ip in (spec.cluster_ip, *spec.cluster_ips) if not isinstance(ip, str)):
        yield "spec.clusterIP", f"IPv6 {_YET}"


def _is_v6(value: IP | Network | None) -> bool:
    return value is not None and value.version == 6


def _each(thing: KubeObject, found: Iterator[tuple[str, str]]) -> None:
    for field, message in found:
        _refuse(thing, field, message)


def _refuse(thing: KubeObject, field: str, message: str) -> None:
    raise ManifestError(message, object=str(thing.ref), field=field, remedy=_NOW)
