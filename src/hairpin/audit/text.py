"""An audit for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from hairpin.audit.case import many
from hairpin.audit.report import Differs, Finding, Note, Report
from hairpin.model.address import to_builtin
from hairpin.present.plan_json import API_VERSION

_SHOWN = 200  # findings; a flushed kernel has ten thousands, and they say the same
_MENDS = 6  # lines of one mend
_SHARED = 4
_WORDS = {
    "missing": "missing", "extra": "extra", "wrong": "wrong", "leftover": "left over",
    "stale": "stale",
}  # fmt: skip
_COLOURS = {"missing": "31", "wrong": "33", "extra": "33", "leftover": "35", "stale": "35"}


def lines(report: Report, *, colour: bool = False) -> Iterator[str]:
    """Findings by their owner, then notes, then what could not be judged; last the sum."""
    last = None
    for one in report.findings[:_SHOWN]:
        head = _head(one)
        if head != last:
            yield from ([""] if last is not None else [])
            yield head
            last = head
        yield from _finding(one, colour)
    if len(report.findings) > _SHOWN:
        yield f"and {len(report.findings) - _SHOWN} more findings: -o json has them all"
    yield from [""] if report.findings else []
    for note in report.notes:
        yield from _note(note)
    for problem in report.problems:
        yield f"problem: {problem}"
    for line in report.not_judged:
        if line.needed:
            yield f"not judged: {line.part}: {line.why}"
    rest = [line for line in report.not_judged if not line.needed]
    for line in rest:
        if ": there is none" not in line.why:
            yield f"not looked at: {line.part}: {line.why}"
    absent = [line.part for line in rest if ": there is none" in line.why]
    if absent:
        yield f"not looked at, as nothing was collected of it: {'; '.join(absent)}"
    yield _sum(report)


def _head(one: Finding) -> str:
    if one.what == "leftover":
        return f"left over of {one.owner} mode"
    return one.owner or "of nobody"


def _finding(one: Finding, colour: bool) -> Iterator[str]:
    word = _WORDS[one.what]
    shown = f"\033[{_COLOURS[one.what]}m{word}\033[0m" if colour else word
    yield f"  {shown}{' ' * (9 - len(word))} {one.subject}"
    for each in one.differs:
        yield from _differs(each)
    yield f"            {one.consequence}"
    if one.shared:
        more = f" and {len(one.shared) - _SHARED} more" if len(one.shared) > _SHARED else ""
        yield f"            concerns {', '.join(one.shared[:_SHARED])}{more}"
    for line in one.mend[:_MENDS]:
        yield f"            $ {line}" if not line.startswith("#") else f"            {line}"
    if len(one.mend) > _MENDS:
        yield f"            … and {len(one.mend) - _MENDS} more lines (-o json)"


def _differs(one: Differs) -> Iterator[str]:
    seen, expected = one.seen or "none", one.expected or "none"
    if len(seen) + len(expected) < 50:
        yield f"            {one.field}: {seen}, expected {expected}"
        return
    yield f"            {one.field} seen:     {seen}"
    yield f"            {one.field} expected: {expected}"


def _note(one: Note) -> Iterator[str]:
    yield f"note: {one.subject}: {one.seen}"
    yield f"      {one.consequence}"
    for line in one.mend:
        yield f"      {line}" if line.startswith("#") else f"      $ {line}"


def _sum(report: Report) -> str:
    judged = many(sum(report.judged.values()), "object")
    found = many(len(report.findings), "finding") if report.findings else "nothing found"
    notes = f", {many(len(report.notes), 'note')}" if report.notes else ""
    missing = sum(one.needed for one in report.not_judged)
    unread = f", {many(missing, 'part')} could not be judged" if missing else ""
    return f"{report.node}, {report.mode} mode, {judged} wanted: {found}{notes}{unread}"


def as_json(report: Report) -> dict[str, Any]:
    """What ``hairpin audit -o json`` prints (docs/json.md)."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Audit",
        "node": report.node,
        "mode": report.mode,
        "clean": report.exit_code == 0,
        "judged": report.judged,
        "findings": [_plain(one) | {"owner": one.owner or None} for one in report.findings],
        "notes": [_plain(one) for one in report.notes],
        "not_judged": [_plain(one) for one in report.not_judged],
        "problems": list(report.problems),
    }


def _plain(value: Any) -> dict[str, Any]:
    shape: dict[str, Any] = msgspec.to_builtins(value, enc_hook=_builtin)
    return shape


def _builtin(value: Any) -> Any:
    return to_builtin(value)
