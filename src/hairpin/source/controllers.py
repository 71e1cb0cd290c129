"""What Kubernetes' controllers make of objects: Pods of Deployments, EndpointSlices of Services.

Pure and deterministic: names follow from what is named, never from chance or order.  What
hairpin made is known by its owner or label, and made anew each time.
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Iterator, Mapping

import msgspec

from hairpin.model.deployment import Deployment
from hairpin.model.endpointslice import (
    MANAGED_BY,
    SERVICE_NAME,
    EndpointConditions,
    EndpointHints,
    EndpointPort,
    EndpointSlice,
    ForNode,
    ForZone,
    ObjectReference,
    SliceEndpoint,
)
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import Key, ObjectMeta, OwnerReference
from hairpin.model.pod import Pod
from hairpin.model.service import IPFamily, Service, ServicePort
from hairpin.model.snapshot import Snapshot
from hairpin.source.rollout import Decision, decide, leaving, owner_of

MANAGER = "hairpin.dev"
_CLUSTER_MANAGER = "endpointslice-controller.k8s.io"
_HEADLESS = "service.kubernetes.io/headless"
_MODE = "service.kubernetes.io/topology-mode"
_HINTS = "service.kubernetes.io/topology-aware-hints"  # its older name, which goes before it
_PER_SLICE = 100  # kube-controller-manager --max-endpoints-per-slice
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # Kubernetes' own for suffixes: they spell no words


# Deployments


def deployment_pods(
    snapshot: Snapshot, ready: Mapping[Key, bool] | None = None, now: str | None = None
) -> dict[Key, Pod]:
    """All Pods: those given, and those that Deployments have by now (see ``rollout``).

    A Pod of a Deployment that was there keeps its node and its address.  ``ready`` says which Pods
    are ready; without it all are.  With ``now``, what is not wanted any more is marked to go from
    then on, and stays; without, it is gone.  Raises ManifestError where the name of a new Pod is
    another Pod's.
    """
    made = {key: pod for key, pod in snapshot.pods.items() if owner_of(pod) is not None}
    pods = {key: pod for key, pod in snapshot.pods.items() if key not in made}
    own: dict[Key, list[Pod]] = {}
    for pod in made.values():
        own.setdefault((pod.metadata.namespace, owner_of(pod) or ""), []).append(pod)
    dropped: set[Key] = set()
    available = {key for key in made if ready and ready.get(key)}
    for key, deployment in snapshot.deployments.items():
        mine = own.pop(key, [])
        if ready is None:
            mine = _settled(deployment, mine)
        else:
            decision = decide(deployment, mine, available)
            mine += decision.made
            dropped |= decision.dropped
        for pod in mine:
            if pod.key in pods:
                raise ManifestError(
                    f"a Pod of {deployment.ref} is to have this name",
                    object=str(pod.ref),
                    remedy="rename one of them",
                )
            pods[pod.key] = pod
    for orphan in (pod for some in own.values() for pod in some):
        pods[orphan.key] = orphan
        dropped.add(orphan.key)
    for key in dropped:
        pod = pods.pop(key)
        if now is not None:
            pods[key] = going(pod, now)
    return dict(sorted(pods.items()))


def _settled(deployment: Deployment, pods: list[Pod]) -> list[Pod]:
    """The Pods when nothing has to be waited for."""
    while (decision := decide(deployment, pods, {pod.key for pod in pods})) != Decision():
        pods = [pod for pod in (*pods, *decision.made) if pod.key not in decision.dropped]
    return pods


def going(pod: Pod, now: str, grace: int | None = None) -> Pod:
    """The Pod marked to go, in ``grace`` seconds or those that it says itself.

    One that goes already goes no later for it.
    """
    before = pod.metadata.deletion_grace_period_seconds
    wanted = pod.spec.termination_grace_period_seconds if grace is None else grace
    if leaving(pod) and before is not None and (grace is None or before <= wanted):
        return pod
    metadata = msgspec.structs.replace(
        pod.metadata,
        deletion_timestamp=pod.metadata.deletion_timestamp or now,
        deletion_grace_period_seconds=wanted,
    )
    return msgspec.structs.replace(pod, metadata=metadata)


# EndpointSlices


def endpoint_slices(
    snapshot: Snapshot, ready: Mapping[Key, bool] | None = None, *, foreign: bool = False
) -> dict[Key, EndpointSlice]:
    """All EndpointSlices: those given, and those of each Service that has a selector.

    ``ready`` says which Pods are ready; one that it does not name is not.  Without it every Pod is,
    unless its own status says otherwise.  Slices that a real cluster's controller made stay only
    where the Pods they speak of are not among the objects; if ``foreign``, so do those of a lab,
    and all that an API server has had stay, and their Services get none of ours.
    """
    by_label = _index(snapshot)
    controllers = (_CLUSTER_MANAGER, MANAGER) if foreign else (_CLUSTER_MANAGER,)
    found: dict[Key, EndpointSlice] = {}
    selected: set[Key] = set()
    made: list[EndpointSlice] = []
    theirs = {
        piece.service_key
        for piece in snapshot.endpointslices.values()
        if piece.metadata.labels.get(MANAGED_BY) in controllers
    }
    settled = {
        piece.service_key
        for piece in snapshot.endpointslices.values()
        if foreign and piece.metadata.stored
    }
    for key, service in snapshot.services.items():
        if not service.spec.selector or service.spec.type == "ExternalName" or key in settled:
            continue
        pods = _selected(service, by_label)
        if pods:
            selected.add(key)
        if pods or key not in theirs:
            made.extend(_slices(service, pods, snapshot, ready))
    for key, piece in snapshot.endpointslices.items():
        manager = piece.metadata.labels.get(MANAGED_BY)
        if manager in controllers:
            if piece.service_key in selected:
                continue
        elif manager == MANAGER:
            continue
        found[key] = piece
    found.update((piece.key, piece) for piece in made)
    return dict(sorted(found.items()))


_Index = Mapping[tuple[str, str, str], list[Pod]]


def _index(snapshot: Snapshot) -> _Index:
    """The Pods by namespace and each of their labels, so that a Service need not see them all."""
    found: dict[tuple[str, str, str], list[Pod]] = {}
    for (namespace, _), pod in snapshot.pods.items():
        for label, value in pod.metadata.labels.items():
            found.setdefault((namespace, label, value), []).append(pod)
    return found


def _selected(service: Service, by_label: _Index) -> list[Pod]:
    """The Pods that the Service means, by name; those that have ended do not count."""
    selector = service.spec.selector
    namespace = service.metadata.namespace
    some = [by_label.get((namespace, label, value), []) for label, value in selector.items()]
    return [
        pod
        for pod in min(some, key=len)
        if selector.items() <= pod.metadata.labels.items() and not pod.finished
    ]


def _slices(
    service: Service, pods: list[Pod], snapshot: Snapshot, ready: Mapping[Key, bool] | None
) -> Iterator[EndpointSlice]:
    """Endpoints with the same ports share a slice; named targetPorts may differ by Pod."""
    names: set[str] = set()
    for family in service.spec.ip_families or ("IPv4",):
        groups: dict[tuple[EndpointPort, ...], list[SliceEndpoint]] = {}
        for pod in pods:
            endpoint = _endpoint(service, pod, family, snapshot, ready)
            if endpoint is not None:
                groups.setdefault(_ports(service, pod), []).append(endpoint)
        if not groups:
            groups[()] = []  # says that there is nobody, as Kubernetes does
        for ports, endpoints in groups.items():
            for start in range(0, max(1, len(endpoints)), _PER_SLICE):
                name = _slice_name(service, f"{family} {start} {_text(ports)}", names)
                names.add(name)
                yield EndpointSlice(
                    metadata=_slice_metadata(service, name),
                    address_type=family,
                    endpoints=tuple(endpoints[start : start + _PER_SLICE]),
                    ports=ports,
                )


def _text(ports: tuple[EndpointPort, ...]) -> str:
    return " ".join(f"{p.name}/{p.protocol}/{p.port}/{p.app_protocol}" for p in ports)


def _slice_name(service: Service, what: str, taken: set[str]) -> str:
    """The Service's name and five letters that follow from what the slice holds."""
    number = crc32(f"{service.metadata.namespace}/{service.metadata.name} {what}".encode())
    while True:
        rest, suffix = number, ""
        for _ in range(5):
            rest, letter = divmod(rest, len(_LETTERS))
            suffix += _LETTERS[letter]
        name = f"{service.metadata.name}-{suffix}"
        if name not in taken:
            return name
        number += 1


