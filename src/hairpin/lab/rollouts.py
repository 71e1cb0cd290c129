"""The requests that change how many Pods there are, which, and where: scale, restart, cordon."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from hairpin.kernel.reactor import Reactor
from hairpin.lab.lab import Lab
from hairpin.lab.session import LabError, Session
from hairpin.lab.settling import when_settled
from hairpin.lab.turns import Stage
from hairpin.model.deployment import Deployment
from hairpin.model.metadata import Key
from hairpin.model.node import Node
from hairpin.source.rollout import Progress, owner_of, progress

_PAUSE = 0.05  # seconds between looks at a roll-out
_RESTARTED = "kubectl.kubernetes.io/restartedAt"
"""The annotation by which kubectl makes a template another one."""

Request = Mapping[str, Any]
Work = Callable[[Session, Iterator[Stage], Callable[[], None]], None]


class Rollouts:
    """Answers them; ``work`` changes the lab for a session, and goes on or fails."""

    def __init__(self, reactor: Reactor, lab: Lab, work: Work) -> None:
        self._reactor = reactor
        self._lab = lab
        self._work = work

    def scale(self, session: Session, request: Request) -> None:
        """Another number of replicas for the Deployments; replies when their Pods are ready."""
        replicas = int(request["replicas"])
        found = [
            msgspec.structs.replace(one, spec=msgspec.structs.replace(one.spec, replicas=replicas))
            for one in self._deployments(request)
        ]
        self._change(session, found)

    def restart(self, session: Session, request: Request) -> None:
        """Another template, in nothing but the time of it; replies when the roll-out has begun."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        found = []
        for one in self._deployments(request):
            template = one.spec.template
            notes = {**template.metadata.annotations, _RESTARTED: now}
            meta = msgspec.structs.replace(template.metadata, annotations=notes)
            template = msgspec.structs.replace(template, metadata=meta)
            spec = msgspec.structs.replace(one.spec, template=template)
            found.append(msgspec.structs.replace(one, spec=spec))
        self._work(session, self._lab.apply(found), lambda: session.reply({}))

    def status(self, session: Session, request: Request) -> None:
        """Tells what the roll-out of a Deployment waits for, and replies when it is complete.

        With ``watch`` false the reply says how it is now: ``{"waits_for": …}``.
        """
        (wanted,) = self._deployments(request)
        told: list[str | None] = [None]
        over = [False]
        session.on_close = lambda: over.__setitem__(0, True)

        def look() -> None:
            if over[0]:
                return
            deployment = self._lab.snapshot.deployments.get(wanted.key)
            if deployment is None:
                session.fail(f"{wanted.ref} was deleted")
                return
            waits = progress_of(self._lab, deployment).waits_for()
            if waits is None or not request.get("watch", True):
                session.reply({"waits_for": waits})
                return
            if waits != told[0]:
                told[0] = waits
                session.event({"waits_for": waits})
            self._reactor.after(_PAUSE, lambda: session.guarded(look))

        look()

    def cordon(self, session: Session, request: Request) -> None:
        """Lets nodes take new Pods or not; replies for each whether it was so before."""
        wanted = bool(request["unschedulable"])
        changed: list[Node] = []
        outcome = []
        for name in request["names"]:
            node = self._lab.snapshot.nodes.get(("", str(name)))
            if node is None:
                known = ", ".join(key[1] for key in self._lab.snapshot.nodes)
                raise LabError(f"there is no node {name}", f"there are: {known}", exit_code=2)
            same = bool(node.spec.unschedulable) == wanted
            outcome.append({"name": str(name), "changed": not same})
            if not same:
                spec = msgspec.structs.replace(node.spec, unschedulable=wanted or None)
                changed.append(msgspec.structs.replace(node, spec=spec))
        self._work(session, self._lab.apply(changed), lambda: session.reply(outcome))

    def _change(self, session: Session, found: list[Deployment]) -> None:
        def done() -> None:
            when_settled(self._lab, session, lambda late: session.reply({"warnings": late}))

        self._work(session, self._lab.apply(found), done)

    def _deployments(self, request: Request) -> list[Deployment]:
        """Those that the request names.  Raises LabError."""
        found = []
        for name in request["names"]:
            key: Key = (str(request["namespace"]), str(name))
            one = self._lab.snapshot.deployments.get(key)
            if one is None:
                known = [k[1] for k in self._lab.snapshot.deployments if k[0] == key[0]]
                remedy = f"there are: {', '.join(known)}" if known else None
                place = f"in namespace {key[0]}"
                raise LabError(f"there is no deployment {name} {place}", remedy, exit_code=2)
            found.append(one)
        return found


def progress_of(lab: Lab, deployment: Deployment) -> Progress:
    """How far the Pods of a Deployment are."""
    namespace, name = deployment.key
    pods = [
        pod
        for key, pod in lab.snapshot.pods.items()
        if key[0] == namespace and owner_of(pod) == name
    ]
    ready = {pod.key for pod in pods if pod.key in lab.pods.runs and lab.pods.runs[pod.key].ready}
    return progress(deployment, pods, ready)
