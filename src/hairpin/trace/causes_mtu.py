"""Causes in the size of packets."""

from __future__ import annotations

from hairpin.model.address import IP
from hairpin.state.links import Link
from hairpin.trace import places
from hairpin.trace.case import Case, by_hand, cause, forms
from hairpin.trace.observation import Place
from hairpin.trace.values import Cause


def mtu(case: Case) -> Cause | None:
    """A packet was larger than what a link on its way carries."""
    flight = case.flight
    if flight is None:
        return None
    size = max(one.packet.length for one in flight.sights)
    asked = [one.last.packet.mtu for one in case.followed.of("error") if one.last.packet.mtu]
    if case.leg != "data" and not asked:
        return None
    usual = max(
        (link.mtu or 0 for place in case.found.places for link in place.links
         if link.type == "veth"), default=1500,
    )  # fmt: skip
    on_way = {one.seen.netns for one in flight.sights} | {case.client.netns}
    ends = {form.destination for form in forms(case)} | {form.source for form in forms(case)}
    some: list[tuple[int, Place, str]] = []
    for place in case.found.places:
        if place.netns not in on_way and not any(one.ip in ends for one in place.addresses):
            continue
        for link in place.links:
            # A packet may be larger than all links: it is cut into pieces on leaving (GSO).
            small = link.mtu is not None and link.mtu < min(size, usual)
            if not small or link.type not in ("veth", "bridge", "vxlan") or not link.up:
                continue
            if link.type == "bridge" and any(
                port.mtu == link.mtu for port in place.links if port.master == link.name
            ):
                continue  # a bridge has the smallest of its ports' by itself
            if link.master is not None and not _crossed(case, place, link, ends):
                continue
            some.append((link.mtu or 0, place, link.name))
    if not some:
        return None
    least, place, name = min(some, key=lambda one: one[0])
    return _small(case, place, name, least, size, usual)


def _crossed(case: Case, place: Place, link: Link, ends: set[IP]) -> bool:
    """Whether the connection goes by that port of a bridge: seen there, or to one of its ends."""
    if any(
        (one.seen.netns, one.seen.link) == (place.netns, link.name)
        for flight in case.followed.flights
        for one in flight.sights
    ):
        return True
    peer = case.found.place(link.peer_netns or "")
    return peer is None or peer.role != "pod" or any(own.ip in ends for own in peer.addresses)


def _small(case: Case, place: Place, link: str, small: int, size: int, usual: int) -> Cause:
    tunnel = places.link_of(place, link)
    if tunnel is not None and tunnel.type == "vxlan" and case.client.role == "pod":
        # What carries the tunnel has its limit too: a Pod's packets have to be smaller.
        own = places.address_link(case.client, case.tried.source) if case.tried.source else None
        where = case.node_of(case.client) or place
        shell = f"ip -n {case.client.netns} link set {own or 'eth0'} mtu {small}"
    elif place.role == "pod":
        where = case.node_of(place) or place
        shell = f"ip -n {place.netns} link set {link} mtu {usual}"
    else:
        where, shell = place, f"ip link set {link} mtu {usual}"
    return cause(
        "mtu-too-small",
        f"{link} of {places.title(place)} carries packets of at most {small} bytes, and the ends "
        f"of the connection send up to {usual}: large ones are lost, and small ones, as those that "
        "open a connection, get through",
        by_hand(where, shell),
        f"{link}: mtu {small}; packet of {size} bytes",
        of=link,
    )
