"""The drawing of a Trace: namespaces as boxes, their links in them, and the packet's way on it.

In a box are, from above: what decides there (the node's kernel, a Pod's process), bridges, and the
links that lead to other boxes.  Each leg is a line from link to link; numbered spots are where the
packet was rewritten or ended, by the numbers of the list.  What is known is what the steps say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise, permutations

import msgspec

from hairpin.trace.values import Hop, Leg, Step, Trace

Chip = tuple[str, str]
"""A namespace and one of its links."""

_LETTER = 7.3  # pixels of a letter of a link's name
_SLOT, _GAP, _BETWEEN = 26, 10, 48  # between spots; between links; between boxes
_KERNEL, _INNER, _PORTS, _BOTTOM = 54, 112, 166, 220  # from the top
_HIGH = 26  # of a link
_SLACK = 12  # on either side in a box
_BELOW = 40  # under the boxes, for wires to boxes that are no neighbours
NUMBERED = ("ipvs", "nat", "drop", "reject", "left")
_LARGER = 1.25  # a small picture is shown this much larger
_MOST = 7  # boxes whose order is chosen among all: 5 040
_SMALL = 600  # pixels
_FROM_BEYOND = "from beyond"  # the id of a spot on another machine
_ELSEWHERE = ("sent", "received", "bridge", "tunnel", "left")  # steps that are at their link
_INSIDE = {"pod": "process", "node": "kernel", "outside": "client", "other": "process"}
_ROLES = {"pod": "Pod", "node": "node", "outside": "", "other": "namespace"}


class Box(msgspec.Struct):
    """A namespace and where it is drawn; ``slots`` is how often its inside is passed."""

    hop: Hop
    ports: list[str]
    inner: list[str]
    slots: int
    right: bool  # all its links lead to boxes on the right
    x: float = 0.0
    width: float = 0.0


class Spot(msgspec.Struct, frozen=True):
    """Where the packet is at a step; ``step`` None is before the first one, or on its way."""

    x: float
    y: float
    netns: str
    step: Step | None
    id: str


def numbers(trace: Trace) -> dict[tuple[int, int, int], int]:
    """The steps that have a number, by leg, hop and step."""
    keys = [
        (a, b, c)
        for a, leg in enumerate(trace.legs)
        for b, hop in enumerate(leg.hops)
        for c, step in enumerate(hop.steps)
        if step.kind in NUMBERED
    ]
    return {key: number for number, key in enumerate(keys, 1)}


def drawing(trace: Trace) -> str:
    """The picture as SVG; empty where nothing was seen."""
    if not trace.legs:
        return ""
    wires = _wires(trace)
    boxes = _boxes(trace, wires)
    links = _placed(boxes)
    far = any(abs(_index(boxes, a) - _index(boxes, b)) > 1 for (a, _), (b, _) in wires)
    width = boxes[-1].x + boxes[-1].width + (_BETWEEN if _leaves(trace) else 8)
    height = _BOTTOM + (_BELOW if far else 10)
    parts = [_box(one, links) for one in boxes]
    parts += [_wire(one, links, boxes) for one in wires]
    told = numbers(trace)
    for number, leg in enumerate(trace.legs):
        parts.append(_way(leg, list(_spots(trace, number, boxes, links)), told))
    shown = width * (_LARGER if width < _SMALL else 1)
    return (
        f'<div class="map"><svg viewBox="0 0 {width:.0f} {height}" width="{shown:.0f}" '
        f'role="img" aria-label="Namespaces, their links, and the way of the packets on them; '
        f'the list says the same">{"".join(parts)}'
        '<circle id="at" r="9" cx="-99"/></svg></div>'
    )


def _boxes(trace: Trace, wires: list[tuple[Chip, Chip]]) -> list[Box]:
    """The namespaces side by side, with room for all that is in them."""
    hops: dict[str, Hop] = {}
    used: dict[str, dict[str, None]] = {}
    slots: dict[str, int] = {}
    for leg in trace.legs:
        for index, hop in enumerate(leg.hops):
            hops.setdefault(hop.netns, hop)
            links = used.setdefault(hop.netns, {})
            links.update((step.link, None) for step in hop.steps if step.link)
            passes = sum(_in_kernel(step) for step in hop.steps) + _begins(hop, index)
            slots[hop.netns] = slots.get(hop.netns, 0) + passes
    order = _ordered(list(hops), wires)
    found, x = [], 4.0
    for netns in order:
        hop = hops[netns]
        away = _away(netns, wires, order)
        inner = [one for one in used[netns] if one not in away and _is_inner(hop, away)]
        ports = [one for one in used[netns] if one not in inner]
        ports.sort(key=lambda one: away.get(one, len(order)))
        right = not away or min(away.values()) > order.index(netns)
        box = Box(hop, ports, inner, slots[netns], right, x)
        box.width = _width(box)
        found.append(box)
        x += box.width + _BETWEEN
    return found


def _ordered(places: list[str], wires: list[tuple[Chip, Chip]]) -> list[str]:
    """So that wires are short; as packets came to them where that is equal."""
    if len(places) > _MOST:
        return places

    def length(order: tuple[str, ...]) -> int:
        at = {netns: number for number, netns in enumerate(order)}
        return sum(abs(at[one] - at[other]) for (one, _), (other, _) in wires)

    best: tuple[str, ...] = min(permutations(places), key=length)
    return list(best)


def _is_inner(hop: Hop, away: dict[str, int]) -> bool:
    return bool(away) and hop.role != "pod"


def _away(netns: str, wires: list[tuple[Chip, Chip]], order: list[str]) -> dict[str, int]:
    """The links that lead to other boxes, and to the how manieth."""
    found = {}
    for one, other in wires:
        for (here, link), (there, _) in ((one, other), (other, one)):
            if here == netns:
                found[link] = order.index(there)
    return found


def _width(box: Box) -> float:
    rows = (
        len(_title(box.hop)) * _LETTER + 10,
        box.slots * _SLOT + 16,
        sum(_chip_width(one) + _GAP for one in box.ports),
        sum(_chip_width(one) + len(one) * _LETTER + 2 * _GAP for one in box.inner) + 30,
        96.0,
    )
    return max(rows) + 2 * _SLACK


def _chip_width(link: str) -> float:
    return max(len(link) * _LETTER + 14, 52)


def _title(hop: Hop) -> str:
    return f"{_ROLES[hop.role]} {hop.name.removeprefix('default/')}".strip()


def _in_kernel(step: Step) -> bool:
    """Whether it is no link's, but decided inside."""
    return step.kind not in _ELSEWHERE


