"""What the API server would refuse in one object by itself.

Types, choices and ranges are msgspec's part; here are names, duplicates, and fields that depend
on each other (k8s.io/kubernetes pkg/apis/core/validation, pkg/apis/discovery/validation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from hairpin.model.address import IP, from_builtin
from hairpin.model.annotations import (
    IMPLIED,
    KINDS,
    LOAD_BALANCER_CIDR,
    POD_IP,
    PREFIX,
    SERVICE_CIDR,
    VALUES,
    networks,
)
from hairpin.model.deployment import Deployment
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.metadata import KubeObject, Namespace
from hairpin.model.names import (
    dns_label,
    dns_subdomain,
    label_key,
    label_value,
    port_name,
    quoted,
)
from hairpin.model.node import Node
from hairpin.model.pod import Container, Pod, PodSpec, Probe
from hairpin.model.service import Service, ServiceSpec

MAX_REPLICAS = 10_000
"""More Pods than a lab on one machine can hold; keeps a typing error from filling its memory."""


class Problem(msgspec.Struct, frozen=True):
    """One mistake: the field's path, what is wrong with it, and what to do, if that is clear."""

    field: str
    message: str
    remedy: str = ""


def problems(thing: KubeObject) -> Iterator[Problem]:
    """What is wrong with the object, the first thing first."""
    yield from _metadata(thing)
    match thing:
        case Service():
            yield from _service(thing)
        case Pod():
            yield from _pod_spec("spec", thing.spec)
        case Deployment():
            yield from _deployment(thing)
        case EndpointSlice():
            yield from _endpointslice(thing)
        case Node():
            yield from _node(thing)


def _metadata(thing: KubeObject) -> Iterator[Problem]:
    meta = thing.metadata
    rule = dns_label if isinstance(thing, Service | Namespace) else dns_subdomain
    yield from _rule("metadata.name", rule, meta.name)
    if meta.namespace:
        yield from _rule("metadata.namespace", dns_label, meta.namespace)
    yield from _labels("metadata.labels", meta.labels)
    yield from _annotations("metadata.annotations", meta.annotations, type(thing).__name__)


def _service(service: Service) -> Iterator[Problem]:
    spec = service.spec
    external = spec.type == "ExternalName"
    yield from _labels("spec.selector", spec.selector)
    if external and not spec.external_name:
        yield Problem("spec.externalName", "is missing", "a Service of type ExternalName needs it")
    if external and (spec.cluster_ip not in (None, "None") or spec.cluster_ips):
        yield Problem("spec.clusterIP", "a Service of type ExternalName has none")
    if spec.cluster_ips and spec.cluster_ip not in (None, spec.cluster_ips[0]):
        yield Problem("spec.clusterIPs[0]", f"is not spec.clusterIP, {spec.cluster_ip}")
    if not spec.ports and not external and not service.headless:
        yield Problem("spec.ports", "is missing", "only headless Services may do without")
    for index, port in enumerate(spec.ports):
        path = f"spec.ports[{index}]"
        if port.name:
            yield from _rule(f"{path}.name", dns_label, port.name)
        elif len(spec.ports) > 1:
            yield Problem(f"{path}.name", "is missing", "where there are several ports, name each")
        if isinstance(port.target_port, str):
            yield from _port_reference(f"{path}.targetPort", port.target_port)
        if port.node_port and spec.type not in ("NodePort", "LoadBalancer"):
            yield Problem(f"{path}.nodePort", f"a Service of type {spec.type} has none")
    names = ((f"spec.ports[{i}].name", p.name) for i, p in enumerate(spec.ports) if p.name)
    yield from _duplicates(names)
    numbers = ((f"spec.ports[{i}]", f"{p.protocol} {p.port}") for i, p in enumerate(spec.ports))
    yield from _duplicates(numbers)
    yield from _duplicates(
        (f"spec.ports[{i}].nodePort", f"{p.protocol} {p.node_port}")
        for i, p in enumerate(spec.ports)
        if p.node_port
    )
    yield from _families(spec)
    yield from _outside(spec)


