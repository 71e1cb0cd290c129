"""The end of a Pod's life: preStop, SIGTERM, and SIGKILL when its time is over.

As the kubelet does it (Kubernetes, "Pod lifecycle", termination of Pods): the grace period counts
from the beginning, preStop with it, and a hook that uses it up leaves two seconds more.  What the
proxies do of it has been done before: nobody is sent here any more who has another place to go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from hairpin.kernel.netns import Netns
from hairpin.kernel.reactor import Reactor, Timer
from hairpin.lab import probe
from hairpin.lab.processes import Background
from hairpin.lab.workloads import ContainerRun, PodRun
from hairpin.model.metadata import Key, Ref
from hairpin.model.pod import HTTPGetAction, Pod
from hairpin.model.snapshot import Object, Snapshot
from hairpin.source.rollout import owner_of

_AFTER_HOOK = 2.0  # seconds, minimumGracePeriodInSeconds in pkg/kubelet/kuberuntime


def as_marked(thing: Object, before: Snapshot) -> Object:
    """An object as it is applied: whether a Pod is on its way out is not the applier's to say."""
    if not isinstance(thing, Pod):
        return thing
    known = before.pods.get(thing.key)
    metadata = msgspec.structs.replace(
        thing.metadata,
        deletion_timestamp=known.metadata.deletion_timestamp if known else None,
        deletion_grace_period_seconds=(
            known.metadata.deletion_grace_period_seconds if known else None
        ),
    )
    return msgspec.structs.replace(thing, metadata=metadata)


def going_with(refs: Iterable[Ref], snapshot: Snapshot) -> list[Pod]:
    """The Pods among the objects to delete, and those of Deployments among them."""
    kept = list(refs)
    pods = {ref.key for ref in kept if ref.kind == "Pod"}
    owners = {ref.key for ref in kept if ref.kind == "Deployment"}
    return [
        pod
        for key, pod in snapshot.pods.items()
        if key in pods or (key[0], owner_of(pod) or "") in owners
    ]


class Endings:
    """All Pods of a lab that are on their way out."""

    def __init__(self, reactor: Reactor, on_over: Callable[[Key], None]) -> None:
        """``on_over``: called once for each, from the loop, when nothing of it needs to run."""
        self._reactor = reactor
        self._on_over = on_over
        self._under_way: dict[Key, Ending] = {}

    def follow(self, pods: Iterable[Pod], runs: dict[Key, PodRun], nodes: dict[str, Netns]) -> None:
        """Begins to end the Pods that are marked to go, or ends them sooner than was said."""
        for pod in pods:
            grace = pod.metadata.deletion_grace_period_seconds
            run = runs.get(pod.key)
            if pod.metadata.deletion_timestamp is None or run is None:
                continue
            limit = float(run.pod.spec.termination_grace_period_seconds if grace is None else grace)
            known = self._under_way.get(pod.key)
            if known is not None:
                known.shorten(limit)
                continue
            node = nodes.get(pod.spec.node_name, run.netns)
            known = Ending(self._reactor, run, node, limit, self._over)
            self._under_way[pod.key] = known  # before anything can fail: its time is counted
            known.begin()

    def forget(self, key: Key) -> None:
        """The Pod is gone."""
        ending = self._under_way.pop(key, None)
        if ending is not None:
            ending.stop()

    def _over(self, key: Key) -> None:
        if key in self._under_way:
            self._on_over(key)


