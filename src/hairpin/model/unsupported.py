"""Fields that change what runs in Kubernetes and that hairpin passes over.

What makes no difference to a lab (images, volumes, resources, tolerations) is not
listed.  A field that becomes supported leaves this table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_CONTAINER = (
    "envFrom",
    "env[].valueFrom",
    "lifecycle.postStart",
    "lifecycle.preStop.tcpSocket",
    "livenessProbe",
    "ports[].hostIP",
    "ports[].hostPort",
    "readinessProbe.grpc",
    "securityContext.capabilities",
    "securityContext.runAsGroup",
    "securityContext.runAsUser",
    "startupProbe",
)
_POD_SPEC = (
    "affinity",
    "dnsConfig",
    "dnsPolicy",
    "hostAliases",
    "hostIPC",
    "hostPID",
    "initContainers",
    "nodeSelector",
    "readinessGates",
    "schedulingGates",
    "securityContext.runAsGroup",
    "securityContext.runAsUser",
    "securityContext.sysctls",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "topologySpreadConstraints",
    *(f"containers[].{path}" for path in _CONTAINER),
)
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "Pod": tuple(f"spec.{path}" for path in _POD_SPEC),
    "Deployment": (
        "spec.minReadySeconds",
        "spec.paused",
        *(f"spec.template.spec.{path}" for path in _POD_SPEC),
    ),
}
_TOPOLOGY = (
    "service.kubernetes.io/topology-aware-hints",  # the older name
    "service.kubernetes.io/topology-mode",
)
_HARMLESS = {"dnsPolicy": ("ClusterFirst", "Default")}
"""Values that say nothing of their own: what the API server fills in."""


def unsupported(raw: Mapping[str, Any]) -> list[str]:
    """The paths of such fields in an object of the API's JSON shape: ``spec.hostPID``.

    Empty and false values do not count.
    """
    if raw.get("kind") == "Service":
        return list(_of_service(raw))
    paths = _FIELDS.get(str(raw.get("kind")), ())
    return [found for path in paths for found in _present(raw, path.split("."), "")]


def _of_service(raw: Mapping[str, Any]) -> Iterator[str]:
    """Hints by the nodes' processors (KEP-2433): the lab's EndpointSlices get none."""
    metadata = raw.get("metadata")
    notes = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    if isinstance(notes, Mapping):
        for name in _TOPOLOGY:
            if notes.get(name) in ("Auto", "auto"):
                yield f"metadata.annotations[{name}]"


def _present(value: object, path: list[str], prefix: str) -> Iterator[str]:
    if not path:
        yield prefix
        return
    step, rest = path[0], path[1:]
    name = step.removesuffix("[]")
    inner = value.get(name) if isinstance(value, Mapping) else None
    if not inner or inner in _HARMLESS.get(name, ()):
        return
    field = f"{prefix}.{name}".lstrip(".")
    if step == name:
        yield from _present(inner, rest, field)
    elif isinstance(inner, list | tuple):
        for index, one in enumerate(inner):
            yield from _present(one, rest, f"{field}[{index}]")
