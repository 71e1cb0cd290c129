"""Causes in names of ports: what a Service, its EndpointSlices and its Pods call them."""

from __future__ import annotations

from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.pod import Pod
from hairpin.trace.case import Case, Target, cause, edited, endpoints
from hairpin.trace.values import Cause, Mend


def port_names(case: Case) -> Cause | None:
    """The Service has endpoints, and none of them for the port that was asked for."""
    target = case.target
    if target is None or target.port is None or case.leg != "request" or not endpoints(case):
        return None
    pieces = [
        one for one in case.snapshot.endpointslices.values()
        if one.service_key == target.service.key and one.endpoints
    ]  # fmt: skip
    wanted = (target.port.name, target.port.protocol)
    if any((one.name, one.protocol) == wanted for piece in pieces for one in piece.ports):
        return None
    if target.port.target_port is not None and isinstance(target.port.target_port, str):
        found = _named(case, target)
        if found is not None:
            return found
    return _mismatch(target, pieces)


def _mismatch(target: Target, pieces: list[EndpointSlice]) -> Cause | None:
    port = target.port
    assert port is not None
    has = [(piece, one) for piece in pieces for one in piece.ports]
    if not has:
        return None
    piece, one = has[0]
    mend = Mend()
    same = [other for own, other in has if own is piece]
    metadata = piece.metadata
    if len(same) == 1 and one.protocol == port.protocol and one.name and port.name:
        sed = f"s/name: {one.name}$/name: {port.name}/"
        mend = edited("endpointslice", metadata.name, metadata.namespace, sed)
    elif len(same) == 1 and one.name == port.name:
        sed = f"s/protocol: {one.protocol}$/protocol: {port.protocol}/"
        mend = edited("endpointslice", metadata.name, metadata.namespace, sed)
    said = ", ".join(f"{other.name or '(no name)'}/{other.protocol}" for _, other in has[:4])
    return cause(
        "port-name-mismatch",
        f"Service {target.name} has port {port.name or '(no name)'}/{port.protocol}, and its "
        f"EndpointSlices have {said}: endpoints count only for the port of the same name and "
        "protocol",
        mend,
        f"EndpointSlice {metadata.name}: {said}",
        of=f"Service {target.name}",
    )


def _named(case: Case, target: Target) -> Cause | None:
    """The Service's targetPort is a name that none of its Pods has."""
    port, service = target.port, target.service
    assert port is not None
    pods = [
        pod for pod in case.snapshot.pods.values()
        if pod.metadata.namespace == service.metadata.namespace
        and service.spec.selector and service.spec.selector.items() <= pod.metadata.labels.items()
    ]  # fmt: skip
    if not pods or any(_has(pod, str(port.target_port), port.protocol) for pod in pods):
        return None
    names = sorted({
        one.name for pod in pods for container in pod.spec.containers for one in container.ports
        if one.name and one.protocol == port.protocol
    })  # fmt: skip
    mend = Mend()
    if len(names) == 1:
        sed = f"s/targetPort: {port.target_port}$/targetPort: {names[0]}/"
        mend = edited("svc", service.metadata.name, service.metadata.namespace, sed)
    some = f"they have {', '.join(names)}" if names else "they name none"
    return cause(
        "named-port-missing",
        f"Service {target.name} sends to the port called {port.target_port} of its Pods, and no "
        f"container of theirs has a {port.protocol} port of that name: {some}",
        mend,
        f"targetPort {port.target_port}; Pod {pods[0].metadata.name}: {some}",
        of=f"Service {target.name}",
    )


def _has(pod: Pod, name: str, protocol: str) -> bool:
    return any(
        (one.name, one.protocol) == (name, protocol)
        for container in pod.spec.containers
        for one in container.ports
    )
