"""The lab itself: the objects it was given, and all that follows them.

In a lab hairpin plays the API server's and the controllers' part: every change of an object or
of a Pod's readiness ends in ``_converge``, which computes the whole desired state anew and
applies the difference.  Its parts have modules of their own: the Pods that run (``lab.pods``), the
namespaces they run in (``lab.namespaces``), what is built for them (``lab.building``) and the
nodes' proxies (``lab.proxies``).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain

from hairpin.kernel.apply import Kernel
from hairpin.kernel.reactor import Reactor
from hairpin.lab import births, capacity, life, topology
from hairpin.lab.building import Building, refuse
from hairpin.lab.impair import Impairments
from hairpin.lab.ingredients import Ingredients, absent, values
from hairpin.lab.namespaces import Namespaces
from hairpin.lab.pods import Pods
from hairpin.lab.processes import Background
from hairpin.lab.proxies import Proxies
from hairpin.lab.session import LabError
from hairpin.lab.spent import Spent
from hairpin.lab.turns import Stage, Turns, at_once, kept, raise_first
from hairpin.model.annotations import IMPLIED
from hairpin.model.metadata import Key, Ref
from hairpin.model.service import Service
from hairpin.model.snapshot import Object, Snapshot
from hairpin.plan.diff import diff
from hairpin.source.cluster import admit, with_readiness
from hairpin.source.controllers import going
from hairpin.source.rollout import leaving
from hairpin.source.settings import LAB
from hairpin.state.abilities import Abilities
from hairpin.state.change import Change, Wanted

_AGAIN: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds after which a change that failed on the way is gone on with, the more often the later."""


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
        self.started: dict[str, Background] = {}
        self.on_change: list[Callable[[], None]] = []
        """Called when objects or their state may have changed, in the middle of changing them."""
        self.turns = Turns(reactor)
        self.proxies = Proxies(reactor, kernel, abilities)
        self.proxies.when_free = self.turns.when_free
        capacity.raise_file_limit()
        self.impairments = Impairments(reactor, kernel, self._recheck)
        self.proxies.cut_off = self.impairments.cut_off
        self.namespaces = Namespaces(kernel)
        self.building = Building(kernel, self.namespaces)
        self._spent = Spent(reactor.now)
        self.pods = Pods(
            reactor,
            self.namespaces,
            self.impairments,
            self._spent,
            self._recheck,
            served=lambda: self.proxies.unserved is None,
        )
        self._settings = LAB
        self._rest_of_changes = False
        self._failures = 0  # changes in a row that did not come to their end
        self._said = ""

    def apply(self, objects: Iterable[Object]) -> Iterator[Stage]:
        """Creates or changes objects.  Raises ManifestError (nothing changed) or LabError.

        Like ``delete`` for ``turns`` to run.
        """
        merged = self.snapshot.merge(life.as_marked(one, self.snapshot) for one in objects)
        yield from self._adopt(merged)

    def delete(self, refs: Sequence[Ref], grace: int | None = None) -> Iterator[Stage]:
        """Deletes objects.  Raises LabError when one is not there, and then deletes none.

        Pods, and with a Deployment its own, get ``grace`` seconds to end, or what they say
        themselves: they are only marked here, and go when they have ended.  0 ends them at once.
        """
        for ref in refs:
            if self.snapshot.get(ref) is None:
                raise LabError(f"there is no {ref} in this lab", exit_code=2)
        gone = [ref for ref in refs if ref.kind != "Pod"]
        pods = life.going_with(refs, self.snapshot)
        now = births.stamp(time.time())
        # What nobody applied comes back under its name and at once.
        short = {pod.key for pod in pods if grace == 0 or IMPLIED in pod.metadata.annotations}
        marked = [going(pod, now, grace) for pod in pods if pod.key not in short]
        rest = self.snapshot.without([*gone, *(pod.ref for pod in pods)])
        yield from self._adopt(rest.merge(marked), restart=short)

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
            if reason := absent(name, self.abilities, self.proxies.mode):
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
        at_once(self.building.apply(list(own.values())))
        self.ingredients, self.building.held = after, target
        refuse(self.proxies.adjust(after))
        return list({**proxied, **own}.values())

    def switch(self, mode: str) -> None:
        """Another proxy mode on all nodes: the new one serves before the old one goes.

        Raises LabError for one that this kernel cannot have, or that it refuses.
        """
        if reason := self.abilities.unserved_in(mode):
            raise LabError(
                f"this lab's kernel cannot serve Services in {mode} mode: {reason}",
                f"start another one: hairpin up --mode {mode}",
                exit_code=2,
            )
        refuse(self.proxies.switch(mode, self.snapshot))

    def wanted(self, netns: str, key: tuple[object, ...]) -> Wanted | None:
        """What the lab wants of a kernel object, and for whom; None if it is not the lab's."""
        return self.building.held.get(netns, key) or self.proxies.wanted(netns, key)

    def wanted_by(self, owner: str) -> list[Wanted]:
        """What is in the kernel for that owner, ``service default/web``, and for its ports."""
        return [
            one
            for one in chain(self.building.held, self.proxies)
            if one.owner == owner or one.owner.startswith(f"{owner}:")
        ]

    def unserved(self, services: Iterable[Service]) -> str | None:
        """Why those Services that have a ClusterIP are not served; None where they are."""
        reason = self.proxies.unserved
        if reason is None or not any(service.virtual_ips for service in services):
            return None
        return reason

    def _adopt(self, objects: Snapshot, restart: Collection[Key] = ()) -> Iterator[Stage]:
        """Takes over a new set of objects, ends what is gone and starts what is new.

        ``restart``: Pods that end even if a Deployment brings back an equal one at once.
        """
        self._spent.clear()
        self.kernel.spent.clear()
        admitted = self._admit(objects)
        capacity.check(admitted.pods)
        yield from self._followed(self._live(admitted, restart))

    def _followed(self, steps: Iterator[Stage]) -> Iterator[Stage]:
        """Once more after a while, if these steps do not come to their end.

        Whatever failed on the way, the next time begins from what there is: the objects, what
        runs, and what is held.
        """
        try:
            yield from steps
        except Exception:
            delay = _AGAIN[min(self._failures, len(_AGAIN) - 1)]
            self._failures += 1
            self.reactor.after(delay, self._recheck)
            raise
        self._failures = 0

    def _live(self, admitted: Snapshot, restart: Collection[Key] = ()) -> Iterator[Stage]:
        """Ends and starts Pods, and goes on while that lets the controllers do more."""
        while True:
            yield from self._step(admitted, restart)
            after = self._admit(self.snapshot)
            restart = ()
            if not self.pods.due(after):
                break
            admitted = after
        yield from self._converge(after)

    def _step(self, admitted: Snapshot, restart: Collection[Key]) -> Iterator[Stage]:
        """Makes what runs follow the objects once.  Raises the first of what went wrong.

        What the kernel refuses of one Pod keeps no other from its start or its end.
        """
        self.namespaces.make_nodes(node.metadata.name for node in admitted.nodes.values())
        gone = self.pods.gone(admitted)
        again = [key for key in restart if key in self.pods.runs]
        if gone or again:  # nobody is sent to them any more
            self.proxies.follow(self._without(admitted, {*gone, *again}), new=False)
        self.pods.end(dict.fromkeys((*gone, *again)))
        errors: list[Exception] = []
        with kept(errors):
            yield from self._converge(admitted)
        with kept(errors):
            self.pods.begin_endings(admitted)
        with kept(errors):
            yield from self.pods.start(admitted)
        with kept(errors):
            yield from self.pods.serve(admitted)
        raise_first(errors)

    def _admit(self, objects: Snapshot) -> Snapshot:
        """What the API server and the controllers make of the objects now."""
        with self._spent.on("admission"):
            # What was to go before it had begun is gone.
            runs = self.pods.runs
            never = [p.ref for key, p in objects.pods.items() if leaving(p) and key not in runs]
            objects = objects.without(never) if never else objects
            objects = self.impairments.told(objects)  # where Pods can go depends on it
            ready = self.pods.readiness()
            now = births.stamp(time.time())
            admitted = admit(objects, self.snapshot, self._settings, ready=ready, now=now)
            return self.impairments.told(admitted)

    def _without(self, admitted: Snapshot, gone: Collection[Key]) -> Snapshot:
        """With those Pods not ready any more."""
        ready = {key: now and key not in gone for key, now in self.pods.readiness().items()}
        return with_readiness(admitted, ready, self._settings)

    def _converge(self, admitted: Snapshot) -> Iterator[Stage]:
        """Makes the kernel hold what the objects and ingredients say, by difference."""
        with self._spent.on("planning"):
            wanted = topology.desired(admitted, self.ingredients, self.abilities)
            changes = diff(wanted, self.building.held)
        self.snapshot = admitted
        self.impairments.forget(admitted)
        for tell in self.on_change:
            tell()
        errors: list[Exception] = []
        with kept(errors):
            yield from self.building.become(wanted, changes)
        with self._spent.on("Services"), kept(errors):
            refuse(self.proxies.follow(admitted))
        with kept(errors):
            self.namespaces.drop_nodes(node.metadata.name for node in admitted.nodes.values())
        with kept(errors):
            self.pods.say_names(admitted)
        raise_first(errors)

    @property
    def seconds(self) -> dict[str, float]:
        """What the last change took, by what it went to."""
        return {**self.kernel.spent, **self._spent.seconds}

    def _recheck(self) -> None:
        """Readiness may have changed: once for all that happens in this turn of the loop."""
        if not self._rest_of_changes:
            self._rest_of_changes = True
            self.reactor.after(0, lambda: self.turns.when_free(self._recheck_now))

    def _recheck_now(self) -> None:
        self._rest_of_changes = False
        self.turns.work(self._followed(self._rechecked()), lambda _stage: None, self._complain)

    def _rechecked(self) -> Iterator[Stage]:
        admitted = self._admit(self.snapshot.without(self.pods.ended()))
        if self.pods.due(admitted):
            yield from self._live(admitted)
        else:
            yield from self._converge(admitted)

    def _complain(self, error: Exception | None) -> None:
        """Nobody waits for an answer: the console's log has it, once while it stays the same."""
        said, self._said = self._said, str(error)
        if error is None or said == str(error):
            return
        if not isinstance(error, LabError):
            raise error  # the event loop reports it with all that it is
        print(f"hairpin: {error.message}", file=sys.stderr, flush=True)
