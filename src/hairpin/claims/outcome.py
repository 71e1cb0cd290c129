"""What a run of claims came to: as a table, JSON, JUnit's XML, and docs/behaviours.md.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hairpin.claims.base import Language
from hairpin.claims.promises import Difference, Finding, Mode, Promise, Result, Verdict
from hairpin.present.junit import Case, junit
from hairpin.present.table import table

RESULTS: tuple[Result, ...] = ("held", "differs", "failed", "error", "skipped")
_COLOURS: dict[str, str] = {
    "held": "32", "differs": "33", "failed": "31", "error": "31", "skipped": "2",
}  # fmt: skip
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
    return f"{len(verdicts)} claims in {seconds:.0f} s: {', '.join(_counted(verdicts))}"


def _counted(verdicts: Sequence[Verdict]) -> list[str]:
    return [f"{count} {_WORDS[result]}" for result, count in counts(verdicts).items() if count]


def listing(claims: Sequence[Promise], language: Language) -> str:
    """For ``--list``."""
    return table(
        ("CLAIM", "SAYS"), [(_short(claim), claim.says.said(language)) for claim in claims]
    )


def text(verdicts: Sequence[Verdict], language: Language, *, colour: bool) -> str:
    """A row for each claim; below, what went wrong, and how the mode differs."""

    def paint(column: str, cell: str) -> str:
        code = _COLOURS.get(cell) if column == "RESULT" else None
        return f"\033[{code}m{cell}\033[0m" if code else cell

    rows = [
        (one.result, f"{one.seconds:.1f}s", _short(one.claim), one.claim.says.said(language))
        for one in verdicts
    ]
    parts = [table(("RESULT", "TIME", "CLAIM", "SAYS"), rows, paint=paint if colour else None)]
    for title, lines in (
        ("Failed:", _failures(verdicts)),
        ("Differs as documented:", _differences(verdicts, language)),
        ("Skipped:", _skipped(verdicts)),
    ):
        if lines:
            parts.append("\n".join([title, *lines]))
    return "\n\n".join(parts)


def structured(
    verdicts: Sequence[Verdict], language: Language, *, mode: Mode, kernel: str, seconds: float
) -> dict[str, Any]:
    """What ``-o json`` prints."""
    counted: dict[str, int] = dict(counts(verdicts).items())
    return {
        "mode": mode,
        "kernel": kernel,
        "seconds": round(seconds, 1),
        **counted,
        "claims": [_claim(one, language) for one in verdicts],
    }


def xml(verdicts: Sequence[Verdict]) -> str:
    """For ``--junit``.  A difference that is documented and was seen is a test that passed."""
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
                else {"reason": one.differs.reason.said(language), "source": one.differs.source},
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
        suite=f"services.{claim.subject}",
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
        lines.append(f"  {_short(one.claim)}" + (f": {one.why}" if one.why else ""))
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
                if _short(verdict.claim) not in known:
                    known.append(_short(verdict.claim))
    lines = []
    for difference, claims in found.values():
        lines.append(f"  {difference.reason.said(language)}")
        more = f" and {len(claims) - 3} more" if len(claims) > 3 else ""
        lines.append(f"    {', '.join(claims[:3])}{more}; {difference.source}")
    return lines


def _skipped(verdicts: Sequence[Verdict]) -> list[str]:
    found: dict[str, int] = {}
    for one in verdicts:
        if one.result == "skipped":
            found[one.why] = found.get(one.why, 0) + 1
    return [f"  {count}: {why}" for why, count in found.items()]


def _short(claim: Promise) -> str:
    return claim.id.removeprefix("services.")


# The generated document


def markdown(verdicts: Sequence[Verdict], *, mode: Mode, kernel: str) -> str:
    """docs/behaviours.md.  Says what was expected and seen to be so: times and addresses, which
    are others each time, are not in it."""
    packets = [one for one in verdicts if one.claim.subject == "packets"]
    others = [one for one in verdicts if one.claim.subject != "packets"]
    return "\n".join(
        [
            "# What Services do, shown by packets",
            "",
            f"Made by `make behaviours` (`hairpin check -o markdown`) on {kernel}, mode {mode}.",
            f"{len(verdicts)} claims: " + f"{', '.join(_counted(verdicts))}.",
            "",
            *_packet_tables(packets),
            *_difference_list(verdicts),
            *_subject_tables(others, mode),
        ]
    )


_PACKETS = """\
From four sources on or beside the first node: a Pod that is no endpoint, the node, the node from
127.0.0.1 (its node port is tried there too), a client outside the cluster. `n1-a` is an endpoint on
that node, `n2-a` one on another. *kept*: the server saw the client's own address; *node*: a node's.
**≠** is where the mode differs from what kube-proxy's iptables mode does."""


def _packet_tables(verdicts: Sequence[Verdict]) -> Iterator[str]:
    yield "## Packet rows"
    yield ""
    yield _PACKETS
    for destination in dict.fromkeys(one.claim.id.split(".")[2] for one in verdicts):
        yield f"\n### {destination}\n"
        yield "| traffic policy | endpoints | Pod | node | 127.0.0.1 | outside |"
        yield "|---|---|---|---|---|---|"
        for one in verdicts:
            _, _, where, policy, place = one.claim.id.split(".")
            if where == destination:
                cells = [_cell(finding) for finding in one.findings] or ["skipped"] * 4
                yield f"| {policy} | {place.replace('-', ' ')} | {' | '.join(cells)} |"
    yield ""


def _cell(finding: Finding) -> str:
    said = finding.expected.removeprefix("answered by ")
    said = said.replace(", source kept", " *kept*").replace(", source is a node's", " *node*")
    said = said if finding.held else f"FAILED: {finding.seen}"
    return f"**≠** {said}" if finding.differs else said


def _difference_list(verdicts: Sequence[Verdict]) -> Iterator[str]:
    found: dict[str, tuple[Difference, dict[str, None]]] = {}
    for verdict in verdicts:
        for one in verdict.findings:
            if one.differs is not None:
                known = found.setdefault(one.differs.reason.en, (one.differs, {}))[1]
                known[_short(verdict.claim)] = None
    yield "## Where the mode differs\n"
    for difference, claims in found.values():
        shown = ", ".join(f"`{claim}`" for claim in claims)
        reason = difference.reason.en
        yield f"- {reason[0].upper()}{reason[1:]} ({difference.source})."
        yield f"  Seen in {shown}."
    yield ""


def _subject_tables(verdicts: Sequence[Verdict], mode: Mode) -> Iterator[str]:
    yield "## Claims"
    for subject in dict.fromkeys(one.claim.subject for one in verdicts):
        yield f"\n### {subject}\n"
        yield f"| claim | says | {mode} | source |"
        yield "|---|---|---|---|"
        for one in verdicts:
            if one.claim.subject == subject:
                name = one.claim.id.split(".", 2)[2]
                result = one.result if not one.why else f"{one.result}: {one.why}"
                yield f"| {name} | {one.claim.says.en} | {result} | {one.claim.source} |"
    yield ""
