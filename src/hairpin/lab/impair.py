"""Links that a person made worse: a Pod's, or a node's uplink.

It is no object and no ingredient, and lasts as long as the link.  Delay and loss are each way;
down is the far end, the node's of a Pod and the network's of a node, so that addresses and routes
stay and come back with it.

A node whose uplink is down is lost to the others: after ``NOTICE`` seconds, as Kubernetes' node
controller, the lab says that it is not ready and that its Pods are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hairpin.kernel import impair
from hairpin.kernel.apply import Kernel
from hairpin.kernel.errors import KernelError
from hairpin.kernel.reactor import Reactor, Timer
from hairpin.lab import names
from hairpin.lab.session import LabError
from hairpin.model.metadata import Key
from hairpin.model.node import NodeCondition
from hairpin.model.snapshot import Snapshot
from hairpin.netlink.qdisc import Netem
from hairpin.state.impairment import Impairment

NOTICE = 40.0  # seconds, kube-controller-manager --node-monitor-grace-period before 1.32
_READY = NodeCondition(type="Ready", status="True", reason="KubeletReady")
_UNKNOWN = NodeCondition(type="Ready", status="Unknown", reason="NodeStatusUnknown")
_LEAST_V6 = 1280  # bytes, RFC 8200: the kernel takes IPv6 from a link with less

End = tuple[str, str]
"""Namespace and link."""


class Impairments:
    """All of a lab's."""

    def __init__(self, reactor: Reactor, kernel: Kernel, on_loss: Callable[[], None]) -> None:
        """``on_loss``: called when ``lost`` has changed, or a node can be reached again."""
        self.lost: set[str] = set()
        """The nodes that are noticed to be away."""
        self._reactor = reactor
        self._kernel = kernel
        self._on_loss = on_loss
        self._held: dict[tuple[End, End], Impairment] = {}
        self._mtus: dict[tuple[End, End], int] = {}  # as they were
        self._waiting: dict[str, Timer] = {}

    def of_pod(self, key: Key, node: str) -> Impairment | None:
        return self._held.get(_pod_ends(key, node))

    def of_node(self, name: str) -> Impairment | None:
        return self._held.get(_node_ends(name))

    def cut_off(self, node: str) -> bool:
        """Whether nothing reaches that node now, noticed or not."""
        held = self.of_node(node)
        return held is not None and held.down

    def set(
        self, snapshot: Snapshot, name: str, namespace: str, settings: Mapping[str, Any]
    ) -> Impairment:
        """Changes what ``settings`` name of a Pod's or a node's link; empty: as it was made.

        ``notice`` is other seconds than NOTICE.  Raises LabError.
        """
        key, node = (namespace, name.removeprefix("pod/")), name.removeprefix("node/")
        pod = None if name.startswith("node/") else snapshot.pods.get(key)
        if pod is not None and pod.spec.host_network:
            raise LabError(f"Pod {key[1]} is on its node's network", "name the node", exit_code=2)
        if pod is not None and not pod.spec.node_name:
            raise LabError(f"Pod {key[1]} is Pending: it has no link yet", exit_code=2)
        if pod is None and (name.startswith("pod/") or ("", node) not in snapshot.nodes):
            known = [k[1] for k in (*snapshot.nodes, *snapshot.pods)][:8]
            raise LabError(
                f"there is no Pod or node {name}", f"there are: {', '.join(known)}", exit_code=2
            )
        ends = _node_ends(node) if pod is None else _pod_ends(key, pod.spec.node_name)
        before = self._held.get(ends, Impairment())
        wanted = {k: v for k, v in settings.items() if k != "notice"}
        after = msgspec.convert(
            {**msgspec.structs.asdict(before), **wanted} if wanted else {}, Impairment
        )
        six = any(cidr.version == 6 for n in snapshot.nodes.values() for cidr in n.spec.pod_cidrs)
        if after.mtu is not None and after.mtu < _LEAST_V6 and six:
            raise LabError(f"IPv6 needs an MTU of {_LEAST_V6} at least", exit_code=2)
        try:
            self._apply(ends, before, after)
        except KernelError as error:
            raise LabError(f"link of {name}: {error}") from None
        self._held[ends] = after
        if after == Impairment():
            del self._held[ends]
        if pod is None:
            self._watch_over(node, after.down, float(settings.get("notice", NOTICE)))
            if before.down and not after.down:  # its proxy can hear again what has changed
                self._on_loss()
        return after

    def _apply(self, ends: tuple[End, End], before: Impairment, after: Impairment) -> None:
        """Raises KernelError or LabError."""
        netem = Netem(delay=after.delay, jitter=after.jitter, loss=after.loss / 100)
        for netns, link in ends:
            socket = self._kernel.route_socket(netns)
            error = impair.set_queue(socket, link, netem)
            if error is not None:
                remedy = "hairpin kernel shows what each kernel can do (netem)"
                raise LabError(f"this kernel cannot delay or lose packets: {error}", remedy)
        if after.mtu != before.mtu:
            self._set_mtu(ends, after.mtu)
        far = ends[1]
        error = impair.set_link(self._kernel.route_socket(far[0]), far[1], None, not after.down)
        if error is not None:
            raise error

    def _set_mtu(self, ends: tuple[End, End], mtu: int | None) -> None:
        seen = self._kernel.observe_link(*ends[0])
        if seen is not None and seen.mtu is not None:
            self._mtus.setdefault(ends, seen.mtu)
        wanted = mtu if mtu is not None else self._mtus.pop(ends, None)
        for netns, link in ends:
            error = impair.set_link(self._kernel.route_socket(netns), link, wanted, True)
            if error is not None:
                raise error

    def _watch_over(self, node: str, down: bool, notice: float) -> None:
        timer = self._waiting.pop(node, None)
        if timer is not None:
            timer.cancel()
        if down and node not in self.lost:
            self._waiting[node] = self._reactor.after(notice, lambda: self._lose(node))
        elif not down:
            self.lost.discard(node)

    def _lose(self, node: str) -> None:
        self._waiting.pop(node, None)
        if self.cut_off(node):
            self.lost.add(node)
            self._on_loss()

    def told(self, snapshot: Snapshot) -> Snapshot:
        """With what the nodes' conditions are by now: the lab's to say, whoever wrote others."""
        nodes = []
        for node in snapshot.nodes.values():
            lost = node.metadata.name in self.lost
            conditions = (_UNKNOWN if lost else _READY,)
            if node.status.conditions != conditions:
                status = msgspec.structs.replace(node.status, conditions=conditions)
                nodes.append(msgspec.structs.replace(node, status=status))
        return snapshot.merge(nodes) if nodes else snapshot

    def forget(self, snapshot: Snapshot) -> None:
        """Lets go of links that are no more."""
        if not self._held and not self.lost and not self._waiting:
            return
        there = {_pod_ends(key, pod.spec.node_name) for key, pod in snapshot.pods.items()}
        there |= {_node_ends(key[1]) for key in snapshot.nodes}
        for ends in self._held.keys() - there:
            del self._held[ends]
            self._mtus.pop(ends, None)
        nodes = {key[1] for key in snapshot.nodes}
        self.lost &= nodes
        for node in self._waiting.keys() - nodes:
            self._waiting.pop(node).cancel()

    def forget_pod(self, key: Key, node: str) -> None:
        """The Pod's link is gone, whoever gets its name."""
        self._held.pop(_pod_ends(key, node), None)
        self._mtus.pop(_pod_ends(key, node), None)


def _pod_ends(key: Key, node: str) -> tuple[End, End]:
    near = (names.pod_netns(*key), names.POD_LINK)
    return near, (names.node_netns(node), names.pod_veth(*key))


def _node_ends(name: str) -> tuple[End, End]:
    near = (names.node_netns(name), names.UPLINK)
    return near, (names.OUTSIDE, names.uplink_peer(name))
