"""The cluster's DNS, which nobody writes into a manifest: a Service and the Pod behind it.

As kubeadm sets it up: Service kube-system/kube-dns on the tenth address of the service CIDR,
selecting ``k8s-app: kube-dns``.  A Service of that name in a manifest takes its place; Pods that
it selects take the place of the implied Pod.  Whatever people ask for goes first: the implied
objects take what addresses are left, and do without where none is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hairpin.model.address import IP, Network
from hairpin.model.annotations import IMPLIED
from hairpin.model.metadata import Key, KubeObject, ObjectMeta
from hairpin.model.node import Node
from hairpin.model.pod import Container, ContainerPort, Pod, PodIP, PodSpec, PodStatus
from hairpin.model.service import Service, ServicePort, ServiceSpec
from hairpin.model.snapshot import Snapshot
from hairpin.source.pool import Pool

DNS_SERVICE: Key = ("kube-system", "kube-dns")
DNS_POD: Key = ("kube-system", "coredns")
DNS_INDEX = 10  # kubeadm's GetDNSIP, cmd/kubeadm/app/constants
_LABELS = {"k8s-app": "kube-dns"}


def is_implied(thing: KubeObject) -> bool:
    """Whether hairpin made the object by itself."""
    return IMPLIED in thing.metadata.annotations


def without_implied(snapshot: Snapshot) -> Snapshot:
    """Without the implied Pods and Services; they follow anew from the rest."""
    gone = [thing.ref for thing in snapshot if not isinstance(thing, Node) and is_implied(thing)]
    return snapshot.without(gone) if gone else snapshot


def dns_service(given: Snapshot, previous: Snapshot, cidr: Network) -> Service | None:
    """The implied Service; None where the manifests have their own.

    It asks for the address that it had, else for the tenth, unless another Service has that.
    """
    if DNS_SERVICE in without_implied(given).services:
        return None
    others = without_implied(given).services.values()
    taken = {ip for other in others for ip in (other.spec.cluster_ip, *other.spec.cluster_ips)}
    kept = without_implied(previous).services
    taken |= {
        ip for key, other in kept.items() if key in given.services for ip in other.virtual_ips
    }
    tenth = [cidr[DNS_INDEX]] if cidr.num_addresses > DNS_INDEX + 1 else []
    had = [
        ip
        for one in (given.services.get(DNS_SERVICE), previous.services.get(DNS_SERVICE))
        if one is not None and is_implied(one)
        for ip in one.virtual_ips
        if ip in cidr
    ]
    address = next((ip for ip in (*had, *tenth) if ip not in taken), None)
    ports = (
        ServicePort(name="dns", port=53, protocol="UDP", target_port="dns"),
        ServicePort(name="dns-tcp", port=53, protocol="TCP", target_port="dns-tcp"),
    )
    spec = ServiceSpec(selector=dict(_LABELS), ports=ports, cluster_ip=address)
    return Service(metadata=_metadata(DNS_SERVICE), spec=spec)


def dns_pod(
    service: Service,
    pods: Mapping[Key, Pod],
    nodes: Mapping[Key, Node],
    given: Snapshot,
    previous: Snapshot,
) -> Pod | None:
    """The implied Pod behind ``service``; None where it has a Pod already, or would not be its.

    It takes the highest free address of the first node: people count from the lowest.
    """
    wanted = service.spec.selector.items()
    if not wanted or not wanted <= _LABELS.items() or DNS_POD in pods:
        return None
    for (namespace, _), pod in pods.items():
        if namespace == DNS_SERVICE[0] and wanted <= pod.metadata.labels.items():
            return None
    node = next(iter(nodes.values()))
    ports = (
        ContainerPort(name="dns", container_port=53, protocol="UDP"),
        ContainerPort(name="dns-tcp", container_port=53, protocol="TCP"),
    )
    before = next(
        (old for old in (given.pods.get(DNS_POD), previous.pods.get(DNS_POD)) if old is not None),
        None,
    )
    had = () if before is None or not is_implied(before) else before.status.pod_ips
    free = (_free(cidr, node, pods, [one.ip for one in had]) for cidr in node.spec.pod_cidrs)
    addresses = [address for address in free if address is not None]
    if not addresses:
        return None
    return Pod(
        metadata=_metadata(DNS_POD),
        spec=PodSpec(
            containers=(Container(name="coredns", ports=ports),), node_name=node.metadata.name
        ),
        status=PodStatus(
            pod_ip=addresses[0], pod_ips=tuple(PodIP(ip=address) for address in addresses)
        ),
    )


def _free(cidr: Network, node: Node, pods: Mapping[Key, Pod], had: Iterable[IP]) -> IP | None:
    pool = Pool(cidr)
    pool.hold(pool.first, str(node.ref))
    for pod in pods.values():
        for one in pod.status.pod_ips:
            pool.hold(one.ip, str(pod.ref))
    for ip in had:
        if not pool.refusal(ip, "") and pool.holder(ip) is None:
            return ip
    return pool.highest_free()


def _metadata(key: Key) -> ObjectMeta:
    return ObjectMeta(
        namespace=key[0], name=key[1], labels=dict(_LABELS), annotations={IMPLIED: "true"}
    )