class Ending:
    """One Pod on its way out."""

    def __init__(
        self,
        reactor: Reactor,
        run: PodRun,
        node: Netns,
        grace: float,
        on_over: Callable[[Key], None],
    ) -> None:
        self._reactor = reactor
        self._run = run
        self._node = node
        self._on_over = on_over
        self._deadline = reactor.now() + grace
        self._hooks: dict[int, Background | None] = {}  # containers whose preStop goes on
        self._timers: list[Timer] = []
        self._limit = reactor.after(grace, self._too_long)
        self._finished = False
        run.terminating = self._look

    def begin(self) -> None:
        """Runs the hooks, and tells what has none to end."""
        for index, container in enumerate(self._run.containers):
            self._pre_stop(index, container)
        self._stop_built_in()
        self._look()

    def shorten(self, grace: float) -> None:
        """Ends it in ``grace`` seconds from now, if that is sooner."""
        deadline = self._reactor.now() + grace
        if deadline < self._deadline and not self._finished:
            self._deadline = deadline
            self._limit.cancel()
            self._limit = self._reactor.after(grace, self._too_long)

    def stop(self) -> None:
        """Waits for nothing any more."""
        self._finished = True
        for timer in (self._limit, *self._timers):
            timer.cancel()
        for hook in self._hooks.values():
            if hook is not None:
                hook.end(at_once=True)
        self._hooks.clear()

    def _pre_stop(self, index: int, container: ContainerRun) -> None:
        lifecycle = container.container.lifecycle
        hook = lifecycle.pre_stop if lifecycle else None
        if hook is None or not container.running:
            self._terminate(container)
            return
        self._hooks[index] = None

        def done() -> None:
            if self._hooks.pop(index, self) is not self and not self._finished:
                self._terminate(container)
                self._stop_built_in()
                self._look()

        if hook.exec:
            where, command = self._run.sandbox, hook.exec.command
            try:
                process = Background(self._reactor, where, command, lambda _code: done())
            except OSError:  # a hook that fails is over, too
                self._timers.append(self._reactor.after(0, done))
            else:
                self._hooks[index] = process
        elif hook.sleep:
            self._timers.append(self._reactor.after(float(hook.sleep.seconds), done))
        elif hook.http_get:
            self._ask(container, hook.http_get, done)
        else:
            self._timers.append(self._reactor.after(0, done))

    def _ask(self, container: ContainerRun, get: HTTPGetAction, done: Callable[[], None]) -> None:
        named = {one.name: one.container_port for one in container.container.ports}
        port = get.port if isinstance(get.port, int) else named.get(get.port)
        address = self._run.pod.status.pod_ip
        if port is None or address is None:
            self._timers.append(self._reactor.after(0, done))
            return
        left = self._deadline - self._reactor.now() + _AFTER_HOOK
        asked = probe.Probe(ip=address, port=port, timeout=left, path=get.path or "/")
        try:
            probe.start(self._reactor, self._node, asked, lambda _seen: done())
        except OSError:  # as above
            self._timers.append(self._reactor.after(0, done))

    def _terminate(self, container: ContainerRun) -> None:
        """SIGTERM; what runs no more, or waits for its next start, has ended with that."""
        if container.process is not None and container.process.exit_code is None:
            container.process.terminate()
        elif container.container.command:
            container.over = True

    def _stop_built_in(self) -> None:
        """The built-in server is one for all containers that it stands in for."""
        idle = [one for one in self._run.containers if not one.container.command]
        waiting = any(not self._run.containers[index].container.command for index in self._hooks)
        if not idle or waiting or all(one.over for one in idle):
            return

        def drained() -> None:
            for one in idle:
                one.over = True
                one.tell()
            self._look()

        self._run.drain(drained)

    def _too_long(self) -> None:
        """The time is over: SIGKILL for what goes on."""
        if self._hooks:
            self._cut_hooks()
            return
        self._finish()

    def _cut_hooks(self) -> None:
        hooks, self._hooks = self._hooks, {}
        for index, hook in hooks.items():
            if hook is not None:
                hook.end(at_once=True)
            self._terminate(self._run.containers[index])
        self._stop_built_in()
        self._limit = self._reactor.after(_AFTER_HOOK, self._finish)
        self._look()

    def _look(self) -> None:
        """Whether all containers have ended."""
        if not self._finished and not self._hooks and all(c.over for c in self._run.containers):
            self._finish()

    def _finish(self) -> None:
        if not self._finished:
            self.stop()
            self._reactor.after(0, lambda: self._on_over(self._run.pod.key))