def _wires(trace: Trace) -> list[tuple[Chip, Chip]]:
    """Which links are each other's ends: what is left by one and entered by the other."""
    found: dict[frozenset[Chip], tuple[Chip, Chip]] = {}
    for leg in trace.legs:
        for one, other in pairwise(leg.hops):
            last = next((step.link for step in reversed(one.steps) if step.link), None)
            first = next((step.link for step in other.steps if step.link), None)
            if last and first and one.netns != other.netns:
                ends = (one.netns, last), (other.netns, first)
                found.setdefault(frozenset(ends), ends)
    return list(found.values())


def _leaves(trace: Trace) -> bool:
    steps = [step for leg in trace.legs for hop in leg.hops for step in hop.steps]
    came = any(leg.hops and not _begins(leg.hops[0], 0) for leg in trace.legs)
    return came or any(step.kind == "left" for step in steps)


def _index(boxes: list[Box], netns: str) -> int:
    return next(number for number, one in enumerate(boxes) if one.hop.netns == netns)


def _placed(boxes: list[Box]) -> dict[Chip, tuple[float, float, float]]:
    """The middle and the width of each link: on the side of the box that it leads to."""
    found = {}
    for box in boxes:
        for row, y in ((box.inner, _INNER), (box.ports, _PORTS)):
            widths = [_chip_width(one) for one in row]
            widths = [52.0 if row is box.inner else one for one in widths]
            room = box.width - 2 * _SLACK - sum(widths)
            gap = room / (len(row) - 1) if len(row) > 1 else 0.0
            alone = room / 2 if row is box.inner else room if box.right else 0.0
            x = box.x + _SLACK + (alone if len(row) == 1 else 0.0)
            for link, width in zip(row, widths, strict=True):
                found[box.hop.netns, link] = x + width / 2, y + _HIGH / 2, width
                x += width + gap
    return found


