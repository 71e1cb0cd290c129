"""What runs in Pods: commands as processes, everything else as the built-in echo server."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from typing import Any

from hairpin.kernel.netns import Netns
from hairpin.kernel.reactor import Reactor
from hairpin.lab.echo import EchoServers
from hairpin.lab.ports import Role, Selectors, Socket, built_in
from hairpin.lab.processes import Background
from hairpin.lab.readiness import Readiness
from hairpin.lab.sandbox import Sandbox
from hairpin.model.pod import Container, Pod

_BACKLOG = 128
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_ANY = {4: "0.0.0.0", 6: "::"}
_KINDS = {
    "TCP": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "UDP": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "SCTP": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),  # one association a socket, as TCP
}
_UNSPOKEN = (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT)
"""What a kernel without a protocol says."""
_RESTART_DELAYS: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 10.0)
"""Seconds; Kubernetes begins with 10 and doubles."""
_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp


class ContainerRun:
    """One container of a Pod: its process, or nothing where the echo server stands in."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.process: Background | None = None
        self.previous: Background | None = None  # the process before the last restart
        self.followers: list[Callable[[], None]] = []  # called when there is more to read or know
        self.over = False  # it will not be started again
        self.restarts = 0
        self.readiness: Readiness | None = None
        self.waiting: str | None = None  # why it is not running, as Kubernetes says it
        self.problem: str | None = None  # what the kernel said when it was to be started

    @property
    def running(self) -> bool:
        if not self.container.command:
            return not self.over
        return self.process is not None and self.process.exit_code is None

    def tell(self) -> None:
        """Lets those who follow it look again."""
        for follower in list(self.followers):
            follower()

    @property
    def ready(self) -> bool:
        """It runs, and its readiness probe says yes: without one, running is enough."""
        return self.running and (
            self.container.readiness_probe is None
            or (self.readiness is not None and self.readiness.ready)
        )