def _families(spec: ServiceSpec) -> Iterator[Problem]:
    """Cluster IPs and families: at most two, that differ, and in the same order."""
    for field, families in (
        ("spec.clusterIPs", [f"IPv{ip.version}" for ip in spec.cluster_ips if ip != "None"]),
        ("spec.ipFamilies", spec.ip_families),
    ):
        if len(families) > 2 or len(set(families)) < len(families):
            yield Problem(field, "more than one of a family")
        elif len(families) == 2 and spec.ip_family_policy in (None, "SingleStack"):
            remedy = "set spec.ipFamilyPolicy to PreferDualStack or RequireDualStack"
            yield Problem(field, "two, where the policy is SingleStack", remedy)
    cluster_ips = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    if len(cluster_ips) > 1 and "None" in cluster_ips:
        yield Problem("spec.clusterIPs", "None stands alone")
    for index, (ip, family) in enumerate(zip(cluster_ips, spec.ip_families, strict=False)):
        if ip != "None" and f"IPv{ip.version}" != family:
            yield Problem(f"spec.ipFamilies[{index}]", f"{family} is not that of {ip}")


def _outside(spec: ServiceSpec) -> Iterator[Problem]:
    """What only means something for clients outside of the cluster."""
    balanced = spec.type == "LoadBalancer"
    reached = spec.type in ("NodePort", "LoadBalancer") or spec.external_ips
    local = spec.external_traffic_policy == "Local"
    if spec.external_traffic_policy and not reached:
        message = f"a Service of type {spec.type} without externalIPs has none"
        yield Problem("spec.externalTrafficPolicy", message)
    if spec.health_check_node_port and not (balanced and local):
        message = "only with type LoadBalancer and externalTrafficPolicy Local"
        yield Problem("spec.healthCheckNodePort", message)
    if spec.allocate_load_balancer_node_ports is not None and not balanced:
        message = f"a Service of type {spec.type} has none"
        yield Problem("spec.allocateLoadBalancerNodePorts", message)
    for index, ip in enumerate(spec.external_ips):
        if reason := _no_endpoint(ip):
            yield Problem(f"spec.externalIPs[{index}]", f"{ip} is {reason}")


def _pod_spec(path: str, spec: PodSpec) -> Iterator[Problem]:
    if not spec.containers:
        yield Problem(f"{path}.containers", "a Pod needs at least one container")
    for field, name in (("hostname", spec.hostname), ("subdomain", spec.subdomain)):
        if name:
            yield from _rule(f"{path}.{field}", dns_label, name)
    if spec.node_name:
        yield from _rule(f"{path}.nodeName", dns_subdomain, spec.node_name)
    for index, container in enumerate(spec.containers):
        yield from _container(f"{path}.containers[{index}]", container)
    named = enumerate(spec.containers)
    yield from _duplicates((f"{path}.containers[{i}].name", c.name) for i, c in named)
    yield from _duplicates(
        (f"{path}.containers[{c}].ports[{p}].name", f"{port.protocol} {port.name}")
        for c, container in enumerate(spec.containers)
        for p, port in enumerate(container.ports)
        if port.name
    )


def _container(path: str, container: Container) -> Iterator[Problem]:
    yield from _rule(f"{path}.name", dns_label, container.name)
    for index, variable in enumerate(container.env):
        if not variable.name or "=" in variable.name or "\0" in variable.name:
            message = f"{quoted(variable.name)} cannot name a variable"
            yield Problem(f"{path}.env[{index}].name", message)
        if "\0" in variable.value:
            yield Problem(f"{path}.env[{index}].value", "holds a NUL character")
    for field, texts in (("command", container.command), ("args", container.args)):
        for index, text in enumerate(texts):
            if "\0" in text:
                yield Problem(f"{path}.{field}[{index}]", "holds a NUL character")
    for index, port in enumerate(container.ports):
        if port.name:
            yield from _rule(f"{path}.ports[{index}].name", port_name, port.name)
    if container.readiness_probe:
        yield from _probe(f"{path}.readinessProbe", container.readiness_probe, container)


def _probe(path: str, probe: Probe, container: Container) -> Iterator[Problem]:
    actions = [a for a in (probe.exec, probe.http_get, probe.tcp_socket) if a is not None]
    if len(actions) != 1:
        yield Problem(path, f"needs one of exec, httpGet and tcpSocket, has {len(actions)}")
    if probe.exec and not probe.exec.command:
        yield Problem(f"{path}.exec.command", "is missing")
    for field, count in (
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ):
        if not count:
            yield Problem(f"{path}.{field}", "0 is less than 1")
    for field, action in (("httpGet", probe.http_get), ("tcpSocket", probe.tcp_socket)):
        if action and isinstance(action.port, str):
            place = f"{path}.{field}.port"
            yield from _port_reference(place, action.port)
            if action.port not in (port.name for port in container.ports):
                yield Problem(place, f"the container has no port named {quoted(action.port)}")


