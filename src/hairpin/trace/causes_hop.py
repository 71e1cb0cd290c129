"""Causes in finding the next hop's hardware address: nobody answers, or nobody could."""

from __future__ import annotations

from hairpin.model.address import IP
from hairpin.source.ranges import said_cidrs
from hairpin.state.links import Route
from hairpin.trace import places
from hairpin.trace.case import Case, by_hand, cause, forms
from hairpin.trace.causes_client import gateway_of
from hairpin.trace.follow import answered
from hairpin.trace.observation import Place
from hairpin.trace.values import Cause, Mend


def next_hop_silent(case: Case) -> Cause | None:
    """Somebody asked for a hardware address on the packet's way, and nobody answered."""
    concerned = {end for form in forms(case) for end in (form.source, form.destination)}
    concerned.add(case.tried.ip)
    for place in case.found.places:
        for asking in case.followed.asked:
            target = asking.arp.target
            if asking.seen.netns != place.netns or not asking.arp.asks:
                continue
            if asking.seen.way != "out" or not places.is_local(place, asking.arp.sender):
                continue
            route = next(
                (r for a in concerned if (r := places.route_to(place, a)) and
                 (r.via == target or (r.via is None and a == target))), None,
            )  # fmt: skip
            here = [one for one in case.followed.asked if one.seen.netns == place.netns]
            if route is None or answered(here, target):
                continue
            if route.via is None:
                found = _beyond_the_link(case, place, target, route)
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
                f"ARP for {target} on {asking.seen.link}, no answer",
                of=str(target),
            )
    return None


def _told_to_ignore(case: Case, target: IP) -> Cause | None:
    """Who has the address is told to answer no questions for it (arp_ignore)."""
    holder = places.holder(case.found.places, target)
    if holder is None or holder.around is None or target.version == 6:
        return None
    link = places.address_link(holder, target)
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
