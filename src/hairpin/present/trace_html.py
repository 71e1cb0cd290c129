"""A Trace as one page: the topology drawn, and the packet's way on it step by step.

Self-contained: no other file is asked for.  Without JavaScript it is a drawing and a list, which is
also what screen readers get; with it, keys and mouse walk the steps, and the drawing shows each.
"""

from __future__ import annotations

from html import escape

from hairpin.present.trace_map import drawing, numbers
from hairpin.present.trace_page import PAGE, SCRIPT, STYLE
from hairpin.present.trace_text import because
from hairpin.trace.values import Ends, Hop, Leg, Step, Trace, at

_ROLES = {"pod": "Pod", "node": "node", "outside": "", "other": "namespace"}
_SAID = {
    "request": "what the client sent",
    "reply": "what was answered",
    "data": "a later packet, which was lost",
    "error": "an error that somebody on the way told",
}


def page(trace: Trace) -> str:
    """The whole page."""
    title = f"{trace.asked.source} → {trace.asked.target}"
    told = numbers(trace)
    return PAGE.format(
        title=escape(title),
        style=STYLE,
        script=SCRIPT,
        heading=escape(title),
        verdict=_verdict(trace),
        drawing=drawing(trace),
        legs="".join(_leg(leg, number, told) for number, leg in enumerate(trace.legs)),
        tracked=_tracked(trace),
        notes="".join(f"<p><small>{escape(note)}</small></p>" for note in trace.notes),
    )


def _verdict(trace: Trace) -> str:
    good = "good" if trace.disposition == "delivered" else "bad"
    word = trace.disposition.replace("-", " ")
    lines = [f'<p class="{good}"><b>{escape(word)}</b>: {escape(trace.ended.says)}</p>']
    cause = trace.cause
    if cause is not None:
        lines.append(
            f"<p><b>because</b> {escape(because(trace))} <code>{escape(cause.id)}</code></p>"
        )
        name = "to mend"
        for line, on in ((cause.mend.hairpin, ""), (cause.mend.shell, cause.mend.on)):
            if line:
                where = f" <small>in {escape(on)}</small>" if on else ""
                lines.append(f"<p><b>{name}</b> <kbd>{escape(line)}</kbd>{where}</p>")
                name = "or"
    asked = trace.asked
    where = at(asked.ip, asked.port if asked.protocol != "ICMP" else 0)
    service = f", Service {asked.service}" if asked.service else ""
    lines.insert(0, f"<p>{escape(asked.protocol)} to {escape(where)}{escape(service)}</p>")
    return f'<div class="verdict {good}">{"".join(lines)}</div>'


def _leg(leg: Leg, number: int, told: dict[tuple[int, int, int], int]) -> str:
    mark = "arrived" if leg.arrived else "did not arrive"
    good = "good" if leg.arrived else "bad"
    hops, ends = [], None
    for index, hop in enumerate(leg.hops):
        shown, ends = _hop(hop, (number, index), told, ends)
        hops.append(shown)
    return (
        f'<section class="{leg.name}"><h2>{escape(leg.name)} <small>{escape(leg.packet)}, '
        f'{_SAID[leg.name]}; <span class="{good}"><b>{mark}</b></span></small></h2>'
        f"<ol>{''.join(hops)}</ol></section>"
    )


def _hop(
    hop: Hop, which: tuple[int, int], told: dict[tuple[int, int, int], int], ends: Ends | None
) -> tuple[str, Ends | None]:
    """A namespace's steps, and the packet's addresses after them."""
    name = f"{_ROLES[hop.role]} {hop.name.removeprefix('default/')}".strip()
    first = next((step.before for step in hop.steps if step.before is not None), ends)
    now, steps = first, []
    for index, step in enumerate(hop.steps):
        now = step.after or now
        steps.append(_step(step, (*which, index), told.get((*which, index)), now))
    came = f" <small>{escape(str(first))}</small>" if first is not None else ""
    return (
        f'<li id="hop-{which[0]}-{which[1]}"><h3>{escape(name)}{came}</h3>'
        f'<ol class="steps">{"".join(steps)}</ol></li>'
    ), now


def _step(step: Step, which: tuple[int, int, int], number: int | None, ends: Ends | None) -> str:
    why = f": {step.why}" if step.why else ""
    asked = f"asked for by {step.owner}{why}" if step.owner else None
    lines = [f'<div class="by">{escape(one)}</div>' for one in (step.by, asked) if one]
    told = not step.hook or step.says.startswith(f"{step.hook}: ")
    hook = "" if told else f" <small>{escape(step.hook or '')}</small>"
    change = ""
    if step.before is not None and step.after is not None and step.before != step.after:
        change = (
            f'<div class="ends"><del>{escape(str(step.before))}</del> ⇒ '
            f"<ins>{escape(str(step.after))}</ins></div>"
        )
    badge = f'<span class="badge">{number}</span> ' if number is not None else ""
    leg, hop, place = which
    shown = escape(str(ends)) if ends is not None else ""
    return (
        f'<li class="step {step.kind}" data-step="{leg}-{hop}-{place}" data-ends="{shown}" '
        f'tabindex="0">{badge}<span class="says">{escape(step.says)}</span>{hook}{change}'
        f"{''.join(lines)}</li>"
    )


def _tracked(trace: Trace) -> str:
    if not trace.tracked:
        return ""
    names = {hop.netns: hop.name for leg in trace.legs for hop in leg.hops}
    rows = "".join(
        f"<tr><td>{escape(names.get(one.netns, one.netns))}</td><td>{one.by}</td>"
        f"<td>{escape(one.original)}</td><td>{escape(one.reply)}</td>"
        f"<td>{escape(one.state)}</td></tr>"
        for one in trace.tracked
    )
    return (
        '<section><h2>What is remembered of it</h2><div class="wide"><table><tr><th>namespace<th>by'
        f"<th>original<th>answers from<th>state</tr>{rows}</table></div></section>"
    )