def _box(box: Box, links: dict[Chip, tuple[float, float, float]]) -> str:
    hop, middle = box.hop, box.x + box.width / 2
    parts = [
        f'<rect class="box {hop.role}" x="{box.x:.0f}" y="4" width="{box.width:.0f}" '
        f'height="{_BOTTOM - 8}" rx="9"/>'
        f'<text class="name" x="{middle:.0f}" y="25">{escape(_title(hop))}</text>'
    ]
    if box.slots:
        parts.append(
            f'<rect class="kernel" x="{box.x + _SLACK:.0f}" y="{_KERNEL}" '
            f'width="{box.width - 2 * _SLACK:.0f}" height="36" rx="6"/>'
            f'<text class="role" x="{box.x + _SLACK + 4:.0f}" y="{_KERNEL - 4}">'
            f"{_INSIDE[hop.role]}</text>"
        )
    for link in (*box.inner, *box.ports):
        x, y, width = links[hop.netns, link]
        # The name is where lines seldom are: of a bridge beside it, of a port below.
        side, left, low = "", x, y + _HIGH / 2 + 14
        if link in box.inner:
            side, left, low = " after", x + width / 2 + 5, y + 4
            if left + len(link) * _LETTER > box.x + box.width:
                side, left = " before", x - width / 2 - 5
        parts.append(
            f'<rect class="link" x="{x - width / 2:.0f}" y="{y - _HIGH / 2:.0f}" '
            f'width="{width:.0f}" height="{_HIGH}" rx="5"/>'
            f'<text class="device{side}" x="{left:.0f}" y="{low:.0f}">'
            f"{escape(link)}</text>"
        )
    return "".join(parts)


def _wire(
    ends: tuple[Chip, Chip], links: dict[Chip, tuple[float, float, float]], boxes: list[Box]
) -> str:
    one, other = sorted(ends, key=lambda end: links[end][0])
    (x, y, width), (x2, y2, width2) = links[one], links[other]
    if abs(_index(boxes, one[0]) - _index(boxes, other[0])) == 1:
        path = f"M{x + width / 2:.0f} {y:.0f}H{x2 - width2 / 2:.0f}"
    else:
        low = _BOTTOM + _BELOW - 16
        path = f"M{x:.0f} {y + _HIGH / 2:.0f}V{low}H{x2:.0f}V{y2 + _HIGH / 2:.0f}"
    return f'<path class="wire" d="{path}"/>'


def _spots(
    trace: Trace, number: int, boxes: list[Box], links: dict[Chip, tuple[float, float, float]]
) -> Iterator[Spot]:
    """Where a leg's packet is, step by step; no two times at quite the same place."""
    leg = trace.legs[number]
    passed = _passes(trace.legs[:number])
    total = _passes(trace.legs)

    def at(netns: str, link: str | None) -> tuple[float, float]:
        key = (netns, link or "")
        index, count = passed.get(key, 0), max(total.get(key, 1), 1)
        passed[key] = index + 1
        if link is None:
            box = boxes[_index(boxes, netns)]
            start = box.x + box.width / 2 - (count - 1) * _SLOT / 2
            return start + index * _SLOT, _KERNEL + 18.0
        x, y, width = links[netns, link]
        middle = index - (count - 1) / 2
        return x + middle * min(12.0, (width - 16) / count), y + middle * min(7.0, 16 / count)

    for index, hop in enumerate(leg.hops):
        if _begins(hop, index):
            yield Spot(*at(hop.netns, None), hop.netns, None, "")
        elif index == 0 and hop.netns == boxes[-1].hop.netns and hop.steps[0].link:
            y = links[hop.netns, hop.steps[0].link][1]
            yield Spot(_beyond(boxes), y + _HIGH / 4, hop.netns, None, _FROM_BEYOND)
        for place, step in enumerate(hop.steps):
            link = None if _in_kernel(step) or step.link is None else step.link
            x, y = at(hop.netns, link)
            if step.kind == "left" and hop.netns == boxes[-1].hop.netns:
                x = _beyond(boxes)
            yield Spot(x, y, hop.netns, step, f"{number}-{index}-{place}")
            if step.kind == "route" and step.link is not None:
                yield Spot(*at(hop.netns, step.link), hop.netns, None, "")


