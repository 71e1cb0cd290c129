"""What a namespace would do with a packet, by what it holds: addresses, routes, links, servers."""

from __future__ import annotations

from collections.abc import Iterable

from hairpin.model.address import IP
from hairpin.state.ipvs import VirtualServerSeen
from hairpin.state.links import Link, Route
from hairpin.trace.observation import Place


def title(place: Place) -> str:
    """``Pod default/foo``, ``node n1``, ``outside``."""
    match place.role:
        case "pod":
            return f"Pod {place.name.removeprefix('default/')}"
        case "node":
            return f"node {place.name}"
        case "outside":
            return "outside"
    return f"namespace {place.name}"


def is_local(place: Place, address: IP) -> bool:
    """Whether packets for the address stay there."""
    if address.is_loopback:
        return True
    return any(one.ip == address for one in place.addresses)


def holder(places: Iterable[Place], address: IP) -> Place | None:
    """The namespace that has the address on a link, a Pod's before others'."""
    found = [one for one in places if any(own.ip == address for own in one.addresses)]
    return next((one for one in found if one.role == "pod"), found[0] if found else None)


def link_of(place: Place, name: str | None) -> Link | None:
    """The link of that name."""
    return next((one for one in place.links if one.name == name), None)


def address_link(place: Place, address: IP) -> str | None:
    """The link that has the address."""
    return next((one.link for one in place.addresses if one.ip == address), None)


def route_to(place: Place, address: IP) -> Route | None:
    """The route of the main table that is taken, None where there is none.

    The longest prefix; routes of links that are down are none.
    """
    up = {link.name for link in place.links if link.up}
    fitting = [
        one
        for one in place.routes
        if one.to.version == address.version
        and address in one.to
        and (one.link is None or one.link in up)
    ]
    return max(fitting, key=lambda one: one.to.prefixlen, default=None)


def said_route(route: Route) -> str:
    """As ``ip route`` prints it."""
    words = ["default" if route.to.prefixlen == 0 else str(route.to)]
    if route.via is not None:
        words += ["via", str(route.via)]
    if route.link is not None:
        words += ["dev", route.link]
    return " ".join(words)


def server_of(place: Place, protocol: str, address: IP, port: int) -> VirtualServerSeen | None:
    """The virtual server for those packets."""
    return next(
        (
            one
            for one in place.servers
            if one.server.protocol == protocol
            and one.server.ip == address
            and one.server.port == port
        ),
        None,
    )


def segment(place: Place, link: str) -> str:
    """The link as the routes of the node see it: of a bridge's port that is the bridge."""
    found = link_of(place, link)
    return found.master if found is not None and found.master else link
