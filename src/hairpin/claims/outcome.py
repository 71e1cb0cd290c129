"""What a run of claims came to: as a table, JSON, JUnit's XML, and docs/behaviours.md.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hairpin.claims.base import Language
from hairpin.claims.promises import Difference, Finding, Promise, Result, Verdict
from hairpin.claims.topics import Mode
from hairpin.present.junit import Case, junit
from hairpin.present.table import table

RESULTS: tuple[Result, ...] = ("held", "differs", "failed", "error", "skipped")
COLOURS: dict[str, str] = {
    "held": "32", "differs": "33", "failed": "31", "error": "31", "skipped": "2",
}  # fmt: skip
FAILED = "Failed:"
_WORDS = {
    "held": "held",
    "differs": "differ as documented",
    "failed": "failed",
    "error": "could not be run",
    "skipped": "skipped",
}


def counts(verdicts: Sequence[Verdict]) -> dict[Result, int]:
    return {result: sum(one.result == result for one in verdicts) for result in RESULTS}


def summary(verdicts: Sequence[Verdict], seconds: float) -> str:
    """``148 claims in 35 s: 120 held, 28 differ as documented``."""
    number = len(verdicts)
    said = f"{number} claim{'' if number == 1 else 's'}"
    return f"{said} in {seconds:.0f} s: {', '.join(counted(verdicts))}"


def counted(verdicts: Sequence[Verdict]) -> list[str]:
    """Of each result that there was: ``120 held``."""
    return [f"{count} {_WORDS[result]}" for result, count in counts(verdicts).items() if count]


def listing(claims: Sequence[Promise], language: Language) -> str:
    """For ``--list``."""
    return table(("CLAIM", "SAYS"), [(short(claim), claim.says.said(language)) for claim in claims])


def text(verdicts: Sequence[Verdict], language: Language, *, colour: bool) -> str:
    """A row for each claim; below, what went wrong, and how the mode differs."""

    def paint(column: str, cell: str) -> str:
        code = COLOURS.get(cell) if column == "RESULT" else None
        return f"\033[{code}m{cell}\033[0m" if code else cell

    rows = [
        (one.result, f"{one.seconds:.1f}s", short(one.claim), one.claim.says.said(language))
        for one in verdicts
    ]
    parts = [table(("RESULT", "TIME", "CLAIM", "SAYS"), rows, paint=paint if colour else None)]
    parts += ["\n".join([title, *lines]) for title, lines in notes(verdicts, language)]
    return "\n\n".join(parts)


def notes(verdicts: Sequence[Verdict], language: Language) -> list[tuple[str, list[str]]]:
    """What is to be said below the table: a title and lines, where there is any; what failed
    last, as the end is what a person sees."""
    found = (
        ("Differs as documented:", _differences(verdicts, language)),
        ("Skipped:", _skipped(verdicts)),
        (FAILED, _failures(verdicts)),
    )
    return [(title, lines) for title, lines in found if lines]


def structured(
    verdicts: Sequence[Verdict], language: Language, *, mode: Mode, kernel: str, seconds: float
) -> dict[str, Any]:
    """What ``-o json`` prints of one mode."""
    counted: dict[str, int] = dict(counts(verdicts).items())
    return {
        "mode": mode,
        "kernel": kernel,
        "seconds": round(seconds, 1),
        **counted,
        "claims": [_claim(one, language) for one in verdicts],
    }


def xml(verdicts: Sequence[Verdict]) -> str:
    """For ``--junit``, of whatever modes: each is the first word of its suites.

    A difference that is documented and was seen is a test that passed.
    """
    return junit("hairpin check", [_case(one) for one in verdicts])


def _claim(verdict: Verdict, language: Language) -> dict[str, Any]:
    claim = verdict.claim
    return {
        "id": claim.id,
        "subject": claim.subject,
        "says": claim.says.said(language),
        "source": claim.source,
        "result": verdict.result,
        "why": verdict.why,
        "seconds": verdict.seconds,
        "findings": [
            {
                "what": one.what,
                "held": one.held,
                "expected": one.expected,
                "seen": one.seen,
                "differs": None
                if one.differs is None
                else {
                    "topic": one.differs.topic,
                    "reason": one.differs.reason.said(language),
                    "source": one.differs.source,
                },
            }
            for one in verdict.findings
        ],
    }


def _case(verdict: Verdict) -> Case:
    claim = verdict.claim
    wrong = [line for line in map(_line, verdict.findings) if line.startswith("✗")]
    results: dict[Result, Any] = {"held": "passed", "differs": "passed"}
    differs = [one.differs for one in verdict.findings if one.differs]
    said = [f"differs: {one.reason.en} ({one.source})" for one in dict.fromkeys(_unique(differs))]
    return Case(
        suite=f"{verdict.mode}.services.{claim.subject}",
        name=claim.id.split(".", 2)[2],
        seconds=verdict.seconds,
        result=results.get(verdict.result, verdict.result),
        message=verdict.why or "; ".join(wrong),
        output="\n".join([claim.says.en, f"source: {claim.source}", *said]),
    )


def _unique(differences: Sequence[Difference]) -> list[Difference]:
    found: dict[str, Difference] = {}
    for one in differences:
        found.setdefault(one.reason.en, one)
    return list(found.values())


def _line(finding: Finding) -> str:
    sign = "✓" if finding.held else "✗"
    return f"{sign} {finding.what}: expected {finding.expected}, saw {finding.seen}"


def _failures(verdicts: Sequence[Verdict]) -> list[str]:
    lines = []
    for one in verdicts:
        if one.result not in ("failed", "error"):
            continue
        lines.append(f"  {short(one.claim)}" + (f": {one.why}" if one.why else ""))
        lines += [f"    {_line(finding)}" for finding in one.findings if not finding.held]
        lines.append(f"    source: {one.claim.source}")
    return lines


def _differences(verdicts: Sequence[Verdict], language: Language) -> list[str]:
    """By reason: what differs in one way is told once."""
    found: dict[str, tuple[Difference, list[str]]] = {}
    for verdict in verdicts:
        for one in verdict.findings:
            if one.differs is not None and one.held:
                known = found.setdefault(one.differs.reason.en, (one.differs, []))[1]
                if short(verdict.claim) not in known:
                    known.append(short(verdict.claim))
    lines = []
    for difference, claims in found.values():
        lines.append(f"  {difference.topic}: {difference.reason.said(language)}")
        more = f" and {len(claims) - 3} more" if len(claims) > 3 else ""
        lines.append(f"    {', '.join(claims[:3])}{more}; {difference.source}")
    return lines


def _skipped(verdicts: Sequence[Verdict]) -> list[str]:
    found: dict[str, int] = {}
    for one in verdicts:
        if one.result == "skipped":
            found[one.why] = found.get(one.why, 0) + 1
    return [f"  {count}: {why}" for why, count in found.items()]


def short(claim: Promise) -> str:
    return claim.id.removeprefix("services.")