def _begins(hop: Hop, index: int) -> bool:
    """Whether the packet was made there; what is received first came from where nobody looked."""
    return index == 0 and not (hop.steps and hop.steps[0].kind == "received")


def _beyond(boxes: list[Box]) -> float:
    """Right of all boxes, where other machines are."""
    return boxes[-1].x + boxes[-1].width + _BETWEEN / 2


def _passes(legs: Iterable[Leg]) -> dict[tuple[str, str], int]:
    """How often each link, or kernel (""), is passed."""
    found: dict[tuple[str, str], int] = {}
    for leg in legs:
        for index, hop in enumerate(leg.hops):
            places = [""] * _begins(hop, index)
            for step in hop.steps:
                places.append("" if _in_kernel(step) else step.link or "")
                if step.kind == "route" and step.link is not None:
                    places.append(step.link)
            for place in places:
                found[hop.netns, place] = found.get((hop.netns, place), 0) + 1
    return found


def _way(leg: Leg, spots: list[Spot], told: dict[tuple[int, int, int], int]) -> str:
    """A line by all spots, an arrow on each wire, and the spots themselves."""
    line = " ".join(f"{one.x:.1f},{one.y:.1f}" for one in spots)
    parts = [f'<polyline class="way {leg.name}" points="{line}"/>']
    for one, other in pairwise(spots):
        left = other.step is not None and other.step.kind == "left"
        if one.netns != other.netns or left or one.id == _FROM_BEYOND:
            parts.append(_arrow(one, other, leg))
    last = spots[-1]
    for one in spots:
        parts.append(_spot(one, told, end=one is last and not leg.arrived))
    return f'<g class="leg {leg.name}">{"".join(parts)}</g>'


def _arrow(one: Spot, other: Spot, leg: Leg) -> str:
    from math import atan2, degrees

    x, y = one.x + 0.58 * (other.x - one.x), one.y + 0.58 * (other.y - one.y)
    turn = degrees(atan2(other.y - one.y, other.x - one.x))
    return (
        f'<path class="tip {leg.name}" d="M-6 -5L6 0L-6 5z" '
        f'transform="translate({x:.1f} {y:.1f}) rotate({turn:.0f})"/>'
    )


def _spot(spot: Spot, told: dict[tuple[int, int, int], int], *, end: bool) -> str:
    if spot.step is None:
        return f'<circle class="start" cx="{spot.x:.1f}" cy="{spot.y:.1f}" r="4"/>'
    leg, hop, step = map(int, spot.id.split("-"))
    number = told.get((leg, hop, step))
    x, y = f"{spot.x:.1f}", f"{spot.y:.1f}"
    if end:
        shape = f'<path class="end" d="M-7 -7L7 7M7 -7L-7 7" transform="translate({x} {y})"/>'
    elif number is None:
        shape = f'<circle class="spot" cx="{x}" cy="{y}" r="4"/>'
    else:
        shape = (
            f'<circle class="spot numbered" cx="{x}" cy="{y}" r="9.5"/>'
            f'<text class="number" x="{x}" y="{spot.y + 4:.1f}">{number}</text>'
        )
    words = escape(spot.step.says)
    return (
        f'<a href="#hop-{leg}-{hop}" data-step="{spot.id}" data-x="{x}" data-y="{y}" '
        f'tabindex="-1"><title>{words}</title>{shape}</a>'
    )
