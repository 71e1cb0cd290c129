"""Objects as the rows that ``hairpin get`` prints, in kubectl's columns where kubectl has them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from hairpin.present.table import age

Row = list[str]
_Shape = tuple[list[str], list[str], Callable[[dict[str, Any], bool, float], list[Row]]]
"""Columns, more columns when wide, and an object's rows."""


def columns(
    kind: str, found: list[dict[str, Any]], *, now: float, wide: bool, namespace: bool
) -> tuple[Row, list[Row]]:
    """Header and rows; ``namespace`` puts that in front for kinds that have one.

    ``now``: seconds since 1970, for ages.
    """
    header, more, rows_of = _SHAPES[kind]
    full = [*header, *more] if wide else list(header)
    rows = []
    spaced = namespace and kind in ("pods", "services", "endpoints")
    for one in found:
        for row in rows_of(one, wide, now):
            rows.append([one["metadata"]["namespace"], *row] if spaced else row)
    return (["NAMESPACE", *full] if spaced else full), rows


def name_of(kind: str, one: dict[str, Any]) -> str:
    """What an object is asked for by."""
    if kind == "virtualservers":
        return _address(one["server"]["ip"], one["server"]["port"])
    if kind == "ingredients":
        return str(one["name"])
    return str(one["metadata"]["name"])


def _node(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    row = [one["metadata"]["name"], "Ready", one["spec"]["podCIDR"]]
    if wide:
        addresses = one["status"]["addresses"]
        row.append(",".join(a["address"] for a in addresses if a["type"] == "InternalIP"))
    return [row]


def _pod(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    status = one.get("status", {})
    containers = status.get("containerStatuses", [])
    ready = sum(1 for each in containers if each["ready"])
    reasons = [each["state"].get("waiting", {}).get("reason") for each in containers]
    shown = next((reason for reason in reasons if reason), status.get("phase", "Pending"))
    row = [
        one["metadata"]["name"],
        f"{ready}/{len(one['spec']['containers'])}",
        shown,
        str(sum(each["restartCount"] for each in containers)),
        _age(status.get("startTime"), now),
    ]
    if wide:
        row += [status.get("podIP", "<none>"), one["spec"].get("nodeName", "<none>")]
    return [row]


def _age(started: str | None, now: float) -> str:
    if started is None:
        return "<unknown>"
    return age(now - datetime.fromisoformat(started).timestamp())


def _service(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    spec = one["spec"]
    ports = ",".join(f"{port['port']}/{port.get('protocol', 'TCP')}" for port in _ports(spec))
    row = [
        one["metadata"]["name"],
        spec.get("type", "ClusterIP"),
        spec.get("clusterIP") or spec.get("externalName") or "<none>",
        ports or "<none>",
    ]
    if wide:
        selector = spec.get("selector") or {}
        row.append(",".join(f"{k}={v}" for k, v in selector.items()) or "<none>")
    return [row]


def _ports(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return list(spec.get("ports") or [])


def _endpoints(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    ports = ",".join(str(port.get("port", "*")) for port in _ports(one)) or "<unset>"
    ready: Row = []
    waiting: Row = []
    for endpoint in one.get("endpoints") or []:
        is_ready = endpoint.get("conditions", {}).get("ready") is not False
        (ready if is_ready else waiting).append(endpoint["addresses"][0])
    row = [
        one["metadata"]["name"],
        one["addressType"],
        ports,
        ",".join(ready) or "<none>",
    ]
    if wide:
        row.append(",".join(waiting) or "<none>")
    return [row]


def _virtual_server(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    """A line for the virtual server, and one for each of its real servers, as ipvsadm -Ln."""
    server = one["server"]
    owner = one["owner"] or "<none>"
    first = [
        server["protocol"],
        _address(server["ip"], server["port"]),
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
            f"-> {_address(real['ip'], real['port'])}",
            real["forwarding"],
            str(real["weight"]),
            str(each["active"]),
            str(each["inactive"]),
            str(each["counters"]["connections"]),
        ]
        rows.append([*row, "", ""] if wide else row)
    return rows


def _ingredient(one: dict[str, Any], wide: bool, now: float) -> list[Row]:
    return [[one["name"], one["value"], one["meaning"]]]


def _address(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


_SHAPES: dict[str, _Shape] = {
    "nodes": (["NAME", "STATUS", "POD-CIDR"], ["INTERNAL-IP"], _node),
    "pods": (["NAME", "READY", "STATUS", "RESTARTS", "AGE"], ["IP", "NODE"], _pod),
    "services": (["NAME", "TYPE", "CLUSTER-IP", "PORT(S)"], ["SELECTOR"], _service),
    "endpoints": (["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS"], ["NOT-READY"], _endpoints),
    "virtualservers": (
        ["PROT", "ADDRESS", "SCHEDULER", "WEIGHT", "ACTIVE", "INACTIVE", "CONNECTIONS"],
        ["NODE", "OWNER"],
        _virtual_server,
    ),
    "ingredients": (["INGREDIENT", "VALUE", "MEANING"], [], _ingredient),
}
