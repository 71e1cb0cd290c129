"""What Kubernetes has and a lab cannot show yet.  Every line here is meant to go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hairpin.model.address import IP, Network
from hairpin.model.annotations import IMPLIED
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import KubeObject
from hairpin.model.node import Node
from hairpin.model.service import Service
from hairpin.model.snapshot import Snapshot

_NOW = "a lab has one Node and IPv4 for now"
_YET = "is not supported in a lab yet"


def check(snapshot: Snapshot, where: Mapping[str, str] | None = None) -> None:
    """Raises ManifestError for the first object that asks for more than a lab does.

    ``where`` leads from a Ref's text to the file, for errors.
    """
    try:
        _check(snapshot)
    except ManifestError as error:
        raise error.at((where or {}).get(error.object, "")) from None


def _check(snapshot: Snapshot) -> None:
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
    if service.headless:  # nothing is served, and one without a selector is always dual stack
        return
    ingress = (one.ip for one in service.status.load_balancer.ingress)
    if spec.ip_family_policy == "RequireDualStack":
        yield "spec.ipFamilyPolicy", f"RequireDualStack {_YET}"
    for index, family in enumerate(spec.ip_families):
        if family == "IPv6":
            yield f"spec.ipFamilies[{index}]", f"IPv6 {_YET}"
    if any(_is_v6(ip) for ip in (spec.cluster_ip, *spec.cluster_ips) if not isinstance(ip, str)):
        yield "spec.clusterIP", f"IPv6 {_YET}"
    for field, ips in (
        ("spec.externalIPs", spec.external_ips),
        ("spec.loadBalancerIP", (spec.load_balancer_ip,)),
        ("status.loadBalancer.ingress", ingress),
    ):
        if any(_is_v6(ip) for ip in ips):
            yield field, f"IPv6 {_YET}"


def _is_v6(value: IP | Network | None) -> bool:
    return value is not None and value.version == 6


def _each(thing: KubeObject, found: Iterator[tuple[str, str]]) -> None:
    for field, message in found:
        _refuse(thing, field, message)


def _refuse(thing: KubeObject, field: str, message: str) -> None:
    raise ManifestError(message, object=str(thing.ref), field=field, remedy=_NOW)
