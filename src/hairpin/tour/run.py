"""Runs the tour: builds what a step stands on, does the step, asks for the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hairpin.claims.base import Language, Step, Verdict
from hairpin.claims.runner import Caller, Stage, act, play
from hairpin.claims.seed import NODE, STEPS
from hairpin.tour.tell import Teller

NODE_NAME = NODE.removeprefix("node_")

NewLab = Callable[[], Caller]
"""Gives an empty lab in a World of its own, ending the one it gave before."""


class Tour:
    """The story on labs that ``new_lab`` gives."""

    def __init__(self, new_lab: NewLab, *, by_hand: bool = False) -> None:
        self._new_lab = new_lab
        self._by_hand = by_hand
        self._stage: Stage | None = None
        self._done = 0  # how many steps the stage has behind it
        self.lab: Caller | None = None

    def stand_before(self, number: int) -> Stage:
        """A stage on which all steps before ``number`` (from 0) have been done, untold."""
        if self._stage is None or self._done != number:
            self.lab = self._new_lab()
            self.lab.call("bare", nodes=[NODE_NAME])
            self._stage = Stage(self.lab, NODE, by_hand=self._by_hand)
            for step in STEPS[:number]:
                act(self._stage, step.items)
            self._done = number
        return self._stage

    def do(self, number: int, teller: Teller | None) -> list[Verdict]:
        """Does one step (from 0), telling it as it goes."""
        step = STEPS[number]
        if teller:
            teller.step(number + 1, step)
        stage = self.stand_before(number)
        self._done = -1  # until it is whole, it cannot be gone on from
        verdicts = []
        for item in play(stage, step.items):
            if isinstance(item, Verdict):
                verdicts.append(item)
                if teller:
                    teller.verdict(item)
            elif teller:
                teller.act(item)
        self._done = number + 1
        return verdicts


def outcome(done: dict[int, list[Verdict]], language: Language) -> dict[str, Any]:
    """The run as the JSON that ``-o json`` prints: counts, steps, claims."""
    steps = [_step(STEPS[number], verdicts, language) for number, verdicts in sorted(done.items())]
    every = [verdict for verdicts in done.values() for verdict in verdicts]
    return {
        "held": sum(1 for one in every if one.held),
        "failed": sum(1 for one in every if not one.held),
        "steps": steps,
    }


def _step(step: Step, verdicts: list[Verdict], language: Language) -> dict[str, Any]:
    return {
        "id": step.id,
        "title": step.title.said(language),
        "claims": [
            {
                "id": one.claim.id,
                "held": one.held,
                "expected": one.expected.said(language),
                "seen": one.seen.said(language),
                "seconds": one.seconds,
            }
            for one in verdicts
        ],
    }