class PodRun:
    """A Pod's containers, running in its namespaces."""

    def __init__(
        self,
        reactor: Reactor,
        pod: Pod,
        netns: Netns,
        node: Netns,
        sandbox: Sandbox,
        echo: EchoServers,
        on_change: Callable[[], None],
    ) -> None:
        self.pod = pod
        self.netns = netns
        self._node = node
        self.sandbox = sandbox
        self.started = time.time()
        self.containers = [ContainerRun(one) for one in pod.spec.containers]
        self._served: dict[tuple[int, Socket], Role] = {}  # by IP version
        self._taken: set[Socket] = set()  # somebody else has it
        self._unspoken: set[Socket] = set()  # of a protocol that the kernel lacks
        self.unserved = False
        """The built-in servers ended without having been told to."""
        self._reactor = reactor
        self._echo = echo
        self._on_change = on_change
        self.ending = False
        """It was told to end at once; a second time does no harm."""
        self.terminating: Callable[[], None] | None = None
        """Called when a container has ended, once the Pod is on its way out (``lab.life``)."""

    @property
    def identity(self) -> str:
        """``namespace/name``."""
        return "/".join(self.pod.key)

    @property
    def ready(self) -> bool:
        """Every container is ready."""
        return all(run.ready for run in self.containers)

    def start(self) -> None:
        """Starts the containers that have a command; the built-in servers wait for ``serve``."""
        for run in self.containers:
            if run.container.command:
                self._spawn(run)
            else:
                self._probe(run)

    def serve(self, selectors: Selectors) -> None:
        """Makes the built-in servers listen where they should now and did not yet."""
        self.unserved = False
        if self.terminating:
            return  # what listens goes on until it ends; nothing new begins
        versions: set[int] = {one.ip.version for one in self.pod.status.pod_ips}
        roles = built_in(self.pod, selectors)
        wanted = {(each, one): role for each in sorted(versions) for one, role in roles.items()}
        if any(self._served.get(one, role) != role for one, role in wanted.items()):
            self._echo.end(self.identity)  # what answered there was another server
            self._served = {}
        missing = [one for one in sorted(wanted) if one not in self._served]
        if missing:
            for one, listener in self._listeners(missing).items():
                identity = {**self._said_of_it(), "port": one[1][1]}
                self._echo.serve(listener, identity, wanted[one])
                self._served[one] = wanted[one]

    def forget_servers(self) -> None:
        """The built-in servers are gone; ``serve`` makes them anew."""
        self.unserved = bool(self._served) and not self.terminating
        self._served = {}

    def drain(self, done: Callable[[], None]) -> None:
        """Ends the built-in servers when nobody speaks with them, and calls back then."""

        def drained() -> None:
            self._served = {}
            done()
            self._on_change()

        if self._served:
            self._echo.drain(self.identity, drained)
        else:
            self._reactor.after(0, drained)

    def end(self) -> None:
        """Ends everything at once: nothing of the Pod runs when its namespace goes."""
        self.ending = True
        for run in self.containers:
            if run.readiness:
                run.readiness.stop()
            if run.process:
                run.process.end(at_once=True)
            run.over = True
            run.tell()
        if self._served:
            self._echo.end(self.identity)

    def lacks(self) -> list[str]:
        """What a Pod that was just started has not come to yet, in words."""
        said = {
            port.container_port
            for run in self.containers
            for port in run.container.ports
            if run.container.command and port.protocol == "TCP"
        }
        closed = sorted(said - listening(self.netns)) if said else []
        lacking = [f"does not listen on port {port} yet" for port in closed]
        for protocol, port in sorted(self._taken):
            where = "on its node" if self.pod.spec.host_network else "in the Pod"
            lacking.append(f"cannot listen on port {port}/{protocol}: it is taken {where}")
        for protocol, port in sorted(self._unspoken):
            lacking.append(f"cannot listen on port {port}: this kernel has no {protocol}")
        for run in self.containers:
            if run.problem is not None:
                lacking.append(f"could not be started yet: {run.problem}")
            elif run.waiting not in (None, "Completed"):
                lacking.append(f"is in {run.waiting}: see hairpin logs {self.pod.key[1]}")
            elif not run.ready and run.waiting is None:
                lacking.append("is not ready yet")
        return lacking

    def _said_of_it(self) -> dict[str, Any]:
        namespace, name = self.pod.key
        return {
            "id": self.identity,
            "pod": name,
            "namespace": namespace,
            "node": self.pod.spec.node_name,
        }

    def _listeners(
        self, wanted: list[tuple[int, Socket]]
    ) -> dict[tuple[int, Socket], socket.socket]:
        """A bound socket for each, made in the Pod's namespace, but where somebody else listens: in
        a node's network, or a process that a person started in the Pod.  Where the kernel has none
        (SCTP) it is a raw one (``lab.sctp``), and none where that may not be had either.

        Raises OSError.
        """
        made: dict[tuple[int, Socket], socket.socket] = {}
        self._taken.clear()
        with self.netns.entered():
            for version, one in wanted:
                try:
                    made[version, one] = _listener(version, one[0])
                except OSError as error:
                    if error.errno not in (*_UNSPOKEN, errno.EPERM):
                        raise
                    self._unspoken.add(one)
        for (version, (protocol, port)), listener in list(made.items()):
            if listener.type == socket.SOCK_RAW:
                continue
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if version == 6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listener.bind((_ANY[version], port))
                if protocol != "UDP":
                    listener.listen(_BACKLOG)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                self._taken.add((protocol, port))
                made.pop((version, (protocol, port))).close()
        return made

    def _spawn(self, run: ContainerRun) -> None:
        container = run.container
        try:
            process = Background(
                self._reactor,
                self.sandbox,
                [*container.command, *container.args],
                lambda code: self._exited(run, code),
                env={one.name: one.value for one in container.env},
                cwd=container.working_dir or "/",
            )
        except OSError as error:  # as the kubelet does, it is tried again
            run.waiting, run.problem = "RunContainerError", str(error)
            self._start_later(run)
            return
        run.waiting = run.problem = None
        run.previous, run.process = run.process, process
        run.process.on_output = run.tell
        self._probe(run)

    def _probe(self, run: ContainerRun) -> None:
        """Begins to ask for readiness, anew with each start."""
        spec, ip = run.container.readiness_probe, self.pod.status.pod_ip
        if run.readiness:
            run.readiness.stop()
        if spec and ip:
            run.readiness = Readiness(
                self._reactor, run.container, spec, ip, self._node, self.sandbox, self._on_change
            )

    def _exited(self, run: ContainerRun, code: int) -> None:
        if self.ending:
            return
        if run.readiness:
            run.readiness.stop()
        policy = "Never" if self.terminating else self.pod.spec.restart_policy
        if policy == "Never" or (policy == "OnFailure" and code == 0):
            run.waiting = "Completed" if code == 0 else "Error"
            run.over = True
            run.tell()
            if self.terminating:
                self.terminating()
        else:
            run.waiting = "CrashLoopBackOff"
            self._start_later(run)
            run.restarts += 1
        self._on_change()

    def _start_later(self, run: ContainerRun) -> None:
        delay = _RESTART_DELAYS[min(run.restarts, len(_RESTART_DELAYS) - 1)]
        self._reactor.after(delay, lambda: self._restart(run))

    def _restart(self, run: ContainerRun) -> None:
        if not self.ending and not self.terminating:
            self._spawn(run)
            self._on_change()


def _listener(version: int, protocol: str) -> socket.socket:
    """Raises OSError."""
    try:
        return socket.socket(_FAMILIES[version], *_KINDS[protocol])
    except OSError as error:
        if protocol != "SCTP" or error.errno not in _UNSPOKEN:
            raise
    return socket.socket(_FAMILIES[version], socket.SOCK_RAW, socket.IPPROTO_SCTP)


def listening(netns: Netns) -> set[int]:
    """The TCP ports that somebody listens on in a namespace (/proc/net/tcp, tcp6)."""
    ports = set()
    with netns.entered():
        for name in ("tcp", "tcp6"):
            try:
                with open(f"/proc/thread-self/net/{name}") as table:
                    rows = table.read().splitlines()[1:]
            except FileNotFoundError:  # a kernel without IPv6
                continue
            for row in rows:
                local, _, state = row.split()[1:4]
                if state == _LISTEN:
                    ports.add(int(local.rpartition(":")[2], 16))
    return ports
