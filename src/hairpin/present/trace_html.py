"""A Trace as one page: the topology drawn, and the packet's way on it step by step.

Self-contained: no other file is asked for.  Without JavaScript it is a list, which is also what
screen readers get; with it, keys and mouse walk the steps, and the drawing shows where each is.
"""

from __future__ import annotations

from html import escape
from itertools import pairwise

from hairpin.trace.values import Hop, Leg, Step, Trace, at

_LANE, _TOP, _BOX, _ROW = 190, 76, 150, 74  # pixels of the drawing


def page(trace: Trace) -> str:
    """The whole page."""
    title = f"{trace.asked.source} → {trace.asked.target}"
    return _PAGE.format(
        title=escape(title),
        style=_STYLE,
        script=_SCRIPT,
        heading=escape(title),
        verdict=_verdict(trace),
        drawing=_drawing(trace),
        legs="".join(_leg(leg, number) for number, leg in enumerate(trace.legs)),
        tracked=_tracked(trace),
    )


def _verdict(trace: Trace) -> str:
    good = "good" if trace.disposition == "delivered" else "bad"
    word = trace.disposition.replace("-", " ")
    lines = [f'<p class="{good}"><b>{escape(word)}</b>: {escape(trace.ended.says)}</p>']
    cause = trace.cause
    if cause is not None:
        lines.append(
            f"<p><b>because</b> {escape(cause.because)} <code>{escape(cause.id)}</code></p>"
        )
        for name, line in (("to mend", cause.mend.hairpin), ("or", cause.mend.shell)):
            if line:
                lines.append(f"<p><b>{name}</b> <kbd>{escape(line)}</kbd></p>")
    asked = trace.asked
    where = at(asked.ip, asked.port if asked.protocol != "ICMP" else 0)
    service = f", Service {asked.service}" if asked.service else ""
    lines.insert(0, f"<p>{escape(asked.protocol)} to {escape(where)}{escape(service)}</p>")
    return "".join(lines)


def _places(trace: Trace) -> list[Hop]:
    """Each namespace once, in the order in which packets came to them."""
    found: dict[str, Hop] = {}
    for leg in trace.legs:
        for hop in leg.hops:
            found.setdefault(hop.netns, hop)
    return list(found.values())


def _drawing(trace: Trace) -> str:
    """A lane for each namespace, a row for each leg's hop, an arrow from hop to hop."""
    places = _places(trace)
    lanes = {hop.netns: number for number, hop in enumerate(places)}
    rows = [(number, leg, hop) for number, leg in enumerate(trace.legs) for hop in leg.hops]
    width = _LANE * max(len(lanes), 1)
    height = _TOP + _ROW * len(rows) + 20
    parts = [_lane(hop, lanes[hop.netns], height) for hop in places]
    spots: dict[tuple[int, int], tuple[int, int]] = {}
    row = 0
    for number, leg in enumerate(trace.legs):
        for index, hop in enumerate(leg.hops):
            spots[number, index] = (lanes[hop.netns] * _LANE + _LANE // 2, _TOP + row * _ROW + 24)
            row += 1
        for one, other in pairwise(range(len(leg.hops))):
            parts.append(_arrow(spots[number, one], spots[number, other], leg))
    for number, leg in enumerate(trace.legs):
        for index, hop in enumerate(leg.hops):
            end = not leg.arrived and index == len(leg.hops) - 1
            parts.append(_spot(hop, spots[number, index], f"{number}-{index}", end=end))
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="The way of the packets; '
        f'the list below says the same" style="max-width:{width}px">{_MARKER}{"".join(parts)}</svg>'
    )


