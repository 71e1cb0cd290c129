"""Causes in finding the next hop's hardware address: nobody answers, or nobody could."""

from __future__ import annotations

from collections.abc import Iterator

from hairpin.model.address import IP
from hairpin.source.ranges import said_cidrs
from hairpin.state.links import Link, Route
from hairpin.trace import places
from hairpin.trace.case import Case, by_hand, cause, forms
from hairpin.trace.causes_client import gateway_of
from hairpin.trace.observation import Place
from hairpin.trace.questions import unanswered
from hairpin.trace.values import Cause, Mend


def next_hop_silent(case: Case) -> Cause | None:
    """Somebody asked for a hardware address on the packet's way, and nobody answered."""
    for one in unanswered(case):
        place, target = one.place, one.target
        if one.route.via is None:
            found = _beyond_the_link(case, place, target, one.route)
            if found is not None:
                return found
        found = _told_to_ignore(case, target)
        if found is not None:
            return found
        gone = places.holder(case.found.places, target) is None
        return cause(
            "next-hop-silent",
            f"{places.title(place)} asks who has {target}, and nobody answers"
            + (": no namespace of this lab has that address" if gone else ""),
            Mend(),
            f"ARP for {target} on {one.asking.seen.link}, no answer",
            of=str(target),
        )
    return None


def _told_to_ignore(case: Case, target: IP) -> Cause | None:
    """Who has the address is told to answer no questions for it (arp_ignore, or arp off)."""
    holder = places.holder(case.found.places, target)
    if holder is None or holder.around is None or target.version == 6:
        return None
    link = places.address_link(holder, target)
    if link in holder.around.no_arp:
        return cause(
            "arp-off",
            f"{link} of {places.title(holder)} answers no questions for its hardware address, and "
            "asks none (arp off)",
            by_hand(holder, f"ip link set {link} arp on"),
            f"{link}: NOARP",
            of=link or "",
        )
    for one in (link, "all"):
        name = f"net.ipv4.conf.{one}.arp_ignore"
        if holder.around.settings.get(name) == "8":
            return cause(
                "arp-ignored",
                f"{places.title(holder)} has {target} and answers no ARP question for it: {name} "
                "is 8",
                by_hand(holder, f"sysctl -w {name}=0"),
                f"{name} = 8",
                of=name,
            )
    return None


def _beyond_the_link(case: Case, place: Place, target: IP, route: Route) -> Cause | None:
    """A Pod takes a Service, or a Pod of another node, for a neighbour."""
    node = case.node_of(place)
    gateway = gateway_of(case, place, target)
    holder = places.holder(case.found.places, target)
    if place.role != "pod" or node is None or gateway is None:
        return None
    service = case.target is not None and target in case.target.service.virtual_ips
    if not service and (holder is None or case.node_of(holder) is node):
        return None
    what = "a Service's address" if service else "on another node"
    said = places.said_route(route)
    option = "-6 " if target.version == 6 else ""
    own = any(one.ip in route.to and one.link == route.link for one in place.addresses)
    shell = f"ip {option}-n {place.netns} route del {said}"
    if own:  # it follows from the address: a narrower one wins
        cidr = next(
            (cidr for other in case.snapshot.nodes.values() for cidr in said_cidrs(other)
             if target in cidr), f"{target}/{target.max_prefixlen}",
        )  # fmt: skip
        shell = f"ip {option}-n {place.netns} route add {cidr} via {gateway}"
    return cause(
        "wrong-prefix",
        f"{places.title(place)} takes {target} for a neighbour on {route.link} ({said}), and it is "
        f"{what}: it is reached by the gateway {gateway} alone",
        by_hand(node, shell),
        f"{place.netns}: {said}; ARP for {target} on {route.link}, no answer",
        of=said,
    )


def duplicate_mac(case: Case) -> Cause | None:
    """Two links of one bridge have the same hardware address, and one is an end's."""
    ends = {end for form in forms(case) for end in (form.source, form.destination)}
    ends.add(case.tried.ip)
    holders = [places.holder(case.found.places, end) for end in ends]
    concerned = {case.client.netns, *(one.netns for one in holders if one is not None)}
    for place in case.found.places:
        for bridge in (one for one in place.links if one.type == "bridge"):
            seen = {bridge.mac: (place, bridge.name)}
            for far, link in _behind(case, place, bridge.name):
                other = seen.setdefault(link.mac, (far, link.name))
                if other[0] is not far and {far.netns, other[0].netns} & concerned:
                    return _same_mac(place, bridge.name, (far, link.name), other, link.mac or "")
    return None


def _behind(case: Case, place: Place, bridge: str) -> Iterator[tuple[Place, Link]]:
    """The links at the other ends of a bridge's ports."""
    for port in place.links:
        far = case.found.place(port.peer_netns or "") if port.master == bridge else None
        link = places.link_of(far, port.peer) if far is not None else None
        if far is not None and link is not None and link.mac:
            yield far, link


def _same_mac(
    place: Place, bridge: str, one: tuple[Place, str], two: tuple[Place, str], mac: str
) -> Cause:
    """Mended at the one whose address is not made of its IP address, as CNI plug-ins make it."""
    both = sorted((one, two), key=lambda some: _mac_for(*some) == mac)
    wrong, link = both[0]
    new, mend = _mac_for(wrong, link), Mend()
    if new and new != mac:
        inside = f"-n {wrong.netns} " if wrong.netns != place.netns else ""
        shell = f"ip {inside}link set {link} address {new}; ip neigh flush dev {bridge}"
        other = both[1][0]
        if other.netns != place.netns:
            shell += f"; ip -n {other.netns} neigh flush dev {both[1][1]}"
        mend = by_hand(place, shell)
    who = " and ".join(places.title(some) for some, _ in both)
    return cause(
        "duplicate-mac",
        f"{who}, both on {bridge} of {places.title(place)}, have the same hardware address {mac}: "
        "the bridge gives the frames of both to the one that it heard last",
        mend,
        f"{mac}: {link} of {wrong.netns}, {both[1][1]} of {both[1][0].netns}",
        of=mac,
    )


def _mac_for(place: Place, link: str) -> str:
    """0a:58 and the link's IPv4 address; empty where it has none."""
    for own in place.addresses:
        if own.link == link and own.ip.version == 4:
            return ":".join(f"{byte:02x}" for byte in (0x0A, 0x58, *own.ip.packed))
    return ""
