"""Objects as the rows that ``hairpin get`` prints, in kubectl's columns where kubectl has them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from hairpin.present.phrase import phrase, place
from hairpin.present.table import age

Row = list[str]
_Shape = tuple[list[str], list[str], Callable[[dict[str, Any], bool, float], list[Row]]]
"""Columns, more columns when wide, and an object's rows."""


def columns(
    kind: str,
    found: list[dict[str, Any]],
    *,
    now: float,
    wide: bool = False,
    namespace: bool = False,
    labels: bool = False,
    prefix: str = "",
) -> tuple[Row, list[Row]]:
    """Header and rows; ``namespace`` puts that in front for kinds that have one.

    ``now``: seconds since 1970, for ages.  ``labels`` adds them as the last column, ``prefix``
    is put before names (``pod/``), for lists of several kinds.
    """
    header, more, rows_of = _SHAPES[kind]
    full = [*header, *more] if wide else list(header)
    spaced = namespace and kind in _NAMESPACED
    if spaced:
        full = ["NAMESPACE", *full]
    if labels and kind not in _UNLABELLED:
        full.append("LABELS")
    rows = []
    for one in found:
        for row in rows_of(one, wide, now):
            if prefix and full[1 if spaced else 0] == "NAME":
                row[0] = prefix + row[0]
            if spaced:
                row.insert(0, one["metadata"]["namespace"])
            if labels and kind not in _UNLABELLED:
                row.append(pairs(one["metadata"].get("labels")))
            rows.append(row)
    return full, rows


def pairs(mapping: dict[str, str] | None, between: str = ",") -> str:
    """``a=b,c=d``, or ``<none>``."""
    return between.join(f"{key}={value}" for key, value in (mapping or {}).items()) or "<none>"


def name_of(kind: str, one: dict[str, Any]) -> str:
    """What an object is asked for by."""
    if kind == "virtualservers":
        return server_name(one["server"])
    if kind == "connections":
        return place(one["client"], one["client_port"])
    if kind == "ingredients":
        return str(one["name"])
    if kind == "proxies":
        return str(one["node"])
    return str(one["metadata"]["name"])


_ZONE = "topology.kubernetes.io/zone"


def server_name(server: dict[str, Any]) -> str:
    """Where a virtual server is reached: ``10.96.0.1:80``, or ``fwmark 7``."""
    if server.get("fwmark"):
        return f"fwmark {server['fwmark']}"
    return place(server["ip"], server["port"])


