"""Which Node a Pod is put on, and why one waits.

As the scheduler decides it where nothing but cordons, lost nodes and ports are in the way
(Kubernetes, pkg/scheduler/framework/plugins: nodeunschedulable, tainttoleration, nodeports), and in
its words.  Pure: the first possible choice in the order of names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import msgspec

from hairpin.model.errors import ManifestError
from hairpin.model.metadata import Key
from hairpin.model.node import Node
from hairpin.model.pod import Pod, PodCondition
from hairpin.model.snapshot import Snapshot
from hairpin.source.rollout import leaving

SCHEDULED = "PodScheduled"
"""The condition whose message says why a Pod waits."""

_CORDONED = "node(s) were unschedulable"
_LOST = "node(s) had untolerated taint {node.kubernetes.io/unreachable: }"
_NO_PORTS = "node(s) didn't have free ports for the requested pod ports"

_Port = tuple[str, int]


def scheduled_pods(
    pods: Mapping[Key, Pod],
    nodes: Mapping[Key, Node],
    previous: Snapshot,
    known: Collection[str],
) -> dict[Key, Pod]:
    """The Pods with a node each, or with a condition that says why none takes them.

    Who has or names a Node stays there, whatever is the matter with it: that is not the scheduler's
    to decide.  ``known`` are the names of Nodes that there are or were: a Pod of one that is gone
    goes elsewhere.  Raises ManifestError for a Node that never was.
    """
    places = _Places(nodes)
    where: dict[Key, str] = {}
    for key, pod in pods.items():
        before = previous.pods.get(key)
        name = pod.spec.node_name or (before.spec.node_name if before else "")
        if name in places.load:
            where[key] = name
            places.put(pod, name)
        elif pod.spec.node_name and name not in known:
            raise ManifestError(
                f'there is no Node "{name}"',
                object=str(pod.ref),
                field="spec.nodeName",
                remedy=f"there is {', '.join(sorted(places.load)[:5])}",
            )
    found = {}
    for key, pod in pods.items():
        name = where.get(key, "")
        against: list[str] = []
        if not name and not leaving(pod):
            name, against = places.choose(pod)
            if name:
                places.put(pod, name)
        found[key] = _on(pod, name, against)
    return found


def why_waiting(pod: Pod) -> str | None:
    """What the scheduler says of a Pod that no Node takes; None for all others."""
    return next((c.message for c in pod.status.conditions if _is_refusal(c)), None)


class _Places:
    """The Nodes with the Pods that are on them so far."""

    def __init__(self, nodes: Mapping[Key, Node]) -> None:
        self.load = {node.metadata.name: 0 for node in nodes.values()}
        self._alike: Counter[tuple[str, object]] = Counter()  # by node and what Pods have in common
        self._ports: dict[str, set[_Port]] = {name: set() for name in self.load}
        self._closed: dict[str, str] = {}
        for node in nodes.values():
            if node.spec.unschedulable:
                self._closed[node.metadata.name] = _CORDONED
            elif not node.ready:
                self._closed[node.metadata.name] = _LOST

    def put(self, pod: Pod, name: str) -> None:
        self.load[name] += 1
        self._alike[name, _kind_of(pod)] += 1
        self._ports[name] |= _host_ports(pod)

    def choose(self, pod: Pod) -> tuple[str, list[str]]:
        """Where the fewest of its like are, then where the fewest are at all; "" and what each
        Node has against it where none takes it.
        """
        kind, ports = _kind_of(pod), _host_ports(pod)
        against = dict(self._closed)
        for name, taken in self._ports.items():
            if name not in against and ports & taken:
                against[name] = _NO_PORTS
        order = [
            (self._alike[name, kind], load, name)
            for name, load in self.load.items()
            if name not in against
        ]
        return (min(order)[2], []) if order else ("", list(against.values()))


def _kind_of(pod: Pod) -> object:
    """What Pods of one Deployment have in common."""
    return pod.metadata.namespace, tuple(sorted(pod.metadata.labels.items()))


def _host_ports(pod: Pod) -> set[_Port]:
    """The ports that it would have on its node itself."""
    if not pod.spec.host_network:
        return set()
    ports = (port for container in pod.spec.containers for port in container.ports)
    return {(port.protocol, port.container_port) for port in ports}


def _on(pod: Pod, node: str, against: list[str]) -> Pod:
    conditions = tuple(c for c in pod.status.conditions if not _is_refusal(c))
    if against:
        reasons = sorted(f"{count} {reason}" for reason, count in Counter(against).items())
        message = f"0/{len(against)} nodes are available: {', '.join(reasons)}."
        refusal = PodCondition(
            type=SCHEDULED, status="False", reason="Unschedulable", message=message
        )
        conditions = (refusal, *conditions)
    if conditions != pod.status.conditions:
        status = msgspec.structs.replace(pod.status, conditions=conditions)
        pod = msgspec.structs.replace(pod, status=status)
    if pod.spec.node_name == node:
        return pod
    return msgspec.structs.replace(pod, spec=msgspec.structs.replace(pod.spec, node_name=node))


def _is_refusal(condition: PodCondition) -> bool:
    return condition.type == SCHEDULED and condition.status == "False"
