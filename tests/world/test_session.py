"""Sessions over a pair of multiplexers: the lab process without a kernel."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hairpin.kernel.reactor import Reactor
from hairpin.lab.session import (
    ERROR,
    EVENT,
    REPLY,
    REQUEST,
    STDIN,
    STDOUT,
    Handler,
    LabError,
    Session,
)
from hairpin.model.address import ip
from hairpin.world.mux import CREDIT, Mux
from hairpin.world.process import LabProcess
from hairpin.world.protocol import FrameReader, frame

Answer = Callable[[Session, dict[str, Any]], None]


def raise_it(error: BaseException) -> None:
    raise error


class Wire:
    """A client's stream to a lab process whose handler is ``answer``."""

    def __init__(self, answer: Answer) -> None:
        class Lab(Handler):
            def open(self, session: Session, request: dict[str, Any]) -> None:
                answer(session, request)

        process = LabProcess(Reactor(raise_it), lambda reactor: Lab(), lambda: None)
        self.near, self.far = Mux(1000), Mux(1000, process.serve)
        self.stream = self.near.open()
        self.frames: list[tuple[int, bytes]] = []
        self.ended = False
        self.reading = True
        reader = FrameReader()

        def got(data: bytes | memoryview) -> None:
            self.frames.extend(reader.feed(data))
            if self.reading:
                self.stream.consumed(len(data))

        self.stream.on_data = got
        self.stream.on_end = lambda: setattr(self, "ended", True)

    def send(self, kind: int, payload: bytes) -> None:
        self.stream.write(frame(kind, payload))
        self.settle()

    def settle(self) -> None:
        for _ in range(100_000):
            there, back = self.near.supply(), self.far.supply()
            self.far.receive(there)
            self.near.receive(back)
            if not there and not back:
                return
        raise AssertionError("does not settle")

    def ask(self, request: Any) -> None:
        self.send(REQUEST, json.dumps(request).encode())

    @property
    def last(self) -> Any:
        return json.loads(self.frames[-1][1])


def test_events_output_and_a_reply_with_values_of_the_model() -> None:
    def answer(session: Session, request: dict[str, Any]) -> None:
        session.event({"step": 1})
        session.send(STDOUT, b"x" * 5000)
        session.reply({"ip": ip("192.0.2.1"), "request": request})
        session.reply("a second one is dropped")

    wire = Wire(answer)
    wire.ask({"verb": "try", "n": 1})
    assert [kind for kind, _ in wire.frames] == [EVENT, STDOUT, REPLY]
    assert wire.last == {"ip": "192.0.2.1", "request": {"verb": "try", "n": 1}}
    assert wire.ended


@pytest.mark.parametrize(
    ("error", "message", "remedy", "code"),
    [
        (LabError("no such Pod", "try another", 2), "no such Pod", "try another", 2),
        (ZeroDivisionError("oh"), "ZeroDivisionError: oh", "the lab's console log", 1),
    ],
)
def test_what_a_handler_raises_is_the_answer(
    error: Exception, message: str, remedy: str, code: int
) -> None:
    def answer(session: Session, request: dict[str, Any]) -> None:
        raise error

    wire = Wire(answer)
    wire.ask({"verb": "try"})
    assert wire.frames[-1][0] == ERROR
    assert wire.last["message"] == message
    assert wire.last["remedy"].startswith(remedy)
    assert wire.last["exit"] == code
    assert wire.ended


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"verb": 1}', b"{}"])
def test_a_request_that_is_none_is_refused(payload: bytes) -> None:
    wire = Wire(lambda session, request: pytest.fail("was opened"))
    wire.send(REQUEST, payload)
    assert [kind for kind, _ in wire.frames] == [ERROR]


def test_a_paused_session_stalls_its_client_and_loses_nothing() -> None:
    box: list[Session] = []
    got: list[bytes] = []

    def answer(session: Session, request: dict[str, Any]) -> None:
        box.append(session)
        session.on_frame = take

    def take(kind: int, payload: bytes) -> None:
        got.append(payload)
        box[0].pause()

    wire = Wire(answer)
    wire.ask({"verb": "try"})
    sent = [bytes([n]) * 100_000 for n in range(10)]
    for one in sent:
        wire.send(STDIN, one)
    assert len(got) == 1
    # The first frame was consumed; of the others no more than the credit is on its way.
    assert wire.stream.pending > 9 * 100_000 - CREDIT - 1000
    while len(got) < len(sent):
        box[0].resume()
        wire.settle()
    assert got == sent


def test_blocked_and_drained() -> None:
    box: list[Session] = []
    drained: list[bool] = []

    def answer(session: Session, request: dict[str, Any]) -> None:
        box.append(session)
        session.on_drain = lambda: drained.append(session.blocked)
        while not session.blocked:
            session.send(STDOUT, bytes(10_000))

    wire = Wire(answer)
    wire.reading = False
    wire.ask({"verb": "try"})
    assert drained == [False], "the stream's credit took it all"
    for _ in range(100):
        box[0].send(STDOUT, bytes(10_000))
    assert box[0].blocked
    wire.settle()
    assert box[0].blocked
    assert drained == [False]
    wire.stream.consumed(10 * CREDIT)
    wire.settle()
    assert drained == [False, False]


def test_a_client_that_goes_away_is_told_once() -> None:
    closed: list[str] = []

    def answer(session: Session, request: dict[str, Any]) -> None:
        session.on_close = lambda: closed.append("closed")

    wire = Wire(answer)
    wire.ask({"verb": "try"})
    wire.stream.reset()
    wire.settle()
    assert closed == ["closed"]
    assert wire.far.streams == []
