"""Runs of the same claims in several proxy modes, side by side: as a matrix, JSON, XML.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from hairpin.claims import outcome
from hairpin.claims.base import Language
from hairpin.claims.promises import Promise, Verdict
from hairpin.claims.topics import Mode
from hairpin.present.table import table


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What the claims came to in one mode, and the kernel that it was on."""

    mode: Mode
    kernel: str
    seconds: float
    verdicts: tuple[Verdict, ...]

    @property
    def good(self) -> bool:
        return all(one.good for one in self.verdicts)


def text(runs: Sequence[Run], language: Language, *, colour: bool) -> str:
    """A row for each claim, a column for each mode; below, how each mode differs from what is
    documented, and at the end what went wrong in any."""
    modes = [run.mode for run in runs]
    titles = {mode.upper() for mode in modes}

    def paint(column: str, cell: str) -> str:
        code = outcome.COLOURS.get(cell) if column in titles else None
        return f"\033[{code}m{cell}\033[0m" if code else cell

    rows = [
        (*[one.result for one in verdicts], outcome.short(claim), claim.says.said(language))
        for claim, verdicts in by_claim(runs)
    ]
    headings = (*[mode.upper() for mode in modes], "CLAIM", "SAYS")
    parts = [table(headings, rows, paint=paint if colour else None)]
    said = [(run, note) for run in runs for note in outcome.notes(run.verdicts, language)]
    for run, (title, lines) in sorted(said, key=lambda one: one[1][0] == outcome.FAILED):
        parts.append("\n".join([f"{run.mode}: {title}", *lines]))
    return "\n\n".join(parts)


def summary(runs: Sequence[Run], seconds: float) -> str:
    """A line for each mode, and one for the whole."""
    lines = [
        f"{run.mode}: {outcome.summary(run.verdicts, run.seconds)} ({run.kernel})" for run in runs
    ]
    return "\n".join([*lines, f"{len(runs)} modes in {seconds:.0f} s"])


def structured(runs: Sequence[Run], language: Language, seconds: float) -> dict[str, Any]:
    """What ``-o json`` prints of several modes: the matrix, and each mode's run."""
    return {
        "seconds": round(seconds, 1),
        "matrix": [
            {"id": claim.id, **{one.mode: one.result for one in verdicts}}
            for claim, verdicts in by_claim(runs)
        ],
        "modes": [
            outcome.structured(
                run.verdicts, language, mode=run.mode, kernel=run.kernel, seconds=run.seconds
            )
            for run in runs
        ],
    }


def by_claim(runs: Sequence[Run]) -> list[tuple[Promise, tuple[Verdict, ...]]]:
    """The verdicts of each claim, in the modes' order."""
    return [
        (verdicts[0].claim, verdicts)
        for verdicts in zip(*(run.verdicts for run in runs), strict=True)
    ]
