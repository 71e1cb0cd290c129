"""A packet's sightings as hops and steps: what each namespace decided between two of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise

import msgspec

from hairpin.state.change import Wanted
from hairpin.state.ipvs import VirtualServerSeen
from hairpin.trace import places
from hairpin.trace.follow import Flight, Sight
from hairpin.trace.observation import Observation, Place
from hairpin.trace.provenance import dnat_by
from hairpin.trace.rules import SavedRule, could_match, counted
from hairpin.trace.values import Ends, Hop, Step, at

_KINDS = {4: "ip", 6: "ip6"}


class Guide:
    """What is known of all the namespaces, for telling one packet's way."""

    def __init__(self, found: Observation, forms: frozenset[Ends], begin: float) -> None:
        self.found = found
        self.forms = forms
        self.begin = begin
        self._wanted = {(one.netns, one.object.key): one for one in found.wanted}
        self._counted: dict[str, list[SavedRule]] = {}

    def place(self, netns: str) -> Place:
        """The namespace, or one that nothing is known of."""
        known = self.found.place(netns)
        return known or Place(netns=netns, role="other", name=netns)

    def rules(self, place: Place) -> list[SavedRule]:
        """The rules that counted packets meanwhile and may have matched the connection's."""
        if place.netns not in self._counted:
            some: list[SavedRule] = []
            for name, family in (("iptables", "ip"), ("ip6tables", "ip6")):
                old = place.before.texts.get(name, "")
                new = place.after.texts.get(name, "")
                if new and _KINDS[self.found.tried.ip.version] == family:
                    some += counted(old, new, family)
            self._counted[place.netns] = [
                one for one in some if could_match(one, self.forms, self.found.tried.protocol)
            ]
        return self._counted[place.netns]

    def wanted(self, netns: str, key: tuple[object, ...]) -> Wanted | None:
        """Who asked for a kernel object."""
        return self._wanted.get((netns, key))

    def when(self, sight: Sight) -> float:
        """Seconds since the first packet."""
        return round(sight.seen.at - self.begin, 6)


def hops(flight: Flight, guide: Guide) -> tuple[Hop, ...]:
    """The way of a packet, namespace by namespace."""
    found = []
    for netns, group in groupby(flight.sights, key=lambda one: one.seen.netns):
        some = list(group)
        place = guide.place(netns)
        steps = tuple(_steps(some, place, guide, flight, last=some[-1] is flight.last))
        found.append(Hop(netns=netns, role=place.role, name=place.name, steps=steps))
    return tuple(found)


def _steps(
    some: list[Sight], place: Place, guide: Guide, flight: Flight, *, last: bool
) -> Iterator[Step]:
    first = some[0]
    way = "received" if first.seen.way == "in" else "sent"
    if way == "sent" and first is flight.first and flight.direction == "request":
        yield from _before_sent(first, place, guide)
    yield Step(
        kind="received" if way == "received" else "sent",
        says=("received on " if way == "received" else "sent on ") + first.seen.link,
        link=first.seen.link,
        after=first.packet.ends,
        before=first.packet.ends,
        at=guide.when(first),
    )
    for one, other in pairwise(some):
        yield from _between(one, other, place, guide, flight)
    final = some[-1]
    if last and final.seen.way == "in" and places.is_local(place, final.packet.ends.destination):
        own = place.role != "node" or flight.direction != "request"
        if own:
            yield Step(
                kind="deliver",
                says=f"for {final.packet.ends.destination}, which is {places.title(place)}'s own",
                link=final.seen.link,
                at=guide.when(final),
            )


def _before_sent(first: Sight, place: Place, guide: Guide) -> Iterator[Step]:
    """What a node did to its own packet before any link saw it."""
    tried = guide.found.tried
    asked = Ends(
        tried.source or first.packet.ends.source, tried.source_port, tried.ip,
        tried.port if tried.source_port else 0,
    )  # fmt: skip
    if place.netns == tried.netns and asked != first.packet.ends:
        yield from rewritten(asked, first.packet.ends, place, guide, "request", None, own=True)


