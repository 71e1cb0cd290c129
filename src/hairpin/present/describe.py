"""Objects told in full, as ``hairpin describe`` prints them: kubectl's headings, and below them
what the kernel holds for the object, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hairpin.present.objects import pairs, pod_status
from hairpin.present.phrase import phrase
from hairpin.present.table import pad, table, width

Shape = dict[str, Any]
Field = tuple[str, str | list[str]]

_NONE = "<none>"


def service(one: Shape, slices: list[Shape], owned: list[Shape]) -> str:
    """A Service with its endpoints; ``slices``: EndpointSlices, also other Services'."""
    spec = one["spec"]
    own = [each for each in slices if _service_of(each) == _key(one)]
    fields: list[Field] = [
        *_metadata(one),
        ("Selector", pairs(spec.get("selector"))),
        ("Type", spec.get("type", "ClusterIP")),
        *_addresses(one),
        *(field for port in spec.get("ports") or [] for field in _port(port)),
        *_policies(spec),
    ]
    ends = [(each, end) for each in own for end in each.get("endpoints") or []]
    rows = [_endpoint(each, end) for each, end in ends]
    header = ["ADDRESS", "PORTS", "READY", "POD", "NODE"]
    parts = [
        _fields(fields),
        _section("Endpoints", header, rows, "none: no Pod is selected, or none has an address"),
        _kernel(owned, _why_nothing(one)),
    ]
    return "\n\n".join(parts)


