"""What ``kubectl get -o yaml`` printed of a real cluster, made into what a lab can hold.

An object that bears what only an API server gives (``metadata.uid`` or ``resourceVersion``) is an
import.  Of it stays what its Services need: names, labels, ports, addresses.  Everything that
cannot be shown is left out and counted, never refused.  Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hairpin.model.annotations import PREFIX
from hairpin.model.decode import decode_object
from hairpin.model.metadata import ObjectMeta, Ref
from hairpin.model.node import Node
from hairpin.model.pod import Pod
from hairpin.model.service import Service
from hairpin.model.snapshot import Object
from hairpin.source.import_networks import (
    addresses_kept,
    families_of,
    with_pod_cidrs,
    with_service_cidrs,
)
from hairpin.source.ranges import said_cidrs
from hairpin.source.settings import LAB

Raw = Mapping[str, Any]

_IDLE = 4  # Nodes that are kept though no Pod is on them; each costs a lab a proxy
_NAMED = 3  # objects that a warning names; the rest are counted

_SERVICE_FIELDS = (
    "allocateLoadBalancerNodePorts",
    "externalName",
    "externalTrafficPolicy",
    "internalTrafficPolicy",
    "publishNotReadyAddresses",
    "selector",
    "sessionAffinity",
    "sessionAffinityConfig",
    "trafficDistribution",
    "type",
)
_ADDRESS_FIELDS = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")
"""What stays of a Service as it is.  A health check port is allocated anew, as its range may
be another here; so is what a cloud's own load balancer was asked for."""

# What a warning says, before the objects that it is about.
_ENDED = "left out, as the containers have ended"
_NOT_RUNNING = "left out, as it did not run"
_HOST_NETWORK = "an address of its own instead of the node's"
_PORTS = "other node ports than before, out of the range that a lab has"
_SLICE = "left out, as its addresses are names"
_DEPLOYMENT = "left out, as its Pods are there"
_MOVED = "another address than before"
_NODE = "with an address of the lab's own, and none of its taints"
_NETWORK = "another Pod network than before"
_IDLE_NODE = "left out, as none of these Pods is on it"
_ELSEWHERE = "on another Node than before"


def is_import(raw: object) -> bool:
    """Whether an API server has had this object."""
    meta = raw.get("metadata") if isinstance(raw, Mapping) else None
    return isinstance(meta, Mapping) and bool(meta.get("uid") or meta.get("resourceVersion"))


