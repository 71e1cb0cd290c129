"""Changes of many claims at once: as few as possible, and one that is wrong fails alone."""

import threading
from typing import Any

import pytest

from hairpin.claims.changes import Changes
from hairpin.lab.session import LabError


class _Lab:
    """A lab that takes its time, and refuses any change in which there is a bad object."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Any]]] = []
        self.first = threading.Event()
        self.go = threading.Event()

    def call(self, verb: str, **arguments: Any) -> Any:
        if verb == "get":
            return [{"metadata": {"name": "web"}}]
        items = arguments.get("objects", arguments.get("refs"))
        assert isinstance(items, list)
        self.calls.append((verb, items))
        self.first.set()
        assert self.go.wait(10)
        if "bad" in items:
            raise LabError("bad")
        return {}


def _ask(changes: Changes, verb: str, item: Any, got: dict[Any, Any]) -> threading.Thread:
    def work() -> None:
        try:
            got[item] = changes.apply([item]) if verb == "apply" else changes.delete([item])
        except LabError as error:
            got[item] = error

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_those_who_wait_go_together() -> None:
    lab, got = _Lab(), dict[Any, Any]()
    changes = Changes(lab)
    threads = [_ask(changes, "apply", 0, got)]
    assert lab.first.wait(10)  # the first is under way
    threads += [_ask(changes, "apply", number, got) for number in range(1, 6)]
    threads.append(_ask(changes, "delete", "old", got))
    while len(changes._waiting) < 6:
        pass
    lab.go.set()
    for thread in threads:
        thread.join(10)
    assert lab.calls[0] == ("apply", [0])
    assert lab.calls[1] == ("delete", ["old"])
    assert (lab.calls[2][0], sorted(lab.calls[2][1])) == ("apply", [1, 2, 3, 4, 5])
    assert len(lab.calls) == 3
    assert all(one == [{"metadata": {"name": "web"}}] for one in got.values())


def test_one_that_is_wrong_fails_alone() -> None:
    lab, got = _Lab(), dict[Any, Any]()
    changes = Changes(lab)
    threads = [_ask(changes, "apply", "first", got)]
    assert lab.first.wait(10)
    threads += [_ask(changes, "apply", item, got) for item in ("good", "bad", "fine")]
    while len(changes._waiting) < 3:
        pass
    lab.go.set()
    for thread in threads:
        thread.join(10)
    assert isinstance(got["bad"], LabError)
    assert not any(isinstance(got[item], LabError) for item in ("first", "good", "fine"))


def test_a_lab_that_is_gone_is_told() -> None:
    lab = _Lab()
    lab.go.set()
    with pytest.raises(LabError, match="bad"):
        Changes(lab).apply(["bad"])  # type: ignore[list-item]  # any item does for this lab