def _deployment(deployment: Deployment) -> Iterator[Problem]:
    spec = deployment.spec
    template = spec.template
    if spec.wanted > MAX_REPLICAS:
        yield Problem("spec.replicas", f"{spec.wanted} is more than {MAX_REPLICAS}")
    if not spec.selector.match_labels:
        yield Problem("spec.selector.matchLabels", "is missing", "say which labels the Pods have")
    for key, value in spec.selector.match_labels.items():
        if template.metadata.labels.get(key) != value:
            yield Problem(
                f"spec.selector.matchLabels[{key}]",
                f"the Pods of spec.template are not labelled {key}={value}",
            )
    yield from _labels("spec.template.metadata.labels", template.metadata.labels)
    yield from _annotations(
        "spec.template.metadata.annotations", template.metadata.annotations, "Pod"
    )
    yield from _pod_spec("spec.template.spec", template.spec)


def _endpointslice(piece: EndpointSlice) -> Iterator[Problem]:
    for index, endpoint in enumerate(piece.endpoints):
        path = f"endpoints[{index}].addresses"
        if not endpoint.addresses:
            yield Problem(path, "is missing")
        for position, ip in enumerate(endpoint.addresses):
            if f"IPv{ip.version}" != piece.address_type:
                yield Problem(f"{path}[{position}]", f"{ip} is not {piece.address_type}")
            elif reason := _no_endpoint(ip):
                yield Problem(f"{path}[{position}]", f"{ip} is {reason}: no endpoint has that")
    for index, port in enumerate(piece.ports):
        if port.name:
            yield from _rule(f"ports[{index}].name", dns_label, port.name)
    yield from _duplicates((f"ports[{i}].name", port.name) for i, port in enumerate(piece.ports))


def _node(node: Node) -> Iterator[Problem]:
    spec = node.spec
    if spec.pod_cidrs and spec.pod_cidr not in (None, spec.pod_cidrs[0]):
        yield Problem("spec.podCIDRs[0]", f"is not spec.podCIDR, {spec.pod_cidr}")


def _no_endpoint(ip: IP) -> str:
    """Why Kubernetes takes no such address for an endpoint, or ""."""
    if ip.is_unspecified:
        return "the unspecified address"
    if ip.is_loopback:
        return "a loopback address"
    if ip.is_link_local:
        return "a link-local address"
    return "a multicast address" if ip.is_multicast else ""


def _port_reference(field: str, name: str) -> Iterator[Problem]:
    if name.isdecimal():
        yield Problem(field, f"{quoted(name)} is text, and no port's name", "write it unquoted")
    yield from _rule(field, port_name, name)


def _labels(path: str, labels: Mapping[str, str]) -> Iterator[Problem]:
    for key, value in labels.items():
        yield from _rule(path, label_key, key)
        yield from _rule(f"{path}[{key}]", label_value, value)


def _annotations(path: str, found: Mapping[str, str], kind: str) -> Iterator[Problem]:
    for key, value in found.items():
        yield from _rule(path, label_key, key.lower())
        field = f"{path}[{key}]"
        if key.startswith(PREFIX) and kind not in KINDS.get(key, ()):
            own = [name for name, owners in KINDS.items() if kind in owners and name != IMPLIED]
            remedy = f"hairpin knows {', '.join(own)} there" if own else ""
            yield Problem(field, f"means nothing on a {kind}", remedy)
        elif key == POD_IP and not _reads(_one_ip, value):
            yield Problem(field, f"{quoted(value)} is not an IP address")
        elif key in VALUES and value not in VALUES[key]:
            remedy = f"it can be {' or '.join(VALUES[key])}"
            yield Problem(field, f"{quoted(value)} is not known", remedy)
        elif key in (SERVICE_CIDR, LOAD_BALANCER_CIDR) and not _reads(networks, value):
            remedy = "two are written 10.96.0.0/16,fd00:96::/112" if "," in value else ""
            message = f"{quoted(value)} is not an IP network like 10.96.0.0/16"
            yield Problem(field, message, remedy)


def _one_ip(text: str) -> object:
    return from_builtin(IP, text)


def _reads(read: Callable[[str], object], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def _rule(field: str, rule: Callable[[str], str], text: str) -> Iterator[Problem]:
    if message := rule(text):
        yield Problem(field, message)


def _duplicates(fields: Iterable[tuple[str, str]]) -> Iterator[Problem]:
    """Of fields and what has to differ among them."""
    seen: dict[str, str] = {}
    for field, value in fields:
        if value in seen:
            yield Problem(field, f"{quoted(value)} is already {seen[value]}")
        seen.setdefault(value, field)
