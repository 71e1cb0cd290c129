"""Waiting until the Pods are as they should be: ready after a start, away after a deletion."""

from __future__ import annotations

from collections.abc import Callable, Collection

from hairpin.lab.lab import Lab
from hairpin.lab.session import Session
from hairpin.lab.workloads import PodRun
from hairpin.source.rollout import leaving
from hairpin.source.scheduling import why_waiting

SETTLE_LIMIT = 10.0  # seconds that Pods get before they are reported
_PAUSE = 0.05  # seconds between looks


def when_settled(
    lab: Lab, session: Session, done: Callable[[list[str]], None], limit: float = SETTLE_LIMIT
) -> None:
    """Calls back when every Pod is ready and listens where it says, or after ``limit``
    seconds with what is not so yet.

    A Pod that no node takes is waited for only while others are on their way out.
    """
    deadline = lab.reactor.now() + limit

    def look() -> None:
        late = [
            f"Pod {run.identity} {what}"
            for run in lab.pods.runs.values()
            if not run.terminating
            for what in run.lacks()
        ]
        pods = lab.snapshot.pods.values()
        waiting = [
            f"Pod {'/'.join(pod.key)} is Pending: {why}"
            for pod in pods
            if (why := why_waiting(pod))
        ]
        moving = late or (waiting and any(leaving(pod) for pod in pods))
        if not moving or lab.reactor.now() >= deadline:
            done([*late, *waiting])
        else:
            lab.reactor.after(_PAUSE, lambda: session.guarded(look))

    look()


def when_gone(lab: Lab, runs: Collection[PodRun], done: Callable[[], None]) -> None:
    """Calls back when none of these runs any more; others of their names may."""

    def look() -> None:
        if any(lab.pods.runs.get(run.pod.key) is run for run in runs):
            lab.reactor.after(_PAUSE, look)
        else:
            done()

    look()