def _node(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    spec, metadata = one["spec"], one["metadata"]
    cidrs = ",".join(spec.get("podCIDRs") or ()) or spec.get("podCIDR", "<none>")
    row = [metadata["name"], node_status(one), _age(metadata, now), cidrs]
    if wide:
        addresses = one["status"]["addresses"]
        row.append(",".join(a["address"] for a in addresses if a["type"] == "InternalIP"))
        row.append((metadata.get("labels") or {}).get(_ZONE, "<none>"))
    return [row]


def node_status(one: dict[str, Any]) -> str:
    """As kubectl says it: ``Ready``, ``NotReady,SchedulingDisabled``."""
    conditions = one.get("status", {}).get("conditions") or []
    lost = any(each["type"] == "Ready" and each["status"] != "True" for each in conditions)
    closed = ",SchedulingDisabled" if one["spec"].get("unschedulable") else ""
    return ("NotReady" if lost else "Ready") + closed


def _namespace(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    return [[one["metadata"]["name"], one["status"]["phase"]]]


def _deployment(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    spec, status = one["spec"], one["status"]
    row = [
        one["metadata"]["name"],
        f"{status['readyReplicas']}/{spec.get('replicas', 1)}",
        str(status["updatedReplicas"]),
        str(status["availableReplicas"]),
        _age(one["metadata"], now),
    ]
    if wide:
        containers = spec["template"]["spec"]["containers"]
        row.append(",".join(each["name"] for each in containers))
        row.append(pairs(spec.get("selector", {}).get("matchLabels")))
    return [row]


def _pod(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    status = one.get("status", {})
    containers = status.get("containerStatuses", [])
    ready = sum(1 for each in containers if each["ready"])
    row = [
        one["metadata"]["name"],
        f"{ready}/{len(one['spec']['containers'])}",
        "Terminating" if one["metadata"].get("deletionTimestamp") else pod_status(status),
        str(sum(each["restartCount"] for each in containers)),
        _age(one["metadata"], now, status.get("startTime")),
    ]
    if wide:
        row += [status.get("podIP", "<none>"), one["spec"].get("nodeName", "<none>")]
    return [row]


def pod_status(status: dict[str, Any]) -> str:
    """One word for a Pod: why a container is not running, or else the Pod's phase."""
    for each in status.get("containerStatuses", []):
        state = each["state"]
        if reason := (state.get("waiting") or state.get("terminated") or {}).get("reason"):
            return str(reason)
    return str(status.get("phase", "Pending"))


def _age(metadata: dict[str, Any], now: float, started: str | None = None) -> str:
    since = started or metadata.get("creationTimestamp")
    if since is None:
        return "<unknown>"
    return age(now - datetime.fromisoformat(since).timestamp())


def _service(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    spec = one["spec"]
    ports = ",".join(_served(port) for port in _ports(spec))
    row = [
        one["metadata"]["name"],
        spec.get("type", "ClusterIP"),
        spec.get("clusterIP") or "<none>",
        _external(one),
        ports or "<none>",
        _age(one["metadata"], now),
    ]
    if wide:
        row.append(pairs(spec.get("selector")))
    return [row]


def _served(port: dict[str, Any]) -> str:
    """``80/TCP``, ``80:30080/TCP`` with a node port."""
    on_nodes = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{on_nodes}/{port.get('protocol', 'TCP')}"


def _external(one: dict[str, Any]) -> str:
    """Addresses from beyond the cluster; for ExternalName the name that it stands for."""
    spec = one["spec"]
    ingress = one.get("status", {}).get("loadBalancer", {}).get("ingress", [])
    found = [each.get("ip") or each.get("hostname") or "" for each in ingress]
    found += spec.get("externalIPs") or []
    return ",".join(each for each in found if each) or spec.get("externalName") or "<none>"


def _ports(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return list(spec.get("ports") or [])


def _endpoints(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    ports = ",".join(str(port.get("port", "*")) for port in _ports(one)) or "<unset>"
    ready: Row = []
    waiting: Row = []
    for endpoint in one.get("endpoints") or []:
        is_ready = endpoint.get("conditions", {}).get("ready") is not False
        going = endpoint.get("conditions", {}).get("terminating") is True
        address = endpoint["addresses"][0] + ("(terminating)" if going else "")
        (ready if is_ready else waiting).append(address)
    row = [
        one["metadata"]["name"],
        one["addressType"],
        ports,
        ",".join(ready) or "<none>",
        _age(one["metadata"], now),
    ]
    if wide:
        row.append(",".join(waiting) or "<none>")
    return [row]


def _virtual_server(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    """A line for the virtual server, and one for each of its real servers, as ipvsadm -Ln."""
    server = one["server"]
    owner = one["owner"] or "<none>"
    first = [
        "FWM" if server.get("fwmark") else server["protocol"],
        server_name(server),
        server["scheduler"],
        "",
        "",
        "",
        str(one["counters"]["connections"]),
    ]
    rows = [[*first, one["node"], owner] if wide else first]
    for each in one["real_servers"]:
        real = each["server"]
        row = [
            "",
            f"-> {place(real['ip'], real['port'])}",
            real["forwarding"],
            str(real["weight"]),
            str(each["active"]),
            str(each["inactive"]),
            str(each["counters"]["connections"]),
        ]
        rows.append([*row, "", ""] if wide else row)
    return rows


def _connection(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    row = [
        one["protocol"],
        place(one["client"], one["client_port"]),
        place(one["vip"], one["vport"]),
        place(one["server"], one["server_port"]),
        one["state"],
        f"{one['expires']}s",
    ]
    return [[*row, one["node"]] if wide else row]


def _ingredient(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    return [[one["name"], one["value"], one["meaning"]]]


def _proxy(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    """A line for the node's proxy, and one for each thing that the kernel refuses."""
    pending = one["pending"]
    row = [
        one["node"],
        one["mode"],
        "yes" if one["synced"] else "no",
        str(one["services"]),
        str(sum(one["objects"].values())),
        str(sum(one["drift"].values())),
        str(len(one["terminating"])),
    ]
    more = [
        str(one["syncs"]),
        str(one["full_syncs"]),
        f"{one['last_duration'] * 1000:.1f} ms",
        str(len(one["problems"])),
        str(len(one["conflicts"])),
    ]
    said = [_refusal(each) for each in pending] or ["<none>"]
    if one["pending_count"] > len(pending):
        said.append(f"and {one['pending_count'] - len(pending)} more")
    rows = [[*row, said[0], *(more if wide else [])]]
    blank = [""] * len(row)
    return rows + [[*blank, each, *([""] * len(more) if wide else [])] for each in said[1:]]


def _refusal(pending: dict[str, Any]) -> str:
    """``ENOSPC: add virtual server TCP 10.96.0.1:80, rr (again in 4s)``."""
    what = f"{pending['errno']}: {pending['verb']} {phrase(pending['object'])}"
    return f"{what} (again in {age(pending['retry_in'])})"


_NAMESPACED = ("deployments", "pods", "services", "endpoints")
_UNLABELLED = ("virtualservers", "connections", "ingredients", "proxies")

_SHAPES: dict[str, _Shape] = {
    "nodes": (["NAME", "STATUS", "AGE", "POD-CIDR"], ["INTERNAL-IP", "ZONE"], _node),
    "namespaces": (["NAME", "STATUS"], [], _namespace),
    "deployments": (
        ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"],
        ["CONTAINERS", "SELECTOR"],
        _deployment,
    ),
    "pods": (["NAME", "READY", "STATUS", "RESTARTS", "AGE"], ["IP", "NODE"], _pod),
    "services": (
        ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"],
        ["SELECTOR"],
        _service,
    ),
    "endpoints": (["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS", "AGE"], ["NOT-READY"], _endpoints),
    "virtualservers": (
        ["PROT", "ADDRESS", "SCHEDULER", "WEIGHT", "ACTIVE", "INACTIVE", "CONNECTIONS"],
        ["NODE", "OWNER"],
        _virtual_server,
    ),
    "connections": (
        ["PROT", "CLIENT", "VIRTUAL-SERVER", "REAL-SERVER", "STATE", "EXPIRES"],
        ["NODE"],
        _connection,
    ),
    "proxies": (
        ["NODE", "MODE", "SYNCED", "SERVICES", "OBJECTS", "DRIFT", "TERMINATING", "PENDING"],
        ["SYNCS", "FULL", "DURATION", "PROBLEMS", "CONFLICTS"],
        _proxy,
    ),
    "ingredients": (["INGREDIENT", "VALUE", "MEANING"], [], _ingredient),
}