def _addresses(one: Shape) -> Iterator[Field]:
    """Where a Service is reached; what it does not have is left out, but for its cluster IP."""
    spec = one["spec"]
    yield "IP", ",".join(spec.get("clusterIPs") or []) or spec.get("clusterIP") or _NONE
    if spec.get("externalName"):
        yield "External Name", spec["externalName"]
    if spec.get("externalIPs"):
        yield "External IPs", ",".join(spec["externalIPs"])
    ingress = ((one.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    if found := [each.get("ip") or each.get("hostname") or "" for each in ingress]:
        yield "LoadBalancer Ingress", ",".join(found)


def _port(port: Shape) -> Iterator[Field]:
    protocol = port.get("protocol", "TCP")
    name = port.get("name", "<unset>")
    yield "Port", f"{name}  {port['port']}/{protocol}"
    yield "TargetPort", f"{port.get('targetPort', port['port'])}/{protocol}"
    if port.get("nodePort"):
        yield "NodePort", f"{name}  {port['nodePort']}/{protocol}"


def _policies(spec: Shape) -> Iterator[Field]:
    """What says who may use a Service, and who answers; what is as usual is left out."""
    affinity = spec.get("sessionAffinity", "None")
    seconds = (spec.get("sessionAffinityConfig") or {}).get("clientIP", {}).get("timeoutSeconds")
    yield "Session Affinity", f"{affinity}, {seconds} s" if seconds else affinity
    if spec.get("externalTrafficPolicy"):
        yield "External Traffic Policy", spec["externalTrafficPolicy"]
    if spec.get("internalTrafficPolicy") == "Local":
        yield "Internal Traffic Policy", "Local"
    if spec.get("trafficDistribution"):
        yield "Traffic Distribution", spec["trafficDistribution"]
    if spec.get("healthCheckNodePort"):
        yield "HealthCheck NodePort", str(spec["healthCheckNodePort"])
    if spec.get("loadBalancerSourceRanges"):
        yield "LoadBalancer Source Ranges", ",".join(spec["loadBalancerSourceRanges"])
    if spec.get("publishNotReadyAddresses"):
        yield "Not Ready Too", "publishNotReadyAddresses"


def pod(one: Shape, slices: list[Shape], owned: list[Shape]) -> str:
    """A Pod with its containers, and the Services that it answers for."""
    spec, status = one["spec"], one.get("status", {})
    answers = sorted(
        {
            "/".join(service)
            for each in slices
            for end in each.get("endpoints") or []
            if _is_pod(end, one) and (service := _service_of(each)) is not None
        }
    )
    fields: list[Field] = [
        *_metadata(one),
        ("Node", spec.get("nodeName", _NONE)),
        ("Start Time", status.get("startTime", _NONE)),
        ("Status", _pod_status(one)),
        *_refusal(status),
        ("IP", status.get("podIP", _NONE)),
        *([("Link", status["link"])] if "link" in status else []),
        ("Controlled By", _owner(one)),
        ("Services", answers or _NONE),
    ]
    states = {each["name"]: each for each in status.get("containerStatuses", [])}
    parts = [_fields(fields), "Containers:"]
    for each in spec["containers"]:
        said = _fields(_container(each, states.get(each["name"], {})), indent=4)
        parts[-1] += f"\n  {each['name']}:\n{said}"
    parts.append(_kernel(owned, "nothing: it has no address yet, or is on the node's own network"))
    return "\n\n".join(parts)


def _refusal(status: Shape) -> list[Field]:
    """Why the Pod waits for a node, as the scheduler says it."""
    return [
        ("Reason", f"{each['reason']}: {each['message']}")
        for each in status.get("conditions") or ()
        if each["type"] == "PodScheduled" and each["status"] == "False"
    ]


def _pod_status(one: Shape) -> str:
    going = one["metadata"].get("deletionTimestamp")
    return "Terminating" if going else pod_status(one.get("status", {}))


def node(one: Shape, pods: list[Shape], owned: list[Shape]) -> str:
    """A node with its Pods; ``pods``: also other nodes'."""
    spec, name = one["spec"], one["metadata"]["name"]
    addresses = [f"{each['type']} {each['address']}" for each in one["status"]["addresses"]]
    fields: list[Field] = [
        *_metadata(one),
        ("Addresses", addresses),
        ("Pod CIDRs", spec.get("podCIDRs") or _NONE),
        *([("Link", one["status"]["link"])] if "link" in one["status"] else []),
    ]
    rows = [
        [
            each["metadata"]["namespace"],
            each["metadata"]["name"],
            _pod_status(each),
            each.get("status", {}).get("podIP", _NONE),
        ]
        for each in pods
        if each["spec"].get("nodeName") == name
    ]
    header = ["NAMESPACE", "NAME", "STATUS", "IP"]
    return "\n\n".join(
        [_fields(fields), _section("Pods", header, rows, "none"), _kernel(owned, "nothing")]
    )


def deployment(one: Shape, pods: list[Shape]) -> str:
    """A Deployment with the Pods that it made; ``pods``: also others."""
    spec, status = one["spec"], one["status"]
    replicas = f"{spec.get('replicas', 1)} desired, {status['replicas']} there, "
    fields: list[Field] = [
        *_metadata(one),
        ("Selector", pairs(spec.get("selector", {}).get("matchLabels"))),
        ("Replicas", replicas + f"{status['readyReplicas']} ready"),
    ]
    own = f"Deployment/{one['metadata']['name']}"
    rows = [
        [
            each["metadata"]["name"],
            _pod_status(each),
            each.get("status", {}).get("podIP", _NONE),
        ]
        for each in pods
        if _owner(each) == own and each["metadata"]["namespace"] == one["metadata"]["namespace"]
    ]
    return f"{_fields(fields)}\n\n{_section('Pods', ['NAME', 'STATUS', 'IP'], rows, 'none')}"


def _metadata(one: Shape) -> list[Field]:
    metadata = one["metadata"]
    fields: list[Field] = [("Name", metadata["name"])]
    if "namespace" in metadata:
        fields.append(("Namespace", metadata["namespace"]))
    for label in ("labels", "annotations"):
        said = [f"{key}={value}" for key, value in (metadata.get(label) or {}).items()]
        fields.append((label.title(), said or _NONE))
    return fields


def _container(one: Shape, status: Shape) -> list[Field]:
    ports = [f"{each['containerPort']}/{each.get('protocol', 'TCP')}" for each in
             one.get("ports") or []]  # fmt: skip
    command = [*(one.get("command") or []), *(one.get("args") or [])]
    ((state, details),) = (status.get("state") or {"waiting": {}}).items()
    said = f"{state.title()}"
    if details.get("reason"):
        said += f", {details['reason']}"
    if details.get("exitCode") is not None:
        said += f", exit code {details['exitCode']}"
    fields: list[Field] = [
        ("Runs", " ".join(command) if command else "the built-in echo server"),
        ("Ports", ", ".join(ports) or _NONE),
        ("State", said),
        ("Ready", str(status.get("ready", False))),
        ("Restart Count", str(status.get("restartCount", 0))),
    ]
    if probe := one.get("readinessProbe"):
        fields.append(("Readiness", _probe(probe)))
    if one.get("env"):
        fields.append(("Environment", [f"{e['name']}={e.get('value', '')}" for e in one["env"]]))
    return fields


def _probe(probe: Shape) -> str:
    if "httpGet" in probe:
        what = f"HTTP {probe['httpGet'].get('path', '/')} on port {probe['httpGet']['port']}"
    elif "tcpSocket" in probe:
        what = f"TCP connection to port {probe['tcpSocket']['port']}"
    else:
        what = "exec " + " ".join((probe.get("exec") or {}).get("command", []))
    return f"{what}, every {probe.get('periodSeconds', 10)} s"


def _endpoint(one: Shape, end: Shape) -> list[str]:
    ports = ",".join(str(port.get("port", "*")) for port in one.get("ports") or [])
    ready = (end.get("conditions") or {}).get("ready") is not False
    return [
        ",".join(end["addresses"]),
        ports or "<unset>",
        "yes" if ready else "no",
        (end.get("targetRef") or {}).get("name", _NONE),
        end.get("nodeName", _NONE),
    ]


def _is_pod(end: Shape, one: Shape) -> bool:
    target = end.get("targetRef") or {}
    here = (target.get("namespace"), target.get("name"))
    return target.get("kind") == "Pod" and here == _key(one)


def _service_of(one: Shape) -> tuple[str, str] | None:
    name = (one["metadata"].get("labels") or {}).get("kubernetes.io/service-name")
    return (one["metadata"]["namespace"], name) if name else None


def _key(one: Shape) -> tuple[str, str]:
    return one["metadata"]["namespace"], one["metadata"]["name"]


def _owner(one: Shape) -> str:
    owners = one["metadata"].get("ownerReferences") or []
    return f"{owners[0]['kind']}/{owners[0]['name']}" if owners else _NONE


def _why_nothing(one: Shape) -> str:
    spec = one["spec"]
    if spec.get("type") == "ExternalName":
        return "nothing: an ExternalName is a name for another name"
    if spec.get("clusterIP") == "None":
        return "nothing: it is headless, its name leads to the Pods themselves"
    conditions = (one.get("status") or {}).get("conditions") or []
    reasons = [each["message"] for each in conditions if each["type"] == "Served"]
    return "nothing: " + (reasons[0] if reasons else "it has no address to serve")


def _kernel(owned: list[Shape], nothing: str) -> str:
    """What the kernel holds for the object, by namespace."""
    if not owned:
        return f"In the kernel: {nothing}"
    parts = []
    for netns in dict.fromkeys(one["netns"] for one in owned):
        here = [one for one in owned if one["netns"] == netns]
        where = f"node {here[0]['node']}" if here[0]["node"] else f"namespace {netns}"
        rows = [[phrase(one["object"]), one["why"], _held(one["held"])] for one in here]
        header = ["WHAT", "WHY", "THERE"]
        parts.append(_section(f"In the kernel, {where}", header, rows, ""))
    return "\n\n".join(parts)


def _held(held: bool | None) -> str:
    return {True: "yes", False: "MISSING", None: "-"}[held]


def _section(title: str, header: list[str], rows: list[list[str]], nothing: str) -> str:
    if not rows:
        return f"{title}: {nothing}"
    lines = table(header, rows).splitlines()
    return "\n".join([f"{title}:", *(f"  {line}" for line in lines)])


def _fields(fields: list[Field], indent: int = 0) -> str:
    """``Name:  value`` with the values in one column; several values are lines of their own."""
    room = max(width(name) for name, _ in fields) + 3
    made = []
    for name, value in fields:
        values = [value] if isinstance(value, str) else value
        first = " " * indent + pad(f"{name}:", room)
        made += [(first if not index else " " * (indent + room)) + one for index, one in
                 enumerate(values)]  # fmt: skip
    return "\n".join(line.rstrip() for line in made)
