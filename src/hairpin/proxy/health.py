"""Whether a node's proxy is well, as kube-proxy says it on /healthz and /livez.

A proxy is well unless an event has waited for longer than ``timeout`` to get into the kernel.
/healthz, which load balancers ask, also says 503 when the Node is about to go (KEP-3836); /livez
leaves that out, for a proxy is not to be restarted for it.  Semantics and JSON are those of
pkg/proxy/healthcheck/proxy_health.go in Kubernetes 1.36.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from hairpin.model.node import Node

TO_BE_DELETED = "ToBeDeletedByClusterAutoscaler"
"""The taint by which the cluster autoscaler says that a node will go."""

Family = Literal["IPv4", "IPv6"]
_NEVER = "0001-01-01T00:00:00Z"  # as Go writes a time that is none


class _Status(msgspec.Struct, rename="camel"):
    last_updated: str
    healthy: bool


class _Health(msgspec.Struct, rename="camel", omit_defaults=True):
    last_updated: str
    current_time: str
    node_eligible: bool | None = None
    healthy: bool = msgspec.field(default_factory=lambda: False)
    status: dict[Family, _Status] | None = None


class Health:
    """Used by several threads.

    ``timeout`` is in seconds by ``clock``; kube-proxy's is twice the sync period.  ``now`` is in
    seconds of the epoch.
    """

    def __init__(
        self,
        timeout: float,
        families: Sequence[Family],
        *,
        clock: Callable[[], float],
        now: Callable[[], float],
    ) -> None:
        self._timeout = timeout
        self._families = tuple(families)
        self._clock = clock
        self._now = now
        self._lock = threading.Lock()
        self._updated: float | None = None
        self._waiting_since: float | None = None
        self._eligible = True  # until the Node is known: it counts as such while all starts

    def queued(self) -> None:
        """Something is to get into the kernel."""
        with self._lock:
            if self._waiting_since is None:
                self._waiting_since = self._clock()

    def updated(self) -> None:
        """The kernel is as it should be."""
        with self._lock:
            self._waiting_since = None
            self._updated = self._now()

    def on_node(self, node: Node | None) -> None:
        """The Node is this now; None for gone."""
        with self._lock:
            self._eligible = (
                node is not None
                and node.metadata.deletion_timestamp is None
                and not any(one.key == TO_BE_DELETED for one in node.spec.taints)
            )

    @property
    def healthy(self) -> bool:
        """Whether the proxy is well, whatever becomes of the Node."""
        with self._lock:
            return self._is_well()

    def healthz(self) -> tuple[int, bytes]:
        """The HTTP code and the JSON of /healthz."""
        with self._lock:
            return self._answer(self._eligible)

    def livez(self) -> tuple[int, bytes]:
        """The HTTP code and the JSON of /livez."""
        with self._lock:
            return self._answer(None)

    def _is_well(self) -> bool:
        # Before the first sync nothing can be late.
        if self._updated is None or self._waiting_since is None:
            return True
        return self._clock() - self._waiting_since < self._timeout

    def _answer(self, eligible: bool | None) -> tuple[int, bytes]:
        well = self._is_well()
        now = _time(self._now())
        updated = _NEVER if self._updated is None else _time(self._updated)
        code = 200 if well and eligible is not False else 503
        status = {one: _Status(updated, well) for one in self._families}
        answer = _Health(
            # Recent as long as all is well, though nothing may have happened for hours.
            last_updated=now if code == 200 else updated,
            current_time=now,
            node_eligible=eligible,
            healthy=well,
            status=status if self._updated is not None else None,
        )
        return code, msgspec.json.encode(answer)


def _time(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat().replace("+00:00", "Z")
