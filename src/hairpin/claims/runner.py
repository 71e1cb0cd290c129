"""Runs claims on a lab: acts, tries, compares, says what was seen."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from hairpin.claims.base import (
    Act,
    Answered,
    Attempt,
    Claim,
    Item,
    Start,
    Text,
    Unanswered,
    Verdict,
)
from hairpin.lab.probe import Seen
from hairpin.model.address import from_builtin, to_builtin
from hairpin.present import shell
from hairpin.state.change import Change


class Caller(Protocol):
    """The part of ``world.client.Client`` that claims use."""

    def call(self, verb: str, **arguments: Any) -> Any: ...


class Stage:
    """A lab seen by claims: what they may do to it, and what they may ask.

    ``by_hand`` makes every Change by the shell commands that are shown for it, run in the node,
    instead of over netlink.
    """

    def __init__(self, lab: Caller, home: str, *, by_hand: bool = False) -> None:
        self._lab = lab
        self._home = home
        self._by_hand = by_hand

    def change(self, changes: Sequence[Change]) -> None:
        """Makes the Changes in order.  Raises LabError at the first that fails."""
        if not changes:
            return
        if self._by_hand:
            lines = [line for change in changes for line in shell.commands(change, self._home)]
            script = "set -e\n" + "\n".join(lines)
            self._lab.call("run", netns=self._home, argv=["sh", "-c", script])
        else:
            self._lab.call("change", changes=msgspec.to_builtins(changes, enc_hook=to_builtin))

    def start(self, start: Start) -> None:
        """Starts a server and waits until it listens."""
        for argv in start.prepare:
            self._lab.call("run", netns=self._home, argv=list(argv))
        self._lab.call(
            "start", name=start.name, netns=start.netns, argv=list(start.argv), port=start.port
        )

    def attempt(self, attempt: Attempt) -> list[Seen]:
        """Makes the connections, one after the other."""
        probe = {"ip": str(attempt.ip), "port": attempt.port, "timeout": attempt.timeout}
        seen = self._lab.call(
            "probe", attempts=[{"netns": attempt.netns, "probe": probe, "times": attempt.times}]
        )
        return msgspec.convert(seen[0], list[Seen], dec_hook=from_builtin)

    def client_seen_by(self, server: str) -> str | None:
        """The client's address in the last line of a started server's access log."""
        log = self._lab.call("started-log", name=server)["text"]
        lines = [line for line in log.splitlines() if '"GET / ' in line]
        return str(lines[-1].split()[0]) if lines else None


def act(stage: Stage, items: Iterable[Item]) -> None:
    """Does the acts among ``items`` and passes the claims by: builds what a step stands on."""
    changes: list[Change] = []
    for item in items:
        if isinstance(item, Change):
            changes.append(item)
        elif isinstance(item, Start):
            stage.change(changes)
            changes = []
            stage.start(item)
    stage.change(changes)


def play(stage: Stage, items: Iterable[Item]) -> Iterator[Act | Verdict]:
    """Does each item in its turn, and yields acts as they are and claims as verdicts."""
    for item in items:
        if isinstance(item, Change):
            stage.change([item])
            yield item
        elif isinstance(item, Start):
            stage.start(item)
            yield item
        else:
            yield judge(stage, item)


def judge(stage: Stage, claim: Claim) -> Verdict:
    """Tries a claim and says whether it held."""
    seen = stage.attempt(claim.attempt)
    by = [_answerer(one) for one in seen]
    saw = None
    if isinstance(claim.expect, Answered) and claim.expect.server_saw and by[-1]:
        saw = stage.client_seen_by(by[-1])
    return Verdict(
        claim=claim,
        held=_held(claim, seen, by, saw),
        expected=expectation(claim),
        seen=_sight(seen, by, saw),
        seconds=round(sum(one.seconds for one in seen), 3),
    )


def expectation(claim: Claim) -> Text:
    """What must come of a claim's attempt, in a few words."""
    match claim.expect:
        case Answered(by=by, server_saw=saw):
            return _answer(list(by), saw)
        case Unanswered(outcomes=outcomes):
            return _ends(list(outcomes), Text(" or ", " 或 "))


def _held(claim: Claim, seen: list[Seen], by: list[str | None], saw: str | None) -> bool:
    match claim.expect:
        case Unanswered(outcomes=outcomes):
            return all(one.outcome in outcomes for one in seen)
        case Answered(by=wanted, rotation=rotation, server_saw=client):
            turns = range(len(wanted)) if rotation else (0,)
            right = any(by == [*wanted[turn:], *wanted[:turn]] for turn in turns)
            return right and (client is None or saw == str(client))


def _answerer(seen: Seen) -> str | None:
    """Which Pod answered: the file ``im-NAME`` in its listing."""
    found = re.search(r">im-([a-z0-9-]+)<", seen.body)
    return found.group(1) if found else None


def _sight(seen: list[Seen], by: list[str | None], saw: str | None) -> Text:
    if all(one.outcome == "answered" for one in seen):
        return _answer([name or "?" for name in by], saw)
    return _ends([name or one.outcome for one, name in zip(seen, by, strict=True)])


def _answer(by: list[str], saw: object) -> Text:
    names = ", ".join(by)
    if saw is None:
        return Text(f"answered by {names}", f"{names} 回答")
    return Text(f"answered by {names}, which sees {saw}", f"{names} 回答, 它看到 {saw}")


_ENDINGS = {
    "timeout": Text("times out", "超时"),
    "refused": Text("refused", "被拒绝"),
    "unreachable": Text("no route: fails at once", "没有路由, 立即失败"),
    "error": Text("fails", "出错"),
}


def _ends(outcomes: list[str], between: Text | None = None) -> Text:
    between = between or Text(", ", ", ")
    words = [_ENDINGS.get(one, Text(one, one)) for one in outcomes]
    return Text(between.en.join(w.en for w in words), between.zh.join(w.zh for w in words))
