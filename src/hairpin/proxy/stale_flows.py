"""Connection tracking entries of UDP that lead where no Service sends any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, islice

from hairpin.kernel.apply import Kernel
from hairpin.kernel.errors import KernelError
from hairpin.mode.wants import Wants
from hairpin.model.metadata import Key
from hairpin.plan.conntrack import stale_flows
from hairpin.plan.service_plan import UdpPort

_BATCH = 1000  # flows that are looked for before any is deleted: bounds memory
_ROUNDS = 100


class StaleFlows:
    """Cleans up after changes that concern UDP, and only then: the table may be long."""

    def __init__(self, kernel: Kernel, netns: str, clock: Callable[[], float]) -> None:
        self._kernel = kernel
        self._clock = clock
        self._netns = netns
        self._todo: dict[Key, tuple[UdpPort, ...]] = {}  # what could not be looked at yet
        self.deleted = 0
        self.seconds: float | None = None  # that the last sync's look took; None for no look

    def clean(self, wants: Wants) -> None:
        """Deletes the stale entries of ServicePorts that changed.

        Raises OSError when the table cannot be read or changed; the next call tries again.
        """
        if wants.udp_changed:
            self._todo.update(wants.udp_changed)
            wants.udp_changed = {}
        ports = [port for port in chain.from_iterable(self._todo.values()) if port.serving]
        self.seconds = None
        if ports:
            began = self._clock()
            self._delete(ports)
            self.seconds = self._clock() - began
        self._todo.clear()

    def _delete(self, ports: Sequence[UdpPort]) -> None:
        for _ in range(_ROUNDS):
            flows = self._kernel.flows(self._netns, "UDP")
            found = list(islice(stale_flows(ports, flows), _BATCH))
            close = getattr(flows, "close", None)
            if close is not None:
                close()
            if not found:
                break
            for error in self._kernel.delete_flows(self._netns, found):
                if error is not None:
                    raise KernelError.of(error)
                self.deleted += 1
            if len(found) < _BATCH:
                break