class Import:
    """The imported objects of one reading, and what had to be left out of them."""

    def __init__(self) -> None:
        self._refs: set[Ref] = set()
        self._notes: dict[str, list[str]] = {}

    def taken(self, raw: Raw, where: str) -> list[Object]:
        """The object that ``raw`` becomes; none where it is left out.  Raises ManifestError."""
        trimmed = self._trimmed(raw)
        if trimmed is None:
            return []
        thing = decode_object(trimmed, where)
        self._refs.add(thing.ref)
        return [thing]

    def _trimmed(self, raw: Raw) -> Raw | None:
        """What to decode in the place of ``raw``; None to leave it out.

        What has not the shape of its kind is given back as it is, for decoding to complain.
        """
        shown = _shown(raw)
        try:
            match raw["kind"]:
                case "Pod":
                    return self._pod(raw, shown)
                case "Service":
                    return self._service(raw, shown)
                case "EndpointSlice":
                    return self._slice(raw, shown)
                case "Deployment":
                    return _deployment(raw)
                case "Node":
                    spec = raw.get("spec") or {}
                    kept = _only(spec, "podCIDR", "podCIDRs", "unschedulable")
                    return {**raw, "metadata": _meta(raw), "spec": kept, "status": None}
        except (AttributeError, KeyError, TypeError):
            return raw
        return raw

    def finished(self, objects: Mapping[Ref, Object]) -> tuple[dict[Ref, Object], list[str]]:
        """All objects, the imported ones on Nodes that a lab can have, and what is to be said."""
        if not self._refs:
            return dict(objects), self._warnings()
        kept = dict(objects)
        pods = [thing for ref in self._refs if isinstance(thing := objects.get(ref), Pod)]
        pods.sort(key=lambda pod: pod.key)
        warnings = []
        if pods:
            plural = "s run" if len(pods) > 1 else " runs"
            warnings.append(f"import: {len(pods)} Pod{plural} the echo server instead of an image")
            for ref in self._refs:
                if ref.kind == "Deployment":
                    self._note(_DEPLOYMENT, str(kept.pop(ref).ref))
        nodes, pods = self._homes(kept, pods)
        services = [thing for thing in kept.values() if isinstance(thing, Service)]
        families = families_of(nodes, services, pods)
        nodes[0] = with_service_cidrs(nodes[0], services, families)
        if all(node.ref in self._refs or not said_cidrs(node) for node in nodes):
            before = nodes
            nodes = list(with_pod_cidrs(nodes, pods, families))
            for old, new in zip(before, nodes, strict=True):
                if set(said_cidrs(old)) - set(said_cidrs(new)):
                    self._note(_NETWORK, str(new.ref))
        kept.update((node.ref, node) for node in nodes)
        by_name = {node.metadata.name: node for node in nodes}
        for pod, whole in addresses_kept(pods, by_name):
            kept[pod.ref] = pod
            if not whole:
                self._note(_MOVED, str(pod.ref))
        return kept, warnings + self._warnings()

    def _homes(self, kept: dict[Ref, Object], pods: list[Pod]) -> tuple[list[Node], list[Pod]]:
        """The Nodes, at least one, and the Pods on them; Nodes that are too many go from ``kept``.

        Where people wrote Nodes of their own, Pods of others go where there is room; else each
        Node that a Pod knows is there, printed or not.
        """
        nodes = {t.metadata.name: t for t in kept.values() if isinstance(t, Node)}
        if all(node.ref in self._refs for node in nodes.values()):
            for name in sorted({pod.spec.node_name for pod in pods} - {""} - nodes.keys()):
                nodes[name] = Node(metadata=ObjectMeta(name=name))
        busy = {pod.spec.node_name for pod in pods}
        idle = [n for n in nodes.values() if n.ref in self._refs and n.metadata.name not in busy]
        for node in idle[max(0, _IDLE - (len(nodes) - len(idle))) :]:
            self._note(_IDLE_NODE, str(node.ref))
            del kept[node.ref], nodes[node.metadata.name]
        for node in nodes.values():
            if node.ref in self._refs:
                self._note(_NODE, str(node.ref))
        found = []
        for pod in pods:
            if pod.spec.node_name in nodes:
                found.append(pod)
                continue
            if nodes and pod.spec.node_name:
                self._note(_ELSEWHERE, str(pod.ref))
            only = next(iter(nodes)) if len(nodes) == 1 else ""
            spec = msgspec.structs.replace(pod.spec, node_name=only)
            found.append(msgspec.structs.replace(pod, spec=spec))
        if not nodes:
            nodes["node"] = Node(metadata=ObjectMeta(name="node"))
        return list(nodes.values()), found

    def _pod(self, raw: Raw, shown: str) -> Raw | None:
        status, spec = raw.get("status") or {}, raw["spec"]
        if status.get("phase") in ("Succeeded", "Failed"):
            self._note(_ENDED, shown)
            return None
        if raw["metadata"].get("deletionTimestamp") or not status.get("podIP"):
            self._note(_NOT_RUNNING, shown)
            return None
        ips = list(dict.fromkeys([status["podIP"], *(p["ip"] for p in status.get("podIPs") or ())]))
        if spec.get("hostNetwork"):
            self._note(_HOST_NETWORK, shown)
            ips = []
        return {
            **_only(raw, "apiVersion", "kind"),
            "metadata": _meta(raw),
            "spec": {**_pod_spec(spec), **_only(spec, "nodeName")},
            "status": {"podIP": ips[0] if ips else None, "podIPs": [{"ip": ip} for ip in ips]},
        }

    def _service(self, raw: Raw, shown: str) -> Raw | None:
        spec = raw["spec"]
        external = spec.get("type") == "ExternalName"
        ingress = ((raw.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        lists = {
            "externalIPs": spec.get("externalIPs") or (),
            "loadBalancerSourceRanges": spec.get("loadBalancerSourceRanges") or (),
        }
        kept = _only(spec, *_SERVICE_FIELDS)
        if spec.get("type", "ClusterIP") == "ClusterIP" and not lists["externalIPs"]:
            kept.pop("externalTrafficPolicy", None)
        if not external:
            kept.update(_only(spec, *_ADDRESS_FIELDS))
        return {
            **_only(raw, "apiVersion", "kind"),
            "metadata": _meta(raw),
            "spec": {
                **kept,
                **lists,
                "ports": [self._port(port, shown) for port in spec.get("ports") or ()],
            },
            # A lab can have the address of a load balancer, and not a name alone.
            "status": {"loadBalancer": {"ingress": [one for one in ingress if one.get("ip")]}},
        }

    def _port(self, port: Raw, shown: str) -> Raw:
        """A port without a node port that the lab's range has not."""
        first, last = LAB.node_port_range
        number = port.get("nodePort")
        if not isinstance(number, int) or not number or first <= number <= last:
            return port
        self._note(_PORTS, shown)
        return {key: value for key, value in port.items() if key != "nodePort"}

    def _slice(self, raw: Raw, shown: str) -> Raw | None:
        if raw.get("addressType") not in ("IPv4", "IPv6"):
            self._note(_SLICE, shown)
            return None
        return {**raw, "metadata": _meta(raw)}

    def _note(self, what: str, shown: str) -> None:
        self._notes.setdefault(what, []).append(shown)

    def _warnings(self) -> list[str]:
        return [f"import: {what}: {_listed(shown)}" for what, shown in self._notes.items()]


def _deployment(raw: Raw) -> Raw:
    template = raw["spec"]["template"]
    spec = {**template, "spec": _pod_spec(template["spec"])}
    own = {**_only(raw["spec"], "replicas", "selector"), "template": spec}
    return {**raw, "metadata": _meta(raw), "spec": own, "status": None}


def _pod_spec(spec: Raw) -> Raw:
    """Names and ports: what is left of a container without its image."""
    containers = [
        {
            "name": one.get("name"),
            "ports": [
                _only(port, "name", "containerPort", "protocol") for port in one.get("ports") or ()
            ],
        }
        for one in spec["containers"]
    ]
    return {**_only(spec, "hostname", "subdomain"), "containers": containers}


def _meta(raw: Raw) -> Raw:
    meta = raw["metadata"]
    own = {
        key: value
        for key, value in (meta.get("annotations") or {}).items()
        if str(key).startswith(PREFIX)
    }
    return {**_only(meta, "name", "namespace", "labels"), "annotations": own}


def _only(raw: Raw, *names: str) -> dict[str, Any]:
    return {name: raw[name] for name in names if name in raw}


def _shown(raw: Raw) -> str:
    meta = raw["metadata"]
    namespace = meta.get("namespace")
    name = f"{namespace}/{meta.get('name')}" if namespace else str(meta.get("name"))
    return f"{raw['kind']} {name}"


def _listed(shown: list[str]) -> str:
    """``Pod a, Pod b, Pod c and 4 more``."""
    named, rest = shown[:_NAMED], len(shown) - _NAMED
    return f"{', '.join(named)} and {rest} more" if rest > 0 else ", ".join(named)
