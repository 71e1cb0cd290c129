"""``docs/behaviours.md``: what the claims came to in each mode, as Markdown.  Pure.

It says what was expected and seen to be so.  Times and addresses, which are others each time, are
not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hairpin.claims import outcome
from hairpin.claims.promises import Difference, Finding
from hairpin.claims.side_by_side import Run, by_claim
from hairpin.claims.topics import Mode, Topic
from hairpin.claims.topics_table import BY_NAME

_PACKETS = """\
From four sources on or beside the first node: a Pod that is no endpoint, the node, the node from
127.0.0.1 (its node port is tried there too), a client outside the cluster. `n1-a` is an endpoint on
that node, `n2-a` one on another. *kept*: the server saw the client's own address; *node*: a node's.
The cell says what is documented, which here is what kube-proxy's iptables mode does, but that
without endpoints everybody is refused; **≠** is where a mode differs, and what it does instead."""


def markdown(runs: Sequence[Run]) -> str:
    """The whole document."""
    return "\n".join(
        [
            "# What Services do, shown by packets",
            "",
            "Made by `make behaviours` (`hairpin check -o markdown`), one run of all claims in",
            "each proxy mode:",
            "",
            "| mode | kernel | claims | |",
            "|---|---|---|---|",
            *[
                f"| {run.mode} | {run.kernel} | {len(run.verdicts)} | "
                f"{', '.join(outcome.counted(run.verdicts))} |"
                for run in runs
            ],
            "",
            *_differences(runs),
            *_packet_tables(runs),
            *_subject_tables(runs),
        ]
    )


def _differences(runs: Sequence[Run]) -> Iterator[str]:
    """By topic: what each mode does, then why, by who says so."""
    found: dict[str, dict[Mode, list[tuple[Difference, str]]]] = {}
    for run in runs:
        for verdict in run.verdicts:
            for one in verdict.findings:
                if one.differs is not None:
                    by_mode = found.setdefault(one.differs.topic, {})
                    some = by_mode.setdefault(run.mode, [])
                    some.append((one.differs, outcome.short(verdict.claim)))
    yield "## Where modes differ\n"
    modes = [run.mode for run in runs]
    yield f"| | {' | '.join(modes)} |"
    yield f"|---|{'---|' * len(modes)}"
    topics = [topic for name, topic in BY_NAME.items() if name in found]
    for topic in topics:
        cells = " | ".join(topic.does[mode].en for mode in modes)
        yield f"| [{topic.about.en}](#{topic.name}) | {cells} |"
    yield ""
    for topic in topics:
        yield from _topic(topic, found[topic.name])


def _topic(topic: Topic, by_mode: dict[Mode, list[tuple[Difference, str]]]) -> Iterator[str]:
    yield f"### {topic.name}\n"
    yield f"{_sentence(topic.about.en)}\n"
    for mode, some in by_mode.items():
        for reason in dict.fromkeys(difference.reason.en for difference, _ in some):
            same = [(one, claim) for one, claim in some if one.reason.en == reason]
            sources = "; ".join(dict.fromkeys(one.source for one, _ in same))
            yield f"- **{mode}**: {reason} ({sources})."
            yield f"  Seen in {_seen(dict.fromkeys(claim for _, claim in same))}."
    yield ""


def _seen(claims: Iterable[str]) -> str:
    """Claims by name; packet rows, of which there are many, as a number."""
    named = list(claims)
    rows = [name for name in named if name.startswith("packets.")]
    shown = [f"`{name}`" for name in named if name not in rows]
    if rows:
        shown.append(f"`{rows[0]}`" if len(rows) == 1 else f"{len(rows)} packet rows")
    return ", ".join(shown)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _packet_tables(runs: Sequence[Run]) -> Iterator[str]:
    rows = [(claim, some) for claim, some in by_claim(runs) if claim.subject == "packets"]
    if not rows:
        return
    yield "## Packet rows"
    yield ""
    yield _PACKETS
    for destination in dict.fromkeys(claim.id.split(".")[2] for claim, _ in rows):
        yield f"\n### {destination}\n"
        yield "| traffic policy | endpoints | Pod | node | 127.0.0.1 | outside |"
        yield "|---|---|---|---|---|---|"
        for claim, verdicts in rows:
            _, _, where, policy, place = claim.id.split(".")
            if where != destination:
                continue
            by_source = zip(*(one.findings for one in verdicts), strict=True)
            modes = [one.mode for one in verdicts]
            cells = [_cell(modes, findings) for findings in by_source] or ["skipped"] * 4
            yield f"| {policy} | {place.replace('-', ' ')} | {' | '.join(cells)} |"
    yield ""


def _cell(modes: Sequence[Mode], findings: Sequence[Finding]) -> str:
    """What is documented once; then what each mode does that differs, or failed."""
    as_documented = [one for one in findings if one.differs is None and one.held]
    parts = [_said(as_documented[0])] if as_documented else []
    others: dict[str, list[Mode]] = {}
    for mode, one in zip(modes, findings, strict=True):
        if not one.held:
            others.setdefault(f"FAILED: {one.seen}", []).append(mode)
        elif one.differs is not None:
            others.setdefault(_said(one), []).append(mode)
    parts += [f"**≠** {', '.join(some)}: {said}" for said, some in others.items()]
    return "<br>".join(parts)


def _said(finding: Finding) -> str:
    said = finding.expected.removeprefix("answered by ")
    return said.replace(", source kept", " *kept*").replace(", source is a node's", " *node*")


def _subject_tables(runs: Sequence[Run]) -> Iterator[str]:
    rows = [(claim, some) for claim, some in by_claim(runs) if claim.subject != "packets"]
    modes = [run.mode for run in runs]
    yield "## Claims"
    for subject in dict.fromkeys(claim.subject for claim, _ in rows):
        yield f"\n### {subject}\n"
        yield f"| claim | says | {' | '.join(modes)} | source |"
        yield f"|---|---|{'---|' * len(modes)}---|"
        for claim, verdicts in rows:
            if claim.subject == subject:
                name = claim.id.split(".", 2)[2]
                results = [
                    one.result if not one.why else f"{one.result}: {one.why}" for one in verdicts
                ]
                yield f"| {name} | {claim.says.en} | {' | '.join(results)} | {claim.source} |"
    yield ""
