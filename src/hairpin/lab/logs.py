"""``hairpin logs``: what a container has printed, and what it goes on to print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hairpin.lab.processes import Background
from hairpin.lab.session import STDERR, STDOUT, LabError, Session
from hairpin.lab.workloads import ContainerRun, PodRun


def answer(session: Session, run: PodRun, request: Mapping[str, Any]) -> None:
    """Sends the log of one container of a Pod.

    In the request: ``container`` (None: the first), ``tail`` (lines; None: all that is kept),
    ``previous`` (of the process before the last restart), ``follow``.  Raises LabError.
    """
    one = container(run, request.get("container"))
    tail = request.get("tail")
    if one.process is None:
        what = f"container {one.container.name} runs the built-in echo server"
        raise LabError(f"{what}, which keeps no log")
    if request.get("previous"):
        if one.previous is None:
            raise LabError(f"container {one.container.name} was never restarted", exit_code=2)
        session.send(STDOUT, last_lines(one.previous.log(), tail))
        session.reply({"exit": 0})
    elif request.get("follow"):
        _Follow(session, one, tail)
    else:
        session.send(STDOUT, last_lines(one.process.log(), tail))
        session.reply({"exit": 0})


def container(run: PodRun, name: str | None) -> ContainerRun:
    """The container of that name, or the first one.  Raises LabError."""
    for one in run.containers:
        if name is None or one.container.name == name:
            return one
    known = ", ".join(one.container.name for one in run.containers)
    raise LabError(f"there is no container {name}", f"containers: {known}", exit_code=2)


def last_lines(data: bytes, count: int | None) -> bytes:
    """The last ``count`` lines; the whole where that is None."""
    if count is None:
        return data
    return b"".join(data.splitlines(keepends=True)[-count:]) if count > 0 else b""


class _Follow:
    """A session that gets a container's output as it comes, over restarts, until it is over.

    It remembers how far it has sent, so that what a slow reader has not taken stays in the log
    and is not kept twice.
    """

    def __init__(self, session: Session, run: ContainerRun, tail: int | None) -> None:
        assert run.process is not None
        self._session = session
        self._run = run
        self._process: Background = run.process
        kept = run.process.log()
        self._at = run.process.log_end - len(last_lines(kept, tail))
        run.followers.append(self._move)
        session.on_drain = self._move
        session.on_close = lambda: run.followers.remove(self._move)
        self._move()

    def _move(self) -> None:
        """Sends what is new; ends when nothing more will come."""
        if not self._send():
            return
        run = self._run
        if run.process is not None and run.process is not self._process:
            self._process, self._at = run.process, 0
            name = run.container.name
            said = f"hairpin: container {name} was started again, restart {run.restarts}\n"
            self._session.send(STDERR, said.encode())
            if not self._send():
                return
        if run.over:
            run.followers.remove(self._move)
            self._session.reply({"exit": 0})

    def _send(self) -> bool:
        """Sends the rest of the process's output; whether all of it could go."""
        if self._session.blocked:
            return False
        new, self._at = self._process.log_since(self._at)
        if new:
            self._session.send(STDOUT, new)
        return not self._session.blocked