def _between(
    one: Sight, other: Sight, place: Place, guide: Guide, flight: Flight
) -> Iterator[Step]:
    """What was decided between two sightings in one namespace."""
    when = guide.when(other)
    before, after = one.packet.ends, other.packet.ends
    here, there = one.seen.link, other.seen.link
    if before != after:
        yield from rewritten(before, after, place, guide, flight.direction, when)
    master = places.segment(place, here)
    if one.packet.tunnel is None and other.packet.tunnel is not None:
        outer = other.packet.tunnel
        says = f"wrapped as VXLAN from {outer.source} to {outer.destination}, sent on {there}"
        yield Step(kind="tunnel", says=says, link=there, at=when)
        return
    if one.packet.tunnel is not None and other.packet.tunnel is None:
        yield Step(kind="tunnel", says=f"unwrapped from VXLAN, by {there}", link=there, at=when)
        return
    if other.seen.way == "out" and there == master != here:
        yield Step(kind="bridge", says=f"handed to the bridge {there}", link=there, at=when)
        return
    if other.seen.way == "in":
        if there == master != here:
            says = f"up from the bridge {there} to {'the node' if place.role == 'node' else 'it'}"
            yield Step(kind="bridge", says=says, link=there, at=when)
        else:
            yield Step(kind="received", says=f"received on {there}", link=there, at=when)
        return
    if one.seen.way == "out":
        says = f"out by the bridge's port {there}" if places.segment(place, there) == here else (
            f"sent on {there}")  # fmt: skip
        yield Step(kind="bridge", says=says, link=there, at=when)
        return
    if (
        here != there
        and master == places.segment(place, there)
        and one.packet.ttl == other.packet.ttl
    ):
        back = " (back by the port it came from)" if here == there else ""
        yield Step(kind="bridge", says=f"bridged to port {there}{back}", link=there, at=when)
        return
    if here == there and master != here:
        says = f"bridged back out of {there}, where it came in"
        yield Step(kind="bridge", says=says, link=there, at=when)
        return
    route = places.route_to(place, after.destination)
    by = places.said_route(route) if route else None
    yield Step(kind="route", says=f"routed out by {there}", link=there, by=by, at=when)


def rewritten(
    before: Ends,
    after: Ends,
    place: Place,
    guide: Guide,
    direction: str,
    when: float | None,
    *,
    own: bool = False,
) -> Iterator[Step]:
    """The steps that made of one packet's ends the other; destination first, as the kernel does."""
    middle = msgspec.structs.replace(
        before, destination=after.destination, destination_port=after.destination_port
    )
    if direction != "request":
        yield _back(before, after, place, when)
        return
    if middle != before:
        server = places.server_of(
            place, guide.found.tried.protocol, before.destination, before.destination_port
        )
        if server is not None:
            yield _by_ipvs(server, before, middle, place, guide, when, own)
        else:
            yield _by_dnat(before, middle, place, guide, when)
    if middle != after:
        rules = [one for one in guide.rules(place) if one.target in ("MASQUERADE", "SNAT")]
        rule = rules[0] if rules else None
        target = rule.target if rule else "masquerading"
        yield Step(
            kind="nat",
            says=f"{target}: the source becomes {at(after.source, after.source_port)}",
            hook="POSTROUTING",
            before=middle,
            after=after,
            by=rule.command if rule else None,
            at=when,
        )


def _by_dnat(before: Ends, after: Ends, place: Place, guide: Guide, when: float | None) -> Step:
    to = at(after.destination, after.destination_port)
    known = dnat_by(guide.found.wanted, place.netns, after.destination, after.destination_port)
    return Step(
        kind="nat",
        says=f"DNAT to {to}",
        hook="PREROUTING" if when is not None else "OUTPUT",
        before=before,
        after=after,
        by=known[0] if known else None,
        owner=known[1].owner if known else None,
        why=known[1].why if known else None,
        at=when,
    )


def _by_ipvs(
    server: VirtualServerSeen,
    before: Ends,
    after: Ends,
    place: Place,
    guide: Guide,
    when: float | None,
    own: bool,
) -> Step:
    one = server.server
    wanted = guide.wanted(place.netns, one.key)
    chosen = at(after.destination, after.destination_port)
    count = sum(1 for real in server.real_servers if real.server.weight)
    return Step(
        kind="ipvs",
        says=f"IPVS sends it to {chosen}, one of {count}"
        if count != 1
        else f"IPVS sends it to {chosen}, the only real server",
        hook="LOCAL_OUT" if own else "LOCAL_IN",
        before=before,
        after=after,
        by=f"virtual server {one.protocol} {at(one.ip, one.port)} {one.scheduler}",
        owner=wanted.owner if wanted else None,
        why=wanted.why if wanted else None,
        at=when,
    )


def _back(before: Ends, after: Ends, place: Place, when: float | None) -> Step:
    """An answer gets the addresses that the client expects."""
    said = []
    if (before.source, before.source_port) != (after.source, after.source_port):
        who = "IPVS" if place.servers else "conntrack"
        said.append(f"{who} puts {at(after.source, after.source_port)} back as its source")
    if (before.destination, before.destination_port) != (after.destination, after.destination_port):
        back = at(after.destination, after.destination_port)
        said.append(f"conntrack puts {back} back as its destination")
    return Step(kind="nat", says=", ".join(said), before=before, after=after, at=when)
