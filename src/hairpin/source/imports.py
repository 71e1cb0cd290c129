"""What ``kubectl get -o yaml`` printed of a real cluster, made into what a lab can hold.

An object that bears what only an API server gives (``metadata.uid`` or ``resourceVersion``) is an
import.  Of it stays what its Services need: names, labels, ports, addresses.  Everything that
cannot be shown is left out and counted, never refused.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import Any

import msgspec

from hairpin.model.address import IP, Network, network
from hairpin.model.annotations import PREFIX, SERVICE_CIDR
from hairpin.model.decode import decode_object
from hairpin.model.metadata import ObjectMeta, Ref
from hairpin.model.node import Node
from hairpin.model.pod import Pod
from hairpin.model.service import Service
from hairpin.model.snapshot import Object
from hairpin.source.pool import Pool
from hairpin.source.settings import LAB, UPLINKS

Raw = Mapping[str, Any]

_SPARE = [network(text) for text in ("10.244.0.0/16", "10.128.0.0/16", "172.29.0.0/16")]
"""Pod networks for when the cluster's own cannot be had; at most two can be taken."""
_LONGEST, _SHORTEST = 24, 8  # prefix lengths of the Pod network of an import
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
"""What stays of a Service as it is.  A health check port is allocated anew, as its range may
be another here; so is what a cloud's own load balancer was asked for."""

