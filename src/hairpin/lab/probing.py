"""The requests that make connections: ``probe`` many; ``hold`` one open, ``ask`` over it later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hairpin.kernel.netns import Netns
from hairpin.kernel.reactor import Reactor
from hairpin.lab.probe import Attempt, Probe, Seen
from hairpin.lab.session import LabError, Session
from hairpin.model.address import from_builtin, to_builtin

_MOST_HELD = 256  # connections; each costs a descriptor of the lab process
_AT_ONCE = 48
"""Attempts under way at a time, of one request.  The guest has one CPU: more of them would only
wait for each other, until those that should be answered run out of time."""


class Probing:
    """Makes connections for sessions; ``find`` leads from a namespace's name to its handle."""

    def __init__(self, reactor: Reactor, find: Callable[[str], Netns]) -> None:
        self._reactor = reactor
        self._find = find
        self._held: dict[int, Attempt] = {}
        self._next = 1

    def probe(self, session: Session, request: Mapping[str, Any]) -> None:
        """Makes the attempts side by side; each one's connections one after the other.

        An attempt is ``netns``, ``probe``, ``times`` and ``pause``, seconds between its
        connections' ends and next starts.  Its connections are from ``source_ports`` and the
        ports that follow, if it has that.  Attempts of one ``lane`` wait for each other.  The
        reply is a list of Seen for each attempt.  A client that goes away ends it.
        """
        attempts = list(request["attempts"])
        probes = [_probe(one) for one in attempts]
        places = [self._find(str(one["netns"])) for one in attempts]
        answers: list[list[Seen]] = [[] for _ in attempts]
        lanes = _lanes(attempts)
        left, over = [len(attempts)], [False]
        session.on_close = lambda: over.__setitem__(0, True)

        def next_lane() -> None:
            if lanes and not over[0]:
                lane = lanes.pop()
                next_of(lane.pop(0), lane)

        def next_of(index: int, lane: list[int]) -> None:
            attempt = attempts[index]
            if over[0]:
                return
            if len(answers[index]) < int(attempt.get("times", 1)):
                probe = probes[index]
                if first := int(attempt.get("source_ports", 0)):
                    probe = msgspec.structs.replace(probe, source_port=first + len(answers[index]))
                _run(self._reactor, places[index], probe, lambda seen: done(index, lane, seen))
                return
            left[0] -= 1
            if not left[0]:
                session.reply(msgspec.to_builtins(answers, enc_hook=to_builtin))
            elif lane:
                next_of(lane.pop(0), lane)
            else:
                next_lane()

        def done(index: int, lane: list[int], seen: Seen) -> None:
            answers[index].append(seen)
            # Always by the loop: connections that fail at once would pile up on the stack.
            pause = float(attempts[index].get("pause", 0))
            self._reactor.after(pause, lambda: next_of(index, lane))

        if not attempts:
            session.reply([])
        for _ in range(min(_AT_ONCE, len(lanes))):
            next_lane()

    def hold(self, session: Session, request: Mapping[str, Any]) -> None:
        """Opens a connection and keeps it; replies with its ``id`` and what became of it."""
        if len(self._held) >= _MOST_HELD:
            raise LabError(f"{_MOST_HELD} connections are held already")
        number, self._next = self._next, self._next + 1

        def done(seen: Seen) -> None:
            if seen.outcome != "answered":
                self._held.pop(number, None)
            session.reply({"id": number, "seen": msgspec.to_builtins(seen, enc_hook=to_builtin)})

        netns = self._find(str(request["netns"]))
        held = Attempt(self._reactor, netns, _probe(request), done, hold=True)
        self._held[number] = held
        held.start()

    def ask(self, session: Session, request: Mapping[str, Any]) -> None:
        """Sends the request over a held connection, which ends with its answer; replies Seen."""
        held = self._held.pop(int(request["id"]), None)
        if held is None:
            raise LabError(f"no connection {request['id']} is held")
        timeout = float(request.get("timeout", 1.0))
        held.ask(
            timeout,
            lambda seen: session.reply(msgspec.to_builtins(seen, enc_hook=to_builtin)),
        )


def _run(reactor: Reactor, netns: Netns, probe: Probe, done: Callable[[Seen], None]) -> None:
    """A socket that cannot be made is an outcome too: this kernel has no such protocol."""
    try:
        Attempt(reactor, netns, probe, done).start()
    except OSError as error:
        done(Seen(outcome="error", error=str(error.strerror)))


def _probe(said: Mapping[str, Any]) -> Probe:
    return msgspec.convert(said["probe"], Probe, dec_hook=from_builtin)


def _lanes(attempts: list[Mapping[str, Any]]) -> list[list[int]]:
    """The attempts' numbers by lane, the last to begin first; without a lane each has its own."""
    lanes: dict[object, list[int]] = {}
    for index, one in enumerate(attempts):
        lanes.setdefault(one.get("lane", index), []).append(index)
    return list(lanes.values())[::-1]
