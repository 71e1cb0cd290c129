"""Whoever waits for an answer of the lab gets one, whatever fails."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import pytest

from hairpin.kernel.reactor import Reactor
from hairpin.lab import service
from hairpin.lab.lab import Lab
from hairpin.lab.turns import Stage
from hairpin.model.snapshot import Object
from hairpin.state.abilities import Abilities
from tests.lab.heard import Heard


@pytest.mark.parametrize("seconds", [0.0, 0.06], ids=["at once", "in turns"])
def test_an_exception_after_the_last_step_of_an_apply_reaches_who_waits(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    def steps(lab: Lab, objects: Iterable[Object]) -> Iterator[Stage]:
        time.sleep(seconds)  # longer than a turn: what comes then is called by the event loop
        yield Stage("building", 0, 1)

    monkeypatch.setattr(service, "prepare_world", lambda: None)  # mounts, which nothing here needs
    monkeypatch.setattr(Lab, "apply", steps)
    uncaught: list[BaseException] = []
    reactor = Reactor(uncaught.append)
    lab = service.LabService(reactor, Abilities())
    sessions: list[Heard] = []

    def stop_when_all_ended() -> None:
        if all(one.end for one in sessions):
            reactor.stop()

    # The second waits for the first one's end.  No number of seconds is read when all else is done.
    sessions += [Heard(stop_when_all_ended), Heard(stop_when_all_ended)]
    for session in sessions:
        lab.open(session, {"verb": "apply", "objects": [], "wait": "soon"})
    reactor.after(5.0, reactor.stop)
    reactor.run()
    failure = ("fail", "ValueError: could not convert string to float: 'soon'", None, 1)
    assert [one.end for one in sessions] == [[failure], [failure]]
    assert not uncaught
