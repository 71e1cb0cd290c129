"""readinessProbe: asks a container again and again whether it is ready.

As the kubelet does it: HTTP and TCP from the node to the Pod's address, commands inside the Pod;
not ready until the first success, and thresholds for every change of mind (Kubernetes' API,
core/v1 Probe).
"""

from __future__ import annotations

from collections.abc import Callable

from hairpin.kernel.netns import Netns
from hairpin.kernel.reactor import Reactor, Timer
from hairpin.lab import probe
from hairpin.lab.processes import Background
from hairpin.lab.sandbox import Sandbox
from hairpin.model.address import IP
from hairpin.model.pod import Container
from hairpin.model.pod import Probe as Spec


class Readiness:
    """Whether one container is ready, as its probe says; it asks until ``stop``."""

    def __init__(
        self,
        reactor: Reactor,
        container: Container,
        spec: Spec,
        pod_ip: IP,
        node: Netns,
        sandbox: Sandbox,
        on_change: Callable[[], None],
    ) -> None:
        self.ready = False
        self._reactor = reactor
        self._container = container
        self._spec = spec
        self._pod_ip = pod_ip
        self._node = node
        self._sandbox = sandbox
        self._on_change = on_change
        self._in_a_row = 0  # answers that speak against what ``ready`` says
        self._stopped = False
        self._timer: Timer = reactor.after(spec.initial_delay_seconds, self._ask)

    def stop(self) -> None:
        """Asks no more; the container is gone."""
        self._stopped = True
        self.ready = False
        self._timer.cancel()

    def _ask(self) -> None:
        spec = self._spec
        self._timer = self._reactor.after(max(1, spec.period_seconds), self._ask)
        timeout = float(max(1, spec.timeout_seconds))
        if spec.exec:
            self._ask_command(spec.exec.command, timeout)
        elif spec.http_get:
            port = self._number(spec.http_get.port)
            self._ask_port(port, timeout, spec.http_get.path or "/")
        elif spec.tcp_socket:
            self._ask_port(self._number(spec.tcp_socket.port), timeout, None)
        else:
            self._answered(True)

    def _ask_port(self, port: int | None, timeout: float, path: str | None) -> None:
        """HTTP with a path, else the connection alone.  A port name that is nobody's fails."""
        if port is None:
            self._answered(False)
            return
        wanted = probe.Probe(ip=self._pod_ip, port=port, timeout=timeout, path=path)

        def done(seen: probe.Seen) -> None:
            good = seen.outcome == "answered"
            self._answered(good and (path is None or 200 <= (seen.status or 0) < 400))

        try:
            probe.start(self._reactor, self._node, wanted, done)
        except OSError:  # no descriptors, or its node is just going
            self._answered(False)

    def _ask_command(self, command: tuple[str, ...], timeout: float) -> None:
        limit: list[Timer] = []

        def ended(code: int) -> None:
            limit[0].cancel()
            self._answered(code == 0)

        try:
            process = Background(self._reactor, self._sandbox, command, ended)
        except OSError:
            self._answered(False)
            return
        limit.append(self._reactor.after(timeout, lambda: process.end(at_once=True)))

    def _number(self, port: int | str) -> int | None:
        if isinstance(port, int):
            return port
        named = (one.container_port for one in self._container.ports if one.name == port)
        return next(named, None)

    def _answered(self, good: bool) -> None:
        if self._stopped:
            return
        if good == self.ready:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        enough = self._spec.success_threshold if good else self._spec.failure_threshold
        if self._in_a_row >= max(1, enough):
            self.ready = good
            self._in_a_row = 0
            self._on_change()