def _slice_metadata(service: Service, name: str) -> ObjectMeta:
    meta = service.metadata
    labels = {**meta.labels, SERVICE_NAME: meta.name, MANAGED_BY: MANAGER}
    labels.pop(_HEADLESS, None)  # the controller's own, whatever the Service says
    if service.headless:
        labels[_HEADLESS] = ""
    owner = OwnerReference(api_version="v1", kind="Service", name=meta.name, controller=True)
    return ObjectMeta(
        name=name,
        namespace=meta.namespace,
        labels=labels,
        owner_references=(owner,),
    )


def _endpoint(
    service: Service,
    pod: Pod,
    family: IPFamily,
    snapshot: Snapshot,
    ready: Mapping[Key, bool] | None,
) -> SliceEndpoint | None:
    """The Pod as an endpoint; None while it has no address of that family."""
    ips = (pod.status.pod_ip, *(one.ip for one in pod.status.pod_ips))
    ip = next((ip for ip in ips if ip is not None and f"IPv{ip.version}" == family), None)
    if ip is None:
        return None
    serving = pod.condition("Ready") != "False" if ready is None else ready.get(pod.key, False)
    terminating = leaving(pod)
    open_to_all = service.spec.publish_not_ready_addresses
    node = snapshot.nodes.get(("", pod.spec.node_name))
    zone = (node.zone or None) if node else None
    named = pod.spec.hostname and pod.spec.subdomain == service.metadata.name
    listed = open_to_all or (serving and not terminating)
    return SliceEndpoint(
        addresses=(ip,),
        conditions=EndpointConditions(ready=listed, serving=serving, terminating=terminating),
        hostname=pod.spec.hostname if named else None,
        node_name=pod.spec.node_name or None,
        zone=zone,
        hints=_hints(service, pod.spec.node_name, zone) if listed else EndpointHints(),
        target_ref=ObjectReference(
            kind="Pod", namespace=pod.metadata.namespace, name=pod.metadata.name
        ),
    )


