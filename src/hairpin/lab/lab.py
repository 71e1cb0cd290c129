"""The lab itself: the objects it was given, what runs, and the kernel that follows them.

In a lab hairpin plays the API server's and the controllers' part: every change of an object or
of a Pod's readiness ends in ``_converge``, which computes the whole desired state anew and
applies the difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from hairpin.kernel.apply import Failed, Kernel
from hairpin.kernel.netns import Netns
from hairpin.kernel.reactor import Reactor
from hairpin.lab import capacity, limits, names, resolution, topology
from hairpin.lab.dns_zone import facts
from hairpin.lab.echo import EchoServers
from hairpin.lab.ingredients import Ingredients, absent, values
from hairpin.lab.ports import Selectors
from hairpin.lab.processes import Background
from hairpin.lab.proxies import Proxies, Refused
from hairpin.lab.sandbox import NETNS_DIR, Sandbox
from hairpin.lab.session import LabError
from hairpin.lab.turns import Stage, Turns, at_once
from hairpin.lab.workloads import PodRun
from hairpin.model.address import IP
from hairpin.model.metadata import Key, Ref
from hairpin.model.pod import Pod
from hairpin.model.service import Service
from hairpin.model.snapshot import Object, Snapshot
from hairpin.plan.diff import diff
from hairpin.source.cluster import admit, with_readiness
from hairpin.source.implied import DNS_SERVICE
from hairpin.source.settings import LAB
from hairpin.state.abilities import Abilities
from hairpin.state.change import Change, KernelState, Wanted
from hairpin.state.links import Netns as NetnsObject

_SHOWN = 5  # failures that an error names; the rest are counted
SETTLE_LIMIT = 10.0  # seconds that Pods get before they are reported
_SETTLE_PAUSE = 0.05  # seconds between looks
_PIECE = 64  # Changes before others can have a turn


class Lab:
    """One lab, in the World whose lab process this is."""

    def __init__(
        self, reactor: Reactor, kernel: Kernel, abilities: Abilities = topology.ALL
    ) -> None:
        self.reactor = reactor
        self.kernel = kernel
        self.abilities = abilities
        self.snapshot = Snapshot()
        self.ingredients = Ingredients()
        self.runs: dict[Key, PodRun] = {}
        self.started: dict[str, Background] = {}
        self.on_change: list[Callable[[], None]] = []
        """Called when objects or their state may have changed, in the middle of changing them."""
        self._held = KernelState()
        self.spent: dict[str, float] = {}
        """Seconds of the last change by what they went to, beside the kernel's own ``spent``."""
        self._echo: EchoServers | None = None
        self._sandboxes: dict[str, Sandbox] = {}
        self._settings = LAB
        self.turns = Turns(reactor)
        self.proxies = Proxies(reactor, kernel, abilities)
        self.proxies.when_free = self.turns.when_free
        capacity.raise_file_limit()
        self._rest_of_changes = False

    def apply(self, objects: Iterable[Object]) -> Iterator[Stage]:
        """Creates or changes objects.  Raises ManifestError (nothing changed) or LabError.

        Like ``delete`` for ``turns`` to run.
        """
        merged = self.snapshot.merge(objects)
        limits.check(merged)
        yield from self._adopt(merged)

    def delete(self, refs: Sequence[Ref]) -> Iterator[Stage]:
        """Deletes objects.  Raises LabError when one is not there, and then deletes none."""
        for ref in refs:
            if self.snapshot.get(ref) is None:
                raise LabError(f"there is no {ref} in this lab", exit_code=2)
        pods = {ref.key for ref in refs if ref.kind == "Pod"}
        yield from self._adopt(self.snapshot.without(refs), restart=pods)

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
            if reason := absent(name, self.abilities):
                raise LabError(
                    f"this lab's kernel has no ingredient {name}: {reason}",
                    "hairpin kernel shows what each kernel can do",
                    exit_code=2,
                )
        target = topology.desired(self.snapshot, after, self.abilities)
        own: dict[tuple[object, ...], Change] = {}
        proxied: dict[tuple[object, ...], Change] = {}
        for name in wanted:
            for other in values(name):
                before = after.with_(name, other)
                held = topology.desired(self.snapshot, before, self.abilities)
                for change in diff(target, held):
                    own.setdefault((change.netns, change.verb, change.object.key), change)
                for change in self.proxies.changes(after, before):
                    proxied.setdefault((change.netns, change.verb, change.object.key), change)
        at_once(self._apply(list(own.values())))
        self.ingredients, self._held = after, target
        _refuse(self.proxies.adjust(after))
        return list({**proxied, **own}.values())

    def bare_nodes(self, nodes: Sequence[str]) -> None:
        """Makes nodes with an uplink and nothing else, for a story that builds the rest."""
        state = topology.uplinks(list(nodes))
        self._make_namespaces(nodes)
        at_once(self._apply(diff(state, self._held)))
        self._held = state

    def change(self, changes: Sequence[Change]) -> None:
        """Makes Changes by hand; the lab's own objects do not follow.  Raises LabError."""
        at_once(self._apply(changes))

    def when_settled(self, done: Callable[[list[str]], None], limit: float = SETTLE_LIMIT) -> None:
        """Calls back when every Pod is ready and listens where it says, or after ``limit``
        seconds with what is not so yet.
        """
        deadline = self.reactor.now() + limit

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
        return self._held.get(netns, key) or self.proxies.wanted(netns, key)

    def wanted_by(self, owner: str) -> list[Wanted]:
        """What is in the kernel for that owner, ``service default/web``, and for its ports."""
        return [
            one
            for one in chain(self._held, self.proxies)
            if one.owner == owner or one.owner.startswith(f"{owner}:")
        ]

    def unserved(self, services: Iterable[Service]) -> str | None:
        """Why those Services that have a ClusterIP are not served; None where they are."""
        reason = self.abilities.unserved
        if reason is None or not any(service.virtual_ips for service in services):
            return None
        return reason

    def sandbox(self, netns: str) -> Sandbox:
        """Where processes of that namespace run: a Pod's, a node's, or one made by hand."""
        known = self._sandboxes.get(netns)
        if known is None:
            node = netns.removeprefix("node_")
            hostname = node if netns.startswith("node_") else netns.replace("_", "-").strip("-")
            known = Sandbox(self.netns(netns), hostname, {}, isolated=False)
            self._sandboxes[netns] = known
        return known

    def _adopt(self, objects: Snapshot, restart: Collection[Key] = ()) -> Iterator[Stage]:
        """Takes over a new set of objects, ends what is gone and starts what is new.

        ``restart``: Pods that end even if a Deployment brings back an equal one at once.
        """
        self.spent.clear()
        self.kernel.spent.clear()
        admitted = self._admit(objects)
        capacity.check(admitted.pods)
        nodes = [node.metadata.name for node in admitted.nodes.values()]
        self._make_namespaces(nodes)
        gone = [key for key, run in self.runs.items() if _must_end(run, admitted)]
        if gone or restart:  # nobody is sent to them any more
            self.proxies.follow(self._without(admitted, {*gone, *restart}), new=False)
        self._end(dict.fromkeys((*gone, *(key for key in restart if key in self.runs))))
        yield from self._converge(admitted)
        new = [
            pod for key, pod in admitted.pods.items() if key not in self.runs and pod.status.pod_ip
        ]
        for number, pod in enumerate(new):
            started = self.reactor.now()
            self._start(pod)
            self._spent("starting Pods", started)
            yield Stage("starting Pods", number, len(new))
        selectors = Selectors(admitted.services.values())
        for number, run in enumerate(self.runs.values()):
            started = self.reactor.now()
            run.serve(selectors)
            self._spent("built-in servers", started)
            yield Stage("starting servers", number, len(self.runs))
        yield from self._converge(self._admit(objects))

    def _admit(self, objects: Snapshot) -> Snapshot:
        started = self.reactor.now()
        ready = {key: run.ready for key, run in self.runs.items()}
        admitted = admit(objects, self.snapshot, self._settings, ready=ready)
        admitted = topology.with_addresses(admitted)
        self._spent("admission", started)
        return admitted

    def _without(self, admitted: Snapshot, gone: Collection[Key]) -> Snapshot:
        """With those Pods not ready any more."""
        ready = {key: run.ready and key not in gone for key, run in self.runs.items()}
        return with_readiness(admitted, ready, self._settings)

    def _converge(self, admitted: Snapshot) -> Iterator[Stage]:
        """Makes the kernel hold what the objects and ingredients say, by difference."""
        started = self.reactor.now()
        wanted = topology.desired(admitted, self.ingredients, self.abilities)
        changes = diff(wanted, self._held)
        self._spent("planning", started)
        self.snapshot = admitted
        for tell in self.on_change:
            tell()
        yield from self._apply(changes)
        self._held = wanted
        started = self.reactor.now()
        refused = self.proxies.follow(admitted)
        self._spent("Services", started)
        _refuse(refused)
        if self.runs:
            started = self.reactor.now()
            self._servers().say_names(msgspec.json.encode(facts(admitted)))
            self._spent("names", started)

    @property
    def seconds(self) -> dict[str, float]:
        """What the last change took, by what it went to."""
        return {**self.kernel.spent, **self.spent}

    def _spent(self, what: str, started: float) -> None:
        self.spent[what] = self.spent.get(what, 0.0) + self.reactor.now() - started

    def _apply(self, changes: Sequence[Change]) -> Iterator[Stage]:
        failed: list[Failed] = []
        done = 0
        for piece in _pieces(changes):
            failed += self.kernel.apply(piece)
            done += len(piece)
            yield Stage("building Pods and Services", done, len(changes))
        self._forget_sandboxes(changes)
        if failed:
            raise _refusal([_say(one) for one in failed[:_SHOWN]], len(failed))

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
        hostname = resolution.hostname(pod)
        files = {
            "/etc/hostname": f"{hostname}\n",
            **resolution.files(pod, hostname, self._nameserver()),
        }
        sandbox = Sandbox(self.netns(netns), hostname, files, isolated=True)
        self._sandboxes[netns] = sandbox
        node = self.netns(names.node_netns(pod.spec.node_name))
        echo = self._servers()
        run = PodRun(self.reactor, pod, self.netns(netns), node, sandbox, echo, self._recheck)
        self.runs[pod.key] = run
        run.start()

    def _nameserver(self) -> IP | None:
        service = self.snapshot.services.get(DNS_SERVICE)
        served = self.abilities.unserved is None
        return resolution.nameserver(service, self.snapshot.pods.values(), served=served)

    def _servers(self) -> EchoServers:
        if self._echo is None:
            self._echo = EchoServers(self.reactor)
        return self._echo

    def _end(self, keys: Collection[Key]) -> None:
        runs = [self.runs.pop(key) for key in keys]
        for run in runs:
            run.end()
        if runs:
            kill_all_in([run.netns for run in runs])

    def _recheck(self) -> None:
        """Readiness may have changed: once for all that happens in this turn of the loop."""
        if not self._rest_of_changes:
            self._rest_of_changes = True
            self.reactor.after(0, lambda: self.turns.when_free(self._recheck_now))

    def _recheck_now(self) -> None:
        self._rest_of_changes = False
        at_once(self._converge(self._admit(self.snapshot)))


