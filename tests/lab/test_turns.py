"""Long work lets others have their turn, and never overlaps with other work."""

from __future__ import annotations

import time
from collections.abc import Iterator

from hairpin.kernel.reactor import Reactor
from hairpin.lab.turns import Stage, Turns


def raised(error: BaseException) -> None:
    raise error


def test_others_have_their_turn_and_hear_how_far_it_is() -> None:
    reactor = Reactor(raised)
    turns = Turns(reactor)
    seen: list[object] = []

    def slow() -> Iterator[Stage]:
        for number in range(4):
            time.sleep(0.03)
            yield Stage("building", number, 4)

    def ended(error: Exception | None) -> None:
        seen.append(error)
        reactor.stop()

    reactor.after(0, lambda: seen.append("another"))
    turns.work(slow(), seen.append, ended)
    assert turns.busy
    reactor.run()
    assert seen[0] == Stage("building", 1, 4) and "another" in seen[:3] and seen[-1] is None
    assert not turns.busy


def test_work_waits_for_work_and_an_error_ends_only_its_own() -> None:
    reactor = Reactor(raised)
    turns = Turns(reactor)
    seen: list[str] = []

    def slow() -> Iterator[Stage]:
        time.sleep(0.06)
        yield Stage("one", 0, 1)
        raise ValueError("broken")

    def quick() -> Iterator[Stage]:
        seen.append("quick")
        yield Stage("two", 1, 1)

    def second() -> None:
        turns.work(quick(), lambda stage: None, lambda error: reactor.stop())

    turns.work(slow(), lambda stage: None, lambda error: seen.append(str(error)))
    turns.when_free(second)
    reactor.after(5.0, reactor.stop)
    reactor.run()
    assert seen == ["broken", "quick"]


def test_short_work_is_done_at_once() -> None:
    reactor = Reactor(raised)
    turns = Turns(reactor)
    seen: list[object] = []
    turns.work(iter([Stage("a", 0, 1)]), seen.append, seen.append)
    assert seen == [None] and not turns.busy
    turns.when_free(lambda: seen.append("at once"))
    assert seen[-1] == "at once"


def test_one_that_fails_when_its_turn_comes_keeps_no_other_waiting() -> None:
    errors: list[BaseException] = []
    reactor = Reactor(errors.append)
    turns = Turns(reactor)

    def slow() -> Iterator[Stage]:
        time.sleep(0.06)
        yield Stage("one", 0, 1)

    turns.work(slow(), lambda stage: None, lambda error: None)
    turns.when_free(lambda: raised(ValueError("broken")))
    turns.when_free(reactor.stop)
    reactor.after(5.0, lambda: errors.append(TimeoutError()))
    reactor.after(5.0, reactor.stop)
    reactor.run()
    assert [str(error) for error in errors] == ["broken"]
