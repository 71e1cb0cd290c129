"""A packet's sightings as hops and steps: what each namespace decided between two of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise

import msgspec

from hairpin.trace import places
from hairpin.trace.follow import Flight, Sight
from hairpin.trace.guide import Guide
from hairpin.trace.hooked import Pass
from hairpin.trace.observation import Observation, Place
from hairpin.trace.rewriting import rewritten, told
from hairpin.trace.values import Ends, Hop, Step, StepKind


def departed(flight: Flight, found: Observation) -> bool:
    """Whether it was last seen going out to where nobody looked: to another machine."""
    last = flight.last.seen
    place = found.place(last.netns)
    link = places.link_of(place, last.link) if place is not None else None
    if not found.partial or link is None or last.way != "out":
        return False
    if link.type in ("bridge", "dummy") or link.name == "lo":
        return False
    away = link.peer_netns is not None and found.place(link.peer_netns) is None
    return link.peer is None or away


def hops(flight: Flight, guide: Guide) -> tuple[Hop, ...]:
    """The way of a packet, namespace by namespace."""
    found = []
    for netns, group in groupby(flight.sights, key=lambda one: one.seen.netns):
        some = list(group)
        place = guide.place(netns)
        steps = tuple(_steps(some, place, guide, flight, last=some[-1] is flight.last))
        found.append(Hop(netns=netns, role=place.role, name=place.name, steps=steps))
    return tuple(found)


def hooked_only(guide: Guide) -> tuple[Hop, str] | None:
    """A request that no link saw: what hooks of its own namespace told of it, and what it is."""
    passes = [one for one in guide.hooked.passes if one.direction == "request"]
    if not passes:
        return None
    first = passes[0]
    mine = [one for one in passes if one.packet.key == first.packet.key]
    place = guide.place(first.passage.netns)
    steps = tuple(told(mine, first.ends, None, place, guide, "request", None))
    hop = Hop(netns=place.netns, role=place.role, name=place.name, steps=steps)
    return hop, first.packet.says


def _steps(
    some: list[Sight], place: Place, guide: Guide, flight: Flight, *, last: bool
) -> Iterator[Step]:
    first = some[0]
    waiting = guide.hooked.of(flight, place.netns)
    if first.seen.way == "out" and first is flight.first:
        yield from _before_sent(first, place, guide, flight, waiting)
        waiting = []
    way = "received" if first.seen.way == "in" else "sent"
    to = first.packet.ends.destination
    own = places.is_local(place, to)  # by the table "local", whatever the others say
    route = places.route_to(place, to) if way == "sent" and not own else None
    yield Step(
        kind="received" if way == "received" else "sent",
        says=f"{way} on {first.seen.link}",
        link=first.seen.link,
        by=places.said_route(route) if route and first is flight.first else None,
        after=first.packet.ends,
        before=first.packet.ends,
        at=guide.when(first),
        seen="capture",
    )
    for one, other in pairwise(some):
        mine, waiting = _due(waiting, one, other)
        yield from _between(one, other, place, guide, flight, mine)
    end, ends = some[-1], some[-1].packet.ends
    when = guide.when(end)
    if waiting:
        yield from told(waiting, ends, None, place, guide, flight.direction, when)
        ends = waiting[-1].ends
    if last and end.seen.way == "in" and flight.direction == "reply":
        asked = _asked(place, guide)
        if asked is not None and asked.reversed != ends and guide.found.tried.outcome == "answered":
            yield from rewritten(ends, asked.reversed, place, guide, "reply", when)
        back = None if asked is not None else _put_back(ends, place)
        if back is not None and back != ends:
            yield from rewritten(ends, back, place, guide, "reply", when)
    final = some[-1]
    if last and departed(flight, guide.found):
        says = f"left {places.title(place)} by {final.seen.link}; what is beyond is not seen"
        yield Step(
            kind="left", says=says, link=final.seen.link, at=guide.when(final), seen="capture"
        )
    if last and final.seen.way == "in" and places.is_local(place, final.packet.ends.destination):
        asking = place.netns == guide.found.tried.netns
        if place.role != "node" if flight.direction == "request" else asking:
            yield Step(
                kind="deliver",
                says=f"for {final.packet.ends.destination}, which is {places.title(place)}'s own",
                link=final.seen.link,
                at=guide.when(final),
            )


def _due(waiting: list[Pass], one: Sight, other: Sight) -> tuple[list[Pass], list[Pass]]:
    """Of the chains that a packet passed, those that it passed between two sightings; the rest.

    What goes out has passed all.  What only comes up from a port to its bridge has passed those
    that its new ends are due to.
    """
    if other.seen.way == "out":
        return waiting, []
    if one.packet.ends == other.packet.ends:
        return [], waiting
    count = next(
        (at for at, each in enumerate(waiting) if each.ends == other.packet.ends), len(waiting)
    )
    return waiting[:count], waiting[count:]


def _before_sent(
    first: Sight, place: Place, guide: Guide, flight: Flight, passes: list[Pass]
) -> Iterator[Step]:
    """What a namespace did to its own packet before any link saw it."""
    ends = first.packet.ends
    if passes:
        start = passes[0].ends
        yield from told(passes, start, ends, place, guide, flight.direction, None)
        return
    asked = _asked(place, guide)
    if flight.direction == "request" and asked is not None and asked != ends:
        yield from rewritten(asked, ends, place, guide, "request", None, own=True)


def _put_back(ends: Ends, place: Place) -> Ends | None:
    """What conntrack makes of an answer's destination as it comes in: the first client's.

    A bridge may hand such a packet on, or drop it, before any link or rule shows it again.
    """
    for flow in place.after.flows:
        back = flow.reply
        if Ends(back.source, back.source_port, back.destination, back.destination_port) == ends:
            return msgspec.structs.replace(
                ends,
                destination=flow.original.source,
                destination_port=flow.original.source_port,
            )
    return None


def _asked(place: Place, guide: Guide) -> Ends | None:
    """What the client's socket has as its ends; None in all other namespaces."""
    tried = guide.found.tried
    if place.netns != tried.netns or tried.source is None:
        return None
    port = tried.port if tried.source_port else 0
    return Ends(tried.source, tried.source_port, tried.ip, port)