def _refuse(refused: Refused) -> None:
    """Raises LabError for what the kernel would not do."""
    if refused.count:
        raise _refusal(refused.said[:_SHOWN], refused.count)


def _refusal(said: Sequence[str], count: int) -> LabError:
    more = [f"and {count - len(said)} more"] if count > len(said) else []
    return LabError("the kernel refused: " + "; ".join([*said, *more]))


def _must_end(run: PodRun, admitted: Snapshot) -> bool:
    """A Pod that is gone, or whose containers or place have changed, starts anew."""
    pod = admitted.pods.get(run.pod.key)
    return pod is None or pod.spec != run.pod.spec or pod.status.pod_ip != run.pod.status.pod_ip


def _say(failed: Failed) -> str:
    change = failed.change
    return f"{change.verb} {change.object} in {change.netns}: {failed.error}"


def _pieces(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """The Changes in parts, between which others can have a turn.

    Cut where the namespace changes: what goes out together stays together.
    """
    start = 0
    for position in range(_PIECE, len(changes)):
        here, before = changes[position], changes[position - 1]
        apart = here.netns != before.netns or isinstance(here.object, NetnsObject)
        if position - start >= _PIECE and apart:
            yield changes[start:position]
            start = position
    yield changes[start:]


def kill_all_in(namespaces: Iterable[Netns]) -> None:
    """SIGKILL for every process in those network namespaces, whatever started it."""
    wanted = {os.fstat(netns.fd).st_ino for netns in namespaces}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.stat(f"/proc/{entry}/ns/net").st_ino in wanted:
                    os.kill(int(entry), 9)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