# What a warning says, before the objects that it is about.
_ENDED = "left out, as the containers have ended"
_NOT_RUNNING = "left out, as it did not run"
_HOST_NETWORK = "an address of its own instead of the node's"
_IPV6 = "without IPv6"
_PORTS = "other node ports than before, out of the range that a lab has"
_NOTHING_LEFT = "left out, as it has only IPv6"
_SLICE = "left out, as its addresses are not IPv4"
_DEPLOYMENT = "left out, as its Pods are there"
_MOVED = "another address than before"


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
                    kept = _only(spec, "podCIDR", "podCIDRs")
                    return {**raw, "metadata": _meta(raw), "spec": kept, "status": None}
        except (AttributeError, KeyError, TypeError):
            return raw
        return raw

    def finished(self, objects: Mapping[Ref, Object]) -> tuple[dict[Ref, Object], list[str]]:
        """All objects with the imported ones on one Node, and what there is to say about them."""
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
        nodes = [thing for thing in kept.values() if isinstance(thing, Node)]
        extra = [node for node in nodes[1:] if node.ref in self._refs]
        for node in extra:
            del kept[node.ref]
        if extra:
            names = _listed([node.metadata.name for node in extra])
            warnings.append(f"import: one Node, {nodes[0].metadata.name}, stands for {names} too")
        node = _home(nodes, pods)
        if node.ref in self._refs or node.spec.pod_cidr is None:
            node = _with_networks(node, kept.values(), pods)
        kept[node.ref] = node
        for pod in self._placed(pods, node):
            kept[pod.ref] = pod
        return kept, warnings + self._warnings()

    def _placed(self, pods: list[Pod], node: Node) -> Iterable[Pod]:
        """The Pods on that Node, with the addresses that they can keep."""
        pool = Pool(node.spec.pod_cidr or _SPARE[0])
        pool.hold(pool.first, str(node.ref))
        for pod in pods:
            ip = pod.status.pod_ip
            if ip is not None and (pool.refusal(ip, "") or pool.holder(ip)):
                self._note(_MOVED, str(pod.ref))
                ip = None
            if ip is not None:
                pool.hold(ip, str(pod.ref))
            yield msgspec.structs.replace(
                pod,
                spec=msgspec.structs.replace(pod.spec, node_name=node.metadata.name),
                status=msgspec.structs.replace(pod.status, pod_ip=ip),
            )

    def _pod(self, raw: Raw, shown: str) -> Raw | None:
        status, spec = raw.get("status") or {}, raw["spec"]
        if status.get("phase") in ("Succeeded", "Failed"):
            self._note(_ENDED, shown)
            return None
        if raw["metadata"].get("deletionTimestamp") or not status.get("podIP"):
            self._note(_NOT_RUNNING, shown)
            return None
        ips = [status["podIP"], *(one["ip"] for one in status.get("podIPs") or ())]
        ip = next((one for one in ips if _is_v4(one)), None)
        if spec.get("hostNetwork"):
            self._note(_HOST_NETWORK, shown)
            ip = None
        return {
            **_only(raw, "apiVersion", "kind"),
            "metadata": _meta(raw),
            "spec": {**_pod_spec(spec), **_only(spec, "nodeName")},
            "status": {"podIP": ip},
        }

    def _service(self, raw: Raw, shown: str) -> Raw | None:
        spec = raw["spec"]
        families = spec.get("ipFamilies") or []
        external = spec.get("type") == "ExternalName"
        if "IPv6" in families and "IPv4" not in families:
            self._note(_NOTHING_LEFT, shown)
            return None
        ingress = ((raw.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        lists = {
            "externalIPs": spec.get("externalIPs") or (),
            "loadBalancerSourceRanges": spec.get("loadBalancerSourceRanges") or (),
        }
        if "IPv6" in families or any(_is_v6(one) for some in lists.values() for one in some):
            self._note(_IPV6, shown)
        lists = {name: [one for one in some if not _is_v6(one)] for name, some in lists.items()}
        kept = _only(spec, *_SERVICE_FIELDS)
        if spec.get("type", "ClusterIP") == "ClusterIP" and not lists["externalIPs"]:
            kept.pop("externalTrafficPolicy", None)
        ips = [spec.get("clusterIP"), *(spec.get("clusterIPs") or ())]
        ip = next((one for one in ips if one == "None" or _is_v4(one)), None)
        return {
            **_only(raw, "apiVersion", "kind"),
            "metadata": _meta(raw),
            "spec": {
                **kept,
                **lists,
                "clusterIP": None if external else ip,
                "ports": [self._port(port, shown) for port in spec.get("ports") or ()],
            },
            "status": {"loadBalancer": {"ingress": [one for one in ingress if _keeps(one)]}},
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
        if raw.get("addressType") != "IPv4":
            self._note(_SLICE, shown)
            return None
        return {**raw, "metadata": _meta(raw)}

    def _note(self, what: str, shown: str) -> None:
        self._notes.setdefault(what, []).append(shown)

    def _warnings(self) -> list[str]:
        return [f"import: {what}: {_listed(shown)}" for what, shown in self._notes.items()]


def _keeps(ingress: Raw) -> bool:
    """Whether a lab can have that address of a load balancer: IPv4, and not a name alone."""
    return _is_v4(ingress.get("ip"))


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


def _is_v4(text: object) -> bool:
    try:
        return isinstance(text, str) and ip_address(text).version == 4
    except ValueError:
        return False


def _is_v6(text: object) -> bool:
    """Of an address or a network."""
    try:
        return isinstance(text, str) and ip_network(text, strict=False).version == 6
    except ValueError:
        return False


# Networks


def _home(nodes: list[Node], pods: list[Pod]) -> Node:
    """The Node that everything is on; where none was printed, one by the name Pods know."""
    if nodes:
        return nodes[0]
    name = next((pod.spec.node_name for pod in pods if pod.spec.node_name), "node")
    return Node(metadata=ObjectMeta(name=name))


def _with_networks(node: Node, objects: Iterable[Object], pods: list[Pod]) -> Node:
    """The Node with networks in which Services and Pods keep the addresses that they have."""
    meta, cidr = node.metadata, node.spec.pod_cidr
    taken: list[Network] = [UPLINKS]
    if SERVICE_CIDR in meta.annotations:
        taken.append(network(meta.annotations[SERVICE_CIDR]))
    else:
        ips = [ip for one in objects if isinstance(one, Service) for ip in _cluster_ips(one)]
        services = _cover(ips, 16)
        if services is not None and services.prefixlen >= _SHORTEST:
            annotations = {**meta.annotations, SERVICE_CIDR: str(services)}
            meta = msgspec.structs.replace(meta, annotations=annotations)
            taken.append(services)
    had = [ip for pod in pods if isinstance(ip := pod.status.pod_ip, IPv4Address)]
    own = [cidr[0], cidr[-1]] if cidr is not None and cidr.version == 4 else []
    wished = (_cover([*had, *own], _LONGEST), cidr, *_SPARE)
    room = len(pods) + 4  # the node itself, the DNS, and the two that nobody can have
    chosen = next(
        (
            one
            for one in wished
            if isinstance(one, IPv4Network)
            and one.prefixlen >= _SHORTEST
            and one.num_addresses >= room
            and not any(one.version == other.version and one.overlaps(other) for other in taken)
        ),
        None,  # admission will say which networks are in the way
    )
    cidrs = () if chosen is None else (chosen,)
    spec = msgspec.structs.replace(node.spec, pod_cidr=chosen, pod_cidrs=cidrs)
    return msgspec.structs.replace(node, metadata=meta, spec=spec)


def _cluster_ips(service: Service) -> list[IP]:
    ip = service.spec.cluster_ip
    return [ip] if isinstance(ip, IPv4Address) else []


def _cover(ips: Iterable[IP], longest: int) -> IPv4Network | None:
    """The smallest network with all of ``ips`` in it, of at most that prefix length."""
    numbers = [int(ip) for ip in ips]
    if not numbers:
        return None
    prefix = min(longest, 32 - (min(numbers) ^ max(numbers)).bit_length())
    return IPv4Network((min(numbers), prefix), strict=False)