def _hints(service: Service, node_name: str, zone: str | None) -> EndpointHints:
    """For whose clients a ready endpoint is meant (KEP-3015; endpointslice/trafficdist).

    Not where the topology annotation asks for hints by the nodes' processors (KEP-2433), which
    go before these and are not made here: hairpin knows no processors.
    """
    notes = service.metadata.annotations
    mode = notes.get(_HINTS, notes.get(_MODE, ""))
    if service.spec.traffic_distribution is None or mode in ("Auto", "auto"):
        return EndpointHints()
    to_node = service.spec.traffic_distribution == "PreferSameNode" and node_name
    return EndpointHints(
        for_zones=(ForZone(name=zone),) if zone else (),
        for_nodes=(ForNode(name=node_name),) if to_node else (),
    )


def _ports(service: Service, pod: Pod) -> tuple[EndpointPort, ...]:
    """The Service's ports on this Pod; one whose named targetPort the Pod lacks is left out."""
    return tuple(
        EndpointPort(
            name=port.name, protocol=port.protocol, port=number, app_protocol=port.app_protocol
        )
        for port in service.spec.ports
        if (number := target_port(port, pod)) is not None
    )


def target_port(port: ServicePort, pod: Pod) -> int | None:
    """Where a Service's port leads on this Pod; None where it has no port of that name."""
    if not isinstance(port.target_port, str):
        return port.target_port or port.port
    return next(
        (
            open_port.container_port
            for container in pod.spec.containers
            for open_port in container.ports
            if (open_port.name, open_port.protocol) == (port.target_port, port.protocol)
        ),
        None,
    )