def _between(
    one: Sight, other: Sight, place: Place, guide: Guide, flight: Flight, passes: list[Pass]
) -> Iterator[Step]:
    """What was decided between two sightings in one namespace."""
    when = guide.when(other)
    before, after = one.packet.ends, other.packet.ends
    if passes:
        yield from told(passes, before, after, place, guide, flight.direction, when)
    elif before != after:
        yield from rewritten(before, after, place, guide, flight.direction, when)
    yield _on_link(one, other, place, when)


def _on_link(one: Sight, other: Sight, place: Place, when: float) -> Step:
    """How it came from one sighting to the next: by a bridge, a tunnel, a route."""
    here, there = one.seen.link, other.seen.link
    master = places.segment(place, here)

    def seen(kind: StepKind, says: str) -> Step:
        return Step(kind=kind, says=says, link=there, at=when, seen="capture")

    if one.packet.tunnel is None and other.packet.tunnel is not None:
        outer = other.packet.tunnel
        ends = f"from {outer.source} to {outer.destination}"
        return seen("tunnel", f"wrapped as VXLAN {ends}, sent on {there}")
    if one.packet.tunnel is not None and other.packet.tunnel is None:
        return seen("tunnel", f"unwrapped from VXLAN, by {there}")
    if other.seen.way == "out" and there == master != here:
        return seen("bridge", f"handed to the bridge {there}")
    if other.seen.way == "in":
        if there == master != here:
            who = "the node" if place.role == "node" else "it"
            return seen("bridge", f"up from the bridge {there} to {who}")
        return seen("received", f"received on {there}")
    if one.seen.way == "out":
        if places.segment(place, there) == here:
            return seen("bridge", f"out by the bridge's port {there}")
        return seen("bridge", f"sent on {there}")
    if (
        here != there
        and master == places.segment(place, there)
        and one.packet.ttl == other.packet.ttl
    ):
        return seen("bridge", f"bridged to port {there}")
    if here == there and master != here:
        return seen("bridge", f"bridged back out of {there}, where it came in")
    route = places.route_to(place, other.packet.ends.destination)
    by = places.said_route(route) if route else None
    return Step(kind="route", says=f"routed out by {there}", link=there, by=by, at=when)
