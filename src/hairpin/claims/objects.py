"""Small objects for claims, in few words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hairpin.claims.cast import HOST_PORT, PORT
from hairpin.claims.promises import Answered, Backend, From, Manifest, Slice, To
from hairpin.model.address import IP

N1 = From("node", "n1")
N2 = From("node", "n2")
LOCALHOST = From("localhost", "n1")
OUTSIDE = From("outside")
CLIENT = From("pod", "n1-c")
"""A Pod on the first node that is nobody's endpoint unless said."""

BOTH = Answered(by=("n1-a", "n2-a"))
"""An endpoint on the first node and one on another, both of them."""

PortSpec = tuple[str, str, int, int | str]
"""Name, protocol, port, targetPort."""
HTTP: PortSpec = ("", "TCP", 80, PORT)
UDP: PortSpec = ("", "UDP", 80, PORT)
SCTP: PortSpec = ("", "SCTP", 80, PORT)


def pod(name: str) -> From:
    return From("pod", name)


def cluster_ip(service: str = "web", port: str | int = 0, family: Literal[4, 6] = 4) -> To:
    return To(kind="cluster-ip", service=service, port=port, family=family)


def node_port(
    node: str = "n1", service: str = "web", port: str | int = 0, family: Literal[4, 6] = 4
) -> To:
    return To(kind="node-port", node=node, service=service, port=port, family=family)


def external_ip(service: str = "web", port: str | int = 0, family: Literal[4, 6] = 4) -> To:
    return To(kind="external-ip", service=service, port=port, family=family)


def load_balancer_ip(service: str = "web", port: str | int = 0, family: Literal[4, 6] = 4) -> To:
    return To(kind="load-balancer-ip", service=service, port=port, family=family)


def address(ip: IP, port: int) -> To:
    """What was somebody's once, or is nobody's."""
    return To(kind="address", address=str(ip), port=port)


def service(
    name: str = "web",
    ports: Sequence[PortSpec] = (HTTP,),
    *,
    labels: dict[str, str] | None = None,
    status: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A Service; ``spec`` in the API's words."""
    listed = [
        {
            "port": port,
            "protocol": protocol,
            "targetPort": target,
            **({"name": said} if said else {}),
        }
        for said, protocol, port, target in ports
    ]
    made: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {**({"ports": listed} if listed else {}), **spec},
    }
    if status:
        made["status"] = status
    return made


def at_node_port(made: dict[str, Any], number: int) -> dict[str, Any]:
    """The Service with that node port.  One that is to be given up must be nobody else's: the lab
    gives the lowest that is free to whoever comes next."""
    made["spec"]["ports"][0]["nodePort"] = number
    return made


def backends(
    *who: str | Backend,
    service: str = "web",
    ports: Sequence[tuple[str, str, int]] = (("", "TCP", PORT),),
    name: str = "",
    family: Literal[4, 6] = 4,
    labels: dict[str, str] | None = None,
) -> Slice:
    """An EndpointSlice with Pods of the cast; a Pod's name alone is a ready endpoint."""
    return Slice(
        name=name or f"{service}-{family}",
        service=service,
        backends=tuple(Backend(pod=one) if isinstance(one, str) else one for one in who),
        ports=tuple(ports),
        family=family,
        labels=labels or {},
    )


def web(
    *who: str | Backend, ports: Sequence[PortSpec] = (HTTP,), **spec: Any
) -> tuple[Manifest, ...]:
    """The Service web and a slice with these endpoints."""
    numbers = [(name, protocol, int(target)) for name, protocol, _, target in ports]
    return service("web", ports, **spec), backends(*who, ports=numbers)


def host_backends(*who: str, service: str = "web") -> Slice:
    """Pods in their node's network as endpoints."""
    return backends(*who, service=service, ports=(("", "TCP", HOST_PORT),))


def own_pod(
    name: str,
    *,
    node: str = "n1",
    ports: Sequence[tuple[str, str, int]] = (("http", "TCP", 8080),),
    labels: dict[str, str] | None = None,
    readiness: list[str] | None = None,
    grace: int | None = None,
) -> dict[str, Any]:
    """A Pod of the claim itself, labelled app=web; ``readiness`` is a command, asked each second.

    On labs with one node it is there.
    """
    container: dict[str, Any] = {
        "name": "echo",
        "ports": [
            {"name": said, "protocol": protocol, "containerPort": number}
            for said, protocol, number in ports
        ],
    }
    if readiness:
        container["readinessProbe"] = {
            "exec": {"command": readiness}, "periodSeconds": 1, "failureThreshold": 1,
        }  # fmt: skip
    spec: dict[str, Any] = {"nodeName": node, "containers": [container]}
    if grace is not None:
        spec["terminationGracePeriodSeconds"] = grace
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {"app": "web"}},
        "spec": spec,
    }


SELECTOR = {"app": "web"}


def deployment(
    name: str,
    replicas: int,
    *,
    labels: dict[str, str] | None = None,
    container: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A Deployment of echo servers, its Pods labelled app=NAME and whatever more.

    ``container`` has what is otherwise than the built-in server's, ``spec`` what the Pods' is.
    """
    own = {"app": name, **(labels or {})}
    echo = {"name": "echo", "ports": [{"containerPort": PORT}], **(container or {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": own},
            "template": {"metadata": {"labels": own}, "spec": {**spec, "containers": [echo]}},
        },
    }
