"""Questions for hardware addresses on a packet's way that nobody answered (ARP and its like)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from hairpin.model.address import IP
from hairpin.state.links import Route
from hairpin.trace import places
from hairpin.trace.case import Case, forms
from hairpin.trace.follow import Asking, answered
from hairpin.trace.heading import headings
from hairpin.trace.observation import Place


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody on the packet's way asked who has ``target``, to send it by ``route``."""

    place: Place
    asking: Asking
    target: IP
    route: Route


def unanswered(case: Case) -> Iterator[Question]:
    """The questions for hardware addresses on the packet's way that nobody answered."""
    concerned = {end for form in forms(case) for end in (form.source, form.destination)}
    concerned.add(case.tried.ip)
    # What a node rewrote, and nothing saw afterwards, is known by the Service's endpoints.
    concerned |= {one for heading in headings(case) for one in heading.destinations}
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
            if route is not None and not answered(here, target):
                yield Question(place=place, asking=asking, target=target, route=route)
