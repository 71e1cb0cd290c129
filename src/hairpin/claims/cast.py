"""The cluster that claims are played on: nodes in two zones, Pods that answer, a client outside.

Endpoints of claims are these Pods, whatever conditions the claims' EndpointSlices give them; so a
claim needs no Pod of its own unless it is about Pods.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from hairpin.claims.promises import From, Need
from hairpin.lab.names import OUTSIDE, node_netns, pod_netns
from hairpin.lab.session import LabError
from hairpin.model.address import IP, ip

NAMESPACE = "check"
ZONES = {"n1": "z1", "n2": "z1", "n3": "z2"}
"""The zone of each node."""
PODS = ("n1-a", "n1-b", "n1-c", "n2-a", "n2-b", "n3-a")
"""Begin with their node's name."""
HOST_PODS = ("n1-host", "n2-host")
"""In the network of their node."""

PORT, OTHER_PORT, HOST_PORT = 8080, 8081, 9376
"""Where Pods of the cast listen, by TCP, UDP and SCTP, and those in their node's network by TCP and
UDP."""
SERVICE_CIDRS = "10.96.0.0/16,fd00:10:96::/112"
_ZONE = "topology.kubernetes.io/zone"
_VIA = 250  # the last byte of an address that no node of a lab comes to have
_POD_CIDRS = {"n1": 1, "n2": 2, "n3": 3}


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A Pod of the cast, as the lab made it; ``node`` is what slices say of it."""

    name: str
    node: str
    ips: Mapping[int, IP]

    @property
    def zone(self) -> str:
        return ZONES[self.node]


class Cast(msgspec.Struct, frozen=True, kw_only=True):
    """Who is there, and where.  ``nodes``: each one's addresses by IP version.

    ``names``: what the lab calls the nodes.
    """

    members: Mapping[str, Member]
    nodes: Mapping[str, Mapping[int, IP]]
    has: frozenset[Need]
    names: Mapping[str, str] = {}

    def netns(self, who: From) -> str:
        """The namespace that a client is in."""
        match who.kind:
            case "pod":
                return pod_netns(NAMESPACE, who.name)
            case "outside":
                return OUTSIDE
        return node_netns(self.name(who.name))

    def name(self, node: str) -> str:
        """What the lab calls a node."""
        there = self._there(node)
        return self.names.get(there, there)

    def node_ip(self, node: str, family: int) -> IP:
        """Raises LabError where the node has none of that family."""
        found = self.nodes[self._there(node)].get(family)
        if found is None:
            raise LabError(f"node {node} has no IPv{family} address")
        return found

    @property
    def via(self) -> IP:
        """The outside client's other address: what it sends from there goes by the first node."""
        first = next(iter(self.nodes.values()))[4]
        return type(first)(int(first) & ~0xFF | _VIA)

    def pod_ip(self, name: str, family: int) -> IP:
        """Raises LabError where the Pod has none of that family."""
        found = self.members[name].ips.get(family)
        if found is None:
            raise LabError(f"Pod {name} has no IPv{family} address")
        return found

    def _there(self, node: str) -> str:
        """Where all nodes are one, that one."""
        return node if node in self.nodes else next(iter(self.nodes))


Size = Literal["dual", "nodes", "one"]
SIZES: tuple[Size, ...] = ("dual", "nodes", "one")
"""The largest first: a lab gets the first that it takes."""


def manifests(size: Size) -> list[dict[str, Any]]:
    """The cast as manifests."""
    nodes = list(ZONES) if size != "one" else ["n1"]
    return [_node(name, dual=size == "dual") for name in nodes] + _pods({n: n for n in nodes})


def manifests_on(shown: list[dict[str, Any]]) -> tuple[Size, list[dict[str, Any]]]:
    """The cast on the nodes that a lab has already; they get zones where they say none."""
    size: Size = "one"
    if len(shown) >= len(ZONES):
        both = all(len(one["spec"].get("podCIDRs", ())) > 1 for one in shown)
        size = "dual" if both else "nodes"
    found = copy.deepcopy(shown[: len(ZONES) if size != "one" else 1])
    for name, one in zip(ZONES, found, strict=False):
        one["metadata"].setdefault("labels", {}).setdefault(_ZONE, ZONES[name])
    return size, found + _pods(names_of(shown))


def names_of(shown: list[dict[str, Any]]) -> dict[str, str]:
    """What a lab calls the nodes of the cast.  Where it has too few, its first one is all."""
    there = [one["metadata"]["name"] for one in shown]
    cast = list(ZONES) if len(there) >= len(ZONES) else ["n1"]
    return dict(zip(cast, there, strict=False))


def found(items: Mapping[str, list[dict[str, Any]]], has: frozenset[Need]) -> Cast:
    """The cast from what the lab shows: ``nodes`` and ``pods``."""
    names = names_of(items["nodes"])
    shown = {one["metadata"]["name"]: one for one in items["nodes"]}
    nodes = {
        name: by_family(
            each["address"]
            for each in shown[there]["status"]["addresses"]
            if each["type"] == "InternalIP"
        )
        for name, there in names.items()
    }
    members = {}
    for one in items["pods"]:
        name = one["metadata"]["name"]
        if one["metadata"]["namespace"] == NAMESPACE:
            ips = by_family(each["ip"] for each in one["status"].get("podIPs", ()))
            members[name] = Member(name=name, node=name[:2], ips=ips)
    return Cast(members=members, nodes=nodes, has=has, names=names)


def by_family(texts: Any) -> dict[int, IP]:
    """The first address of each IP version."""
    addresses: dict[int, IP] = {}
    for text in texts:
        address = ip(text)
        addresses.setdefault(address.version, address)
    return addresses


def _node(name: str, *, dual: bool) -> dict[str, Any]:
    number = _POD_CIDRS[name]
    cidrs = [f"10.244.{number}.0/24"]
    service_cidrs = SERVICE_CIDRS.split(",")
    if dual:
        cidrs.append(f"fd00:10:244:{number}::/64")
    else:
        service_cidrs = service_cidrs[:1]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {_ZONE: ZONES[name]},
            "annotations": {"hairpin.dev/service-cidr": ",".join(service_cidrs)},
        },
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
    }


def _pods(names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The Pods, on nodes that the lab calls so; where n1 is all, all of them there."""
    found = [_pod(name, names.get(name[:2], names["n1"])) for name in PODS]
    if len(names) > 1:
        found += [_host_pod(name, names[name[:2]]) for name in HOST_PODS]
    return found


def _pod(name: str, node: str) -> dict[str, Any]:
    ports = [
        {"containerPort": port, "protocol": protocol}
        for port in (PORT, OTHER_PORT)
        for protocol in ("TCP", "UDP", "SCTP")
    ]
    return _bare_pod(name, node, ports)


def _host_pod(name: str, node: str) -> dict[str, Any]:
    ports = [{"containerPort": HOST_PORT, "protocol": protocol} for protocol in ("TCP", "UDP")]
    pod = _bare_pod(name, node, ports)
    pod["spec"]["hostNetwork"] = True
    return pod


def _bare_pod(name: str, node: str, ports: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"cast": name}},
        "spec": {"nodeName": node, "containers": [{"name": "echo", "ports": ports}]},
    }