def _lane(hop: Hop, number: int, height: int) -> str:
    middle = number * _LANE + _LANE // 2
    name = hop.name.removeprefix("default/")
    return (
        f'<line class="lane" x1="{middle}" x2="{middle}" y1="58" y2="{height - 8}"/>'
        f'<rect class="box {hop.role}" x="{middle - _BOX // 2}" y="8" width="{_BOX}" height="46" '
        f'rx="8"/><text class="role" x="{middle}" y="26">{escape(_ROLES[hop.role])}</text>'
        f'<text class="name" x="{middle}" y="44">{escape(name)}</text>'
    )


def _arrow(one: tuple[int, int], other: tuple[int, int], leg: Leg) -> str:
    return (
        f'<path class="way {leg.name}" marker-end="url(#tip)" d="M{one[0]} {one[1]} '
        f'L{other[0]} {other[1] - 13}"/>'
    )


def _spot(hop: Hop, where: tuple[int, int], id_: str, *, end: bool) -> str:
    x, y = where
    rewrites = sum(step.kind in ("ipvs", "nat") for step in hop.steps)
    shape = (
        f'<path class="end" d="M{x - 9} {y - 9}L{x + 9} {y + 9}M{x + 9} {y - 9}L{x - 9} {y + 9}"/>'
        if end
        else f'<circle class="spot{" rewrote" if rewrites else ""}" cx="{x}" cy="{y}" r="10"/>'
    )
    said = next((step for step in hop.steps if step.kind in ("ipvs", "nat")), None)
    label = ""
    if said is not None:
        short = said.says if len(said.says) <= 30 else f"{said.says[:29]}…"
        label = f'<text class="said" x="{x}" y="{y + 28}">{escape(short)}</text>'
    return f'<a href="#hop-{id_}" data-hop="{id_}" tabindex="-1">{shape}{label}</a>'


def _leg(leg: Leg, number: int) -> str:
    mark = "arrived" if leg.arrived else "did not arrive"
    hops = "".join(_hop(hop, f"{number}-{index}") for index, hop in enumerate(leg.hops))
    return (
        f"<section><h2>{escape(leg.name)} <small>{escape(leg.packet)}, {mark}</small></h2>"
        f"<ol>{hops}</ol></section>"
    )


def _hop(hop: Hop, id_: str) -> str:
    name = f"{_ROLES[hop.role]} {hop.name.removeprefix('default/')}".strip()
    steps = "".join(_step(step, id_) for step in hop.steps)
    return f'<li id="hop-{id_}"><h3>{escape(name)}</h3><ol class="steps">{steps}</ol></li>'


def _step(step: Step, hop: str) -> str:
    asked = f"asked for by {step.owner}" if step.owner else None
    aside = "; ".join(one for one in (step.by, asked, step.hook) if one)
    more = f' <span class="by">{escape(aside)}</span>' if aside else ""
    ends = ""
    if step.kind in ("ipvs", "nat") and step.before is not None and step.after is not None:
        ends = (
            f'<div class="ends"><del>{escape(str(step.before))}</del> ⇒ '
            f"<ins>{escape(str(step.after))}</ins></div>"
        )
    return (
        f'<li class="step {step.kind}" data-hop="{hop}" tabindex="0">'
        f"{escape(step.says)}{more}{ends}</li>"
    )


def _tracked(trace: Trace) -> str:
    if not trace.tracked:
        return ""
    rows = "".join(
        f"<tr><td>{escape(one.netns)}</td><td>{one.by}</td><td>{escape(one.original)}</td>"
        f"<td>{escape(one.reply)}</td><td>{escape(one.state)}</td></tr>"
        for one in trace.tracked
    )
    return (
        "<section><h2>What is remembered of it</h2><table><tr><th>namespace<th>by<th>original"
        f"<th>answers from<th>state</tr>{rows}</table></section>"
    )


