"""A Trace for the terminal: legs, hops, steps, and the closing line.

On the left of a step is where it was: netfilter's hook, or what kind of step it is.  Below it, in
dim letters, is what decided it and who asked for that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain

from hairpin.trace.values import Hop, Leg, Step, Trace, at

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}
_ROLES = {"pod": "Pod ", "node": "node ", "other": "namespace ", "outside": ""}
_REWRITES = ("ipvs", "nat")
_ROUTED = ("sent", "route")  # what decided is a route, and short
_ENDS = ("drop", "reject")
_KINDS = {"sent": "out", "received": "in", "left": "out", "deliver": "local", "ipvs": "IPVS",
          "nat": "NAT"}  # fmt: skip
_COLUMN = 12  # letters of the left column: those of POSTROUTING, and a space
_NARROWEST = 60  # columns of a terminal that long lines are still broken for

_PAINTED = re.compile(r"\033\[[0-9;]*m")

_Paint = Callable[..., str]


def text(trace: Trace, *, colour: bool = False, width: int = 0) -> str:
    """All of it, several lines.  ``width``: columns that long ones are broken at, 0 for never."""

    def paint(words: str, *styles: str) -> str:
        if not colour or not words:
            return words
        return f"\033[{';'.join(_CODES[one] for one in styles)}m{words}\033[0m"

    width = width if width >= _NARROWEST else 0
    lines = [_heading(trace, paint)]
    for leg in trace.legs:
        lines += ["", *_leg(leg, paint, width)]
    lines += ["", *_tracked(trace, paint, width)]
    lines += [*_closing(trace, paint, width)]
    return "\n".join(lines)


def because(trace: Trace) -> str:
    """Why it failed, without what the line above says already; nothing where it works."""
    if trace.cause is None:
        return ""
    return trace.cause.because.removesuffix(f"; {trace.ended.says}")


def _heading(trace: Trace, paint: _Paint) -> str:
    asked = trace.asked
    where = at(asked.ip, asked.port if asked.protocol != "ICMP" else 0)
    of = f", Service {asked.service}" if asked.service else ""
    to = asked.target if asked.target == where else f"{asked.target} ({where})"
    return f"{paint(asked.source, 'bold')} → {paint(to, 'bold')}, {asked.protocol}{of}"


def _leg(leg: Leg, paint: _Paint, width: int) -> Iterator[str]:
    mark = paint("✓", "green") if leg.arrived else paint("✗", "red")
    yield f"{mark} {paint(leg.name, 'bold')}  {leg.packet}"
    for hop in leg.hops:
        yield from _hop(hop, paint, width)


def _hop(hop: Hop, paint: _Paint, width: int) -> Iterator[str]:
    first = next((step.before for step in hop.steps if step.before is not None), None)
    ends = f"  {paint(str(first), 'dim')}" if first is not None else ""
    yield f"  {paint(_title(hop), 'cyan')}{ends}"
    for step in hop.steps:
        yield from _step(step, paint, width)


def _title(hop: Hop) -> str:
    name = hop.name.removeprefix("default/") if hop.role == "pod" else hop.name
    return _ROLES[hop.role] + name


def _step(step: Step, paint: _Paint, width: int) -> Iterator[str]:
    left = step.hook or _KINDS.get(step.kind, step.kind)
    says = step.says.removeprefix(f"{step.hook}: ")
    style = "yellow" if step.kind in _REWRITES else "red" if step.kind in _ENDS else ""
    indent = " " * (4 + _COLUMN)
    lead = f"    {paint(f'{left:<{_COLUMN}}', 'dim')}"
    if step.kind in _ROUTED and step.by:
        yield from _lines(lead, f"{says}  ({step.by})", indent, width, str)
        return
    yield from _lines(lead, says, indent, width, lambda one: paint(one, style) if style else one)
    if step.before is not None and step.after is not None and step.before != step.after:
        yield f"{indent}{step.before}  ⇒  {step.after}"
    for words in _reasons(step):
        yield from _lines(indent, words, indent + "  ", width, lambda one: paint(one, "dim"))


def _reasons(step: Step) -> Iterator[str]:
    """What decided it, and who asked for that."""
    if step.by:
        yield step.by
    if step.owner:
        yield f"asked for by {step.owner}" + (f": {step.why}" if step.why else "")


def _lines(
    lead: str, words: str, indent: str, width: int, paint: Callable[[str], str]
) -> Iterator[str]:
    """``words`` after ``lead``, broken at spaces into lines of that many columns."""
    start = len(_PAINTED.sub("", lead))
    if not width or start + len(words) <= width:
        yield lead + paint(words)
        return
    from textwrap import wrap

    parts = wrap(words, width, initial_indent=" " * start, subsequent_indent=indent,
                 break_long_words=False, break_on_hyphens=False)  # fmt: skip
    yield lead + paint(parts[0][start:])
    for part in parts[1:]:
        yield indent + paint(part[len(indent) :])


def _tracked(trace: Trace, paint: _Paint, width: int) -> Iterator[str]:
    titles = {hop.netns: _title(hop) for hop in chain(*(leg.hops for leg in trace.legs))}
    for one in trace.tracked:
        where = titles.get(one.netns, one.netns)
        who = f"{one.by} on {where}"
        state = f", {one.state}" if one.state else ""
        words = f"{one.original}, answers {one.reply}{state}"
        yield from _lines(
            paint(f"{who}: ", "dim"), words, "    ", width, lambda some: paint(some, "dim")
        )
    if trace.tracked:
        yield ""


def _closing(trace: Trace, paint: _Paint, width: int) -> Iterator[str]:
    good = trace.disposition == "delivered"
    word = trace.disposition.replace("-", " ")
    lead = f"{paint(word, 'bold', 'green' if good else 'red')}: "
    yield from _lines(lead, trace.ended.says, "    ", width, str)
    cause = trace.cause
    if cause is not None:
        words = f"{because(trace)}  [{cause.id}]"
        yield from _lines(f"{paint('because', 'bold')} ", words, "    ", width, str)
        # Commands are never broken: they are there to be copied.
        if cause.mend.hairpin:
            yield f"{paint('to mend:', 'bold')} {cause.mend.hairpin}"
        if cause.mend.shell:
            lead = "     or:" if cause.mend.hairpin else "to mend:"
            on = f"  {paint(f'(in {cause.mend.on})', 'dim')}" if cause.mend.on else ""
            yield f"{paint(lead, 'bold')} {cause.mend.shell}{on}"
    for note in trace.notes:
        yield paint(f"note: {note}", "dim")
