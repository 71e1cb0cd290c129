"""Where a packet that got no further would have gone next."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from hairpin.model.address import IP
from hairpin.trace import places
from hairpin.trace.case import Case, endpoints, forms, stays
from hairpin.trace.observation import Place


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace had to send a packet on: to one of these addresses, it may not be known which.

    ``link_in`` is where it came in, as links are called there (a bridge's port); empty: it is the
    namespace's own.
    """

    place: Place
    source: IP | None
    destinations: tuple[IP, ...]
    link_in: str = ""

    @property
    def routed_in(self) -> str:
        """The link that it came in by as routes see it: of a bridge's port the bridge."""
        return places.segment(self.place, self.link_in) if self.link_in else ""


def headings(case: Case) -> Iterator[Heading]:
    """What had to be decided last.  Nothing where all that was sent arrived."""
    tried, last = case.tried, case.last
    if last is None:
        wanted = _rewritten(case, case.client, tried.ip) if case.client.role == "node" else ()
        yield Heading(place=case.client, source=tried.source, destinations=wanted or (tried.ip,))
        return
    ends, place = last.packet.ends, case.where
    if last.seen.way != "in":
        return
    assert case.flight is not None
    if stays(case.flight, case.found):
        if case.leg == "request":  # the answer has to find its way
            yield Heading(place=place, source=ends.destination, destinations=(ends.source,))
        return
    wanted = (ends.destination,)
    if case.leg == "request":
        wanted = _rewritten(case, place, ends.destination) or wanted
    elif places.is_local(place, ends.destination) and tried.source is not None:
        wanted = (tried.source,)  # it was masqueraded, and is given its own address again
    yield Heading(place=place, source=ends.source, destinations=wanted, link_in=last.seen.link)


def _rewritten(case: Case, place: Place, address: IP) -> tuple[IP, ...]:
    """To whom a node may send on what is for a Service: the one that is known, or any endpoint."""
    if place.role != "node" or case.target is None or case.target.port is None:
        return ()
    if address != case.tried.ip:
        return ()
    known = {one.destination for one in forms(case)} - {case.tried.ip}
    if known:
        return tuple(sorted(known, key=str))
    return tuple(
        one.addresses[0]
        for one in endpoints(case)
        if one.conditions.ready is not False
        and one.addresses
        and one.addresses[0].version == address.version
    )
