"""The lab itself: the objects it was given, what runs, and the kernel that follows them.

In a lab hairpin plays the API server's and the controllers' part: every change of an object or
of a Pod's readiness ends in ``_converge``, which computes the whole desired state anew and
applies the difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence

from hairpin.kernel.apply import Failed, Kernel
from hairpin.kernel.netns import Netns
from hairpin.kernel.reactor import Reactor
from hairpin.lab import names, topology
from hairpin.lab.echo import EchoServers
from hairpin.lab.ingredients import Ingredients, values
from hairpin.lab.processes import Background
from hairpin.lab.sandbox import NETNS_DIR, Sandbox
from hairpin.lab.session import LabError
from hairpin.lab.workloads import PodRun
from hairpin.model.metadata import Key, Ref
from hairpin.model.pod import Pod
from hairpin.model.snapshot import Object, Snapshot
from hairpin.plan.diff import diff
from hairpin.source.cluster import admit
from hairpin.source.settings import Settings
from hairpin.state.change import Change, KernelState, Wanted
from hairpin.state.links import Netns as NetnsObject

_SHOWN = 5  # failures that an error names; the rest are counted
_SETTLE_LIMIT = 10.0  # seconds that Pods get before they are reported
_SETTLE_PAUSE = 0.05  # seconds between looks


class Lab:
    """One lab, in the World whose lab process this is."""

    def __init__(self, reactor: Reactor, kernel: Kernel) -> None:
        self.reactor = reactor
        self.kernel = kernel
        self.snapshot = Snapshot()
        self.ingredients = Ingredients()
        self.runs: dict[Key, PodRun] = {}
        self.started: dict[str, Background] = {}
        self._held = KernelState()
        self._echo: EchoServers | None = None
        self._sandboxes: dict[str, Sandbox] = {}
        self._settings = Settings()
        self._rest_of_changes = False

    def apply(self, objects: Iterable[Object]) -> None:
        """Creates or changes objects.  Raises ManifestError (nothing changed) or LabError."""
        self._adopt(self.snapshot.merge(objects))

    def delete(self, refs: Sequence[Ref]) -> None:
        """Deletes objects.  Raises LabError when one is not there, and then deletes none."""
        for ref in refs:
            if self.snapshot.get(ref) is None:
                raise LabError(f"there is no {ref} in this lab", exit_code=2)
        pods = {ref.key for ref in refs if ref.kind == "Pod"}
        self._adopt(self.snapshot.without(refs), restart=pods)

    def set(self, wanted: dict[str, str]) -> list[Change]:
        """Switches ingredients, whatever the kernel holds now; returns what was changed.

        Raises LabError for an unknown ingredient or value.
        """
        after = self.ingredients
        for name, value in wanted.items():
            try:
                after = after.with_(name, value)
            except ValueError as error:
                raise LabError(str(error), exit_code=2) from None
        target = topology.desired(self.snapshot, after)
        changes: dict[tuple[object, ...], Change] = {}
        for name in wanted:
            for other in values(name):
                held = topology.desired(self.snapshot, after.with_(name, other))
                for change in diff(target, held):
                    changes.setdefault((change.netns, change.verb, change.object), change)
        ordered = list(changes.values())
        self._apply(ordered)
        self.ingredients, self._held = after, target
        return ordered

    def bare_nodes(self, nodes: Sequence[str]) -> None:
        """Makes nodes with an uplink and nothing else, for a story that builds the rest."""
        state = topology.uplinks(list(nodes))
        self._make_namespaces(nodes)
        self._apply(diff(state, self._held))
        self._held = state

    def change(self, changes: Sequence[Change]) -> None:
        """Makes Changes by hand; the lab's own objects do not follow.  Raises LabError."""
        self._apply(changes)

    def when_settled(self, done: Callable[[list[str]], None]) -> None:
        """Calls back when every Pod is ready and listens where it says, or after 10 s with what
        is not so yet.
        """
        deadline = self.reactor.now() + _SETTLE_LIMIT

        def look() -> None:
            late = [
                f"Pod {run.identity} {what}" for run in self.runs.values() for what in run.lacks()
            ]
            if not late or self.reactor.now() >= deadline:
                done(late)
            else:
                self.reactor.after(_SETTLE_PAUSE, look)

        look()

    def netns(self, name: str) -> Netns:
        """A namespace of the lab, or one that somebody made with ``ip netns add`` on a node.

        Raises LabError.
        """
        known = self.kernel.namespaces.get(name)
        if known is None:
            try:
                known = Netns.open(f"{NETNS_DIR}/{name}", name)
            except OSError:
                message = f"there is no network namespace {name}"
                raise LabError(message, exit_code=2) from None
            self.kernel.adopt(known)
        return known

    def wanted(self, netns: str, key: tuple[object, ...]) -> Wanted | None:
        """What the lab wants of a kernel object, and for whom; None if it is not the lab's."""
        return self._held.get(netns, key)

    def sandbox(self, netns: str) -> Sandbox:
        """Where processes of that namespace run: a Pod's, a node's, or one made by hand."""
        known = self._sandboxes.get(netns)
        if known is None:
            node = netns.removeprefix("node_")
            hostname = node if netns.startswith("node_") else netns.replace("_", "-").strip("-")
            known = Sandbox(self.netns(netns), hostname, {}, isolated=False)
            self._sandboxes[netns] = known
        return known

    def _adopt(self, objects: Snapshot, restart: Collection[Key] = ()) -> None:
        """Takes over a new set of objects, ends what is gone and starts what is new.

        ``restart``: Pods that end even if a Deployment brings back an equal one at once.
        """
        admitted = self._admit(objects)
        nodes = [node.metadata.name for node in admitted.nodes.values()]
        self._make_namespaces(nodes)
        for key in [key for key, run in self.runs.items() if _must_end(run, admitted)]:
            self._end(key)
        for key in restart:
            if key in self.runs:
                self._end(key)
        self._converge(admitted)
        for key, pod in admitted.pods.items():
            if key not in self.runs and pod.status.pod_ip:
                self._start(pod)
        for run in self.runs.values():
            run.serve_echo(admitted.services.values())
        self._converge(self._admit(objects))

    def _admit(self, objects: Snapshot) -> Snapshot:
        ready = {key: run.ready for key, run in self.runs.items()}
        return admit(objects, self.snapshot, self._settings, ready=ready)

    def _converge(self, admitted: Snapshot) -> None:
        """Makes the kernel hold what the objects and ingredients say, by difference."""
        wanted = topology.desired(admitted, self.ingredients)
        self.snapshot = admitted
        self._apply(diff(wanted, self._held))
        self._held = wanted

    def _apply(self, changes: Sequence[Change]) -> None:
        failed = self.kernel.apply(changes)
        self._forget_sandboxes(changes)
        if failed:
            said = [_say(one) for one in failed[:_SHOWN]]
            if len(failed) > _SHOWN:
                said.append(f"and {len(failed) - _SHOWN} more")
            raise LabError("the kernel refused: " + "; ".join(said))

    def _forget_sandboxes(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.verb == "remove" and isinstance(change.object, NetnsObject):
                sandbox = self._sandboxes.pop(change.object.name, None)
                if sandbox:
                    sandbox.close()

    def _make_namespaces(self, nodes: Iterable[str]) -> None:
        """Nodes and the outside have namespaces that ``ip netns`` on a node does not list."""
        for name in (names.OUTSIDE, *map(names.node_netns, nodes)):
            if name not in self.kernel.namespaces:
                self.kernel.adopt(Netns.create(name))

    def _start(self, pod: Pod) -> None:
        netns = names.pod_netns(*pod.key)
        hostname = pod.spec.hostname or pod.metadata.name
        files = {
            "/etc/hostname": f"{hostname}\n",
            "/etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n{pod.status.pod_ip} {hostname}\n",
            "/etc/resolv.conf": "options timeout:1 attempts:1\n",
        }
        sandbox = Sandbox(self.netns(netns), hostname, files, isolated=True)
        self._sandboxes[netns] = sandbox
        if self._echo is None:
            self._echo = EchoServers(self.reactor)
        node = self.netns(names.node_netns(pod.spec.node_name))
        run = PodRun(self.reactor, pod, self.netns(netns), node, sandbox, self._echo, self._recheck)
        self.runs[pod.key] = run
        run.start(self.snapshot.services.values())

    def _end(self, key: Key) -> None:
        run = self.runs.pop(key)
        run.end()
        kill_all_in(run.netns)

    def _recheck(self) -> None:
        """Readiness may have changed: once for all that happens in this turn of the loop."""
        if not self._rest_of_changes:
            self._rest_of_changes = True
            self.reactor.after(0, self._recheck_now)

    def _recheck_now(self) -> None:
        self._rest_of_changes = False
        self._converge(self._admit(self.snapshot))


def _must_end(run: PodRun, admitted: Snapshot) -> bool:
    """A Pod that is gone, or whose containers or place have changed, starts anew."""
    pod = admitted.pods.get(run.pod.key)
    return pod is None or pod.spec != run.pod.spec or pod.status.pod_ip != run.pod.status.pod_ip


def _say(failed: Failed) -> str:
    change = failed.change
    return f"{change.verb} {change.object} in {change.netns}: {failed.error}"


def kill_all_in(netns: Netns) -> None:
    """SIGKILL for every process in a network namespace, whatever started it."""
    wanted = os.fstat(netns.fd).st_ino
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.stat(f"/proc/{entry}/ns/net").st_ino == wanted:
                    os.kill(int(entry), 9)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
