"""A Trace for the terminal: legs, hops, steps, and the closing line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hairpin.trace.values import Hop, Leg, Step, Trace, at

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_ROLES = {"pod": "Pod ", "node": "node ", "other": "namespace ", "outside": ""}
_REWRITES = ("ipvs", "nat")

_Paint = Callable[..., str]


def text(trace: Trace, *, colour: bool = False) -> str:
    """All of it, several lines."""

    def paint(words: str, *styles: str) -> str:
        if not colour:
            return words
        return f"\033[{';'.join(_CODES[one] for one in styles)}m{words}\033[0m"

    lines = [_heading(trace, paint)]
    for leg in trace.legs:
        lines += ["", *_leg(leg, paint)]
    lines += ["", *_tracked(trace, paint)]
    lines += [*_closing(trace, paint)]
    return "\n".join(lines)


def _heading(trace: Trace, paint: _Paint) -> str:
    asked = trace.asked
    where = at(asked.ip, asked.port if asked.protocol != "ICMP" else 0)
    of = f", Service {asked.service}" if asked.service else ""
    to = asked.target if asked.target == where else f"{asked.target} ({where})"
    return f"{paint(asked.source, 'bold')} → {paint(to, 'bold')}, {asked.protocol}{of}"


def _leg(leg: Leg, paint: _Paint) -> Iterator[str]:
    mark = paint("✓", "green") if leg.arrived else paint("✗", "red")
    yield f"{mark} {paint(leg.name, 'bold')}  {leg.packet}"
    for hop in leg.hops:
        yield from _hop(hop, paint)


def _hop(hop: Hop, paint: _Paint) -> Iterator[str]:
    name = hop.name.removeprefix("default/") if hop.role == "pod" else hop.name
    first = next((step.before for step in hop.steps if step.before is not None), None)
    ends = f"  {paint(str(first), 'dim')}" if first is not None else ""
    yield f"  {paint(_ROLES[hop.role] + name, 'cyan')}{ends}"
    for step in hop.steps:
        yield from _step(step, paint)


def _step(step: Step, paint: _Paint) -> Iterator[str]:
    says = paint(step.says, "yellow") if step.kind in _REWRITES else step.says
    asked = [f"asked for by {step.owner}"] if step.owner else []
    by = [one for one in (step.by, *asked, step.hook) if one]
    aside = f"  {paint('(' + '; '.join(by) + ')', 'dim')}" if by else ""
    yield f"    {says}{aside}"
    if step.kind in _REWRITES and step.before is not None and step.after is not None:
        yield f"      {step.before}  ⇒  {step.after}"


def _tracked(trace: Trace, paint: _Paint) -> Iterator[str]:
    for one in trace.tracked:
        state = f" {one.state}" if one.state else ""
        line = f"{one.by} in {one.netns}{state}: {one.original}; answers from {one.reply}"
        yield paint(line, "dim")
    if trace.tracked:
        yield ""


def _closing(trace: Trace, paint: _Paint) -> Iterator[str]:
    good = trace.disposition == "delivered"
    word = trace.disposition.replace("-", " ")
    yield f"{paint(word, 'bold', 'green' if good else 'red')}: {trace.ended.says}"
    cause = trace.cause
    if cause is not None:
        yield f"{paint('because', 'bold')} {cause.because}  {paint('[' + cause.id + ']', 'dim')}"
        if cause.mend.hairpin:
            yield f"{paint('to mend:', 'bold')} {cause.mend.hairpin}"
        if cause.mend.shell:
            lead = "     or:" if cause.mend.hairpin else "to mend:"
            on = f"  {paint(f'(in {cause.mend.on})', 'dim')}" if cause.mend.on else ""
            yield f"{paint(lead, 'bold')} {cause.mend.shell}{on}"
    for note in trace.notes:
        yield paint(f"note: {note}", "dim")
