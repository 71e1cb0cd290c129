"""The lab that faults are made in: two nodes, three Pods and their Services, a client."""

from __future__ import annotations

from hairpin.claims.faults_base import Manifest
from hairpin.claims.tracing import Question
from hairpin.lab.names import OUTSIDE, node_netns

N1, N2 = node_netns("n1"), node_netns("n2")
OUT = OUTSIDE
FOO, BAR, FAR, CLIENT = "10.244.1.10", "10.244.1.11", "10.244.2.10", "10.244.1.20"
VIP_FOO, VIP_BAR, VIP_FAR = "10.96.0.101", "10.96.0.102", "10.96.0.103"
FAR6, BAR6 = "fd00:10:244:2::2", "fd00:10:244:1::2"  # the first of each node, by names
VIP6_BAR, VIP6_FAR = "fd00:10:96::102", "fd00:10:96::103"
GATEWAY6 = "fd00:10:244:1::1"
GATEWAY = "10.244.1.1"


def pod(name: str, node: str, address: str, **spec: object) -> Manifest:
    """A Pod of the cast; without ``containers`` it is the built-in server, TCP and UDP on 8080."""
    containers = spec.pop("containers", None) or [
        {
            "name": "echo",
            "ports": [
                {"containerPort": 8080, "protocol": "TCP", "name": "http"},
                {"containerPort": 8080, "protocol": "UDP", "name": "udp"},
            ],
        }
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": name},
            "annotations": {"hairpin.dev/ip": address},
        },
        "spec": {"nodeName": node, "containers": containers, **spec},
    }


def service(name: str, vip: str, **spec: object) -> Manifest:
    """A Service of the Pod of that name, port 80 for TCP and UDP."""
    own = {
        "clusterIP": vip,
        "selector": {"app": name},
        "ports": [
            {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"},
            {"name": "udp", "port": 80, "targetPort": 8080, "protocol": "UDP"},
        ],
        **spec,
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": own}


def node(name: str, *cidrs: str) -> Manifest:
    """A node of the cast; its Pods' network of each family."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": list(cidrs)},
    }


def _dual(name: str, vip: str, six: str) -> Manifest:
    """A Service of both families."""
    return service(name, vip, clusterIPs=[vip, six], ipFamilyPolicy="RequireDualStack")


OBJECTS: tuple[Manifest, ...] = (
    node("n1", "10.244.1.0/24", "fd00:10:244:1::/64"),
    node("n2", "10.244.2.0/24", "fd00:10:244:2::/64"),
    pod("foo", "n1", FOO),
    pod("bar", "n1", BAR),
    pod("far", "n2", FAR),
    pod(
        "client", "n1", CLIENT, containers=[{"name": "shell", "command": ["sleep", "infinity"]}],
        terminationGracePeriodSeconds=0,
    ),
    _dual("foo", VIP_FOO, "fd00:10:96::101"),
    _dual("bar", VIP_BAR, VIP6_BAR),
    _dual("far", VIP_FAR, VIP6_FAR),
)  # fmt: skip


def ask(source: str, to: str, **more: object) -> Question:
    """A Question of the cast."""
    return Question(source=source, to=to, **more)  # type: ignore[arg-type]