_ROLES = {"pod": "Pod", "node": "node", "outside": "", "other": "namespace"}
_MARKER = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7"'
    ' orient="auto"><path d="M0 0L8 4L0 8z" fill="context-stroke"/></marker></defs>'
)
_STYLE = """
:root{color-scheme:light dark;--fg:#1c2128;--bg:#fff;--dim:#59636e;--line:#d1d9e0;--card:#f6f8fa;
--req:#0969da;--rep:#1a7f37;--bad:#d1242f;--warn:#9a6700}
@media(prefers-color-scheme:dark){:root{--fg:#e6edf3;--bg:#0d1117;--dim:#9198a1;--line:#3d444d;
--card:#151b23;--req:#4493f8;--rep:#3fb950;--bad:#f85149;--warn:#d29922}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:70em;
margin:0 auto;padding:1.5em}h1{margin:0 0 .3em}h2{margin:1.2em 0 .3em}h3{margin:.6em 0 .1em}
small,.by{color:var(--dim);font-weight:400}.good b{color:var(--rep)}.bad b{color:var(--bad)}
kbd,code{font:13px ui-monospace,monospace;background:var(--card);border:1px solid var(--line);
border-radius:5px;padding:.1em .4em;overflow-wrap:anywhere}ol{list-style:none;padding:0 0 0 .4em;
margin:0;border-left:2px solid var(--line)}section>ol>li{padding-left:.8em}.steps{border:0}
.step{padding:.15em .5em;border-radius:5px;cursor:pointer}.step.ipvs,.step.nat{font-weight:600}
.step:focus,.step.now{outline:2px solid var(--req);background:var(--card)}.by{font-size:13px}
.ends{font:13px ui-monospace,monospace}del{color:var(--bad);text-decoration:none}
ins{color:var(--rep);text-decoration:none}svg{width:100%;height:auto;display:block;margin:1em 0}
.lane{stroke:var(--line);stroke-width:2}.box{fill:var(--card);stroke:var(--line)}
.box.node{stroke:var(--warn)}.box.pod{stroke:var(--req)}text{fill:var(--fg);text-anchor:middle;
font:13px system-ui}.role{fill:var(--dim);font-size:11px}.said{font-size:11px;fill:var(--warn)}
.way{fill:none;stroke-width:2.5;stroke:var(--req)}.way.reply{stroke:var(--rep)}
.way.error,.way.data{stroke:var(--bad)}.spot{fill:var(--bg);stroke:var(--dim);stroke-width:2.5}
.spot.rewrote{stroke:var(--warn)}.end{stroke:var(--bad);stroke-width:4}
a.now .spot{fill:var(--req)}a.now .end{stroke-width:7}table{border-collapse:collapse;font-size:13px}
td,th{border:1px solid var(--line);padding:.2em .6em;text-align:left}
"""
_SCRIPT = """
(()=>{const steps=[...document.querySelectorAll('.step')];let at=-1;
const show=n=>{if(n<0||n>=steps.length)return;at=n;
document.querySelectorAll('.now').forEach(e=>e.classList.remove('now'));
const s=steps[n];s.classList.add('now');s.focus({preventScroll:true});
s.scrollIntoView({block:'nearest'});
const same='svg a[data-hop="'+s.dataset.hop+'"]';
document.querySelectorAll(same).forEach(e=>e.classList.add('now'))};
steps.forEach((s,n)=>s.addEventListener('click',()=>show(n)));
document.querySelectorAll('svg a').forEach(a=>a.addEventListener('click',e=>{
e.preventDefault();show(steps.findIndex(s=>s.dataset.hop===a.dataset.hop))}));
addEventListener('keydown',e=>{if(['ArrowDown','ArrowRight','j','n'].includes(e.key)){show(at+1)}
else if(['ArrowUp','ArrowLeft','k','p'].includes(e.key)){show(at-1)}else if(e.key==='Home'){show(0)}
else if(e.key==='End'){show(steps.length-1)}else return;e.preventDefault()});
document.getElementById('keys').hidden=false})();
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><h1>{heading}</h1>{verdict}{drawing}
<p id="keys" hidden><small>arrow keys, or a click, go from step to step</small></p>
{legs}{tracked}
<script>{script}</script></body></html>
"""
