"""The packets of one connection, out of all that was captured.

NAT changes addresses and ports and leaves the rest: sequence numbers, identification, payload.
So a packet is known again by ``Packet.key`` wherever it was seen, and the addresses it had there
are forms of the same connection, by which its other packets are found in turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from hairpin.model.address import IP
from hairpin.trace.observation import Observation, Sighting
from hairpin.trace.packet import ICMP, ICMP6, NUMBERS, Arp, Packet, read
from hairpin.trace.values import Ends

Direction = Literal["request", "reply", "error"]
_ROUNDS = 8  # a form for each rewriting; packets are rewritten a few times at most


class Sight(msgspec.Struct, frozen=True):
    """A packet of the connection on a link."""

    seen: Sighting
    packet: Packet

    @property
    def where(self) -> tuple[str, str, str]:
        return self.seen.netns, self.seen.link, self.seen.way


class Flight(msgspec.Struct, frozen=True):
    """One packet on its way: wherever it was seen, in time's order."""

    direction: Direction
    sights: tuple[Sight, ...]

    @property
    def first(self) -> Sight:
        return self.sights[0]

    @property
    def last(self) -> Sight:
        return self.sights[-1]


class Asking(msgspec.Struct, frozen=True):
    """An ARP message (or IPv6's) on a link."""

    seen: Sighting
    arp: Arp


class Followed(msgspec.Struct, frozen=True):
    """All that was captured of the connection; ``forms`` are the ends that requests had."""

    flights: tuple[Flight, ...]
    asked: tuple[Asking, ...]
    forms: frozenset[Ends]

    def of(self, direction: Direction) -> tuple[Flight, ...]:
        """Those in one direction."""
        return tuple(one for one in self.flights if one.direction == direction)


def follow(found: Observation) -> Followed:
    """The connection's packets, and the questions for hardware addresses."""
    sights: list[Sight] = []
    asked: list[Asking] = []
    for seen in found.sightings:
        match read(seen.data):
            case Packet() as packet:
                sights.append(Sight(seen, packet))
            case Arp() as arp:
                asked.append(Asking(seen, arp))
    forms = _seeds(found)
    number = _number(found)
    sights = [one for one in sights if _concerns(one.packet, number)]
    sights = _without_copies(sights, found)
    told = _classify(sights, forms)
    peers, masters = _peers(found), _masters(found)
    flights = tuple(_in_order(one, peers, masters) for one in _flights(sights, told))
    return Followed(flights, tuple(asked), frozenset(forms))


def _number(found: Observation) -> int:
    tried = found.tried
    if tried.protocol == "ICMP":
        return ICMP if tried.ip.version == 4 else ICMP6
    return NUMBERS[tried.protocol]


def _concerns(packet: Packet, number: int) -> bool:
    return packet.protocol == number or packet.inner is not None


def _seeds(found: Observation) -> set[Ends]:
    """The client's own ends, and what the nodes' tables say became of them."""
    tried = found.tried
    if tried.source is None:
        return set()
    client = Ends(tried.source, tried.source_port, tried.ip, tried.port if tried.source_port else 0)
    forms = {client}
    for place in found.places:
        for flow in (*place.after.flows, *found.gone.get(place.netns, ())):
            one, back = flow.original, flow.reply
            if (
                Ends(one.source, one.source_port, one.destination, one.destination_port) == client
                and tried.protocol != "ICMP"
            ):
                forms.add(
                    Ends(back.destination, back.destination_port, back.source, back.source_port)
                )
        for entry in place.after.connections:
            if Ends(entry.client, entry.client_port, entry.vip, entry.vport) == client:
                forms.add(Ends(entry.client, entry.client_port, entry.server, entry.server_port))
    return forms


def _classify(sights: list[Sight], forms: set[Ends]) -> list[Direction | None]:
    """Whose packet each is; ``forms`` grows."""
    told: list[Direction | None] = [None] * len(sights)
    known: dict[tuple[object, ...], Direction] = {}
    for _ in range(_ROUNDS):
        before = len(forms), len(known)
        for at, sight in enumerate(sights):
            packet = sight.packet
            direction = known.get(packet.key) if told[at] is None else told[at]
            if direction is None:
                direction = _direction(packet, forms)
            if direction is None:
                continue
            told[at] = known[packet.key] = direction
            if direction == "request":
                forms.add(packet.ends)
            elif direction == "reply":
                forms.add(packet.ends.reversed)
        if before == (len(forms), len(known)):
            break
    return told


def _direction(packet: Packet, forms: set[Ends]) -> Direction | None:
    if packet.inner is not None:
        ours = packet.inner in forms or packet.inner.reversed in forms
        return "error" if ours else None
    if packet.protocol in (ICMP, ICMP6):  # its ends have no ports to tell directions by
        way: Direction = "request" if packet.flags else "reply"
        ends = packet.ends if packet.flags else packet.ends.reversed
        return way if ends in forms else None
    if packet.ends in forms:
        return "request"
    return "reply" if packet.ends.reversed in forms else None


def _without_copies(sights: list[Sight], found: Observation) -> list[Sight]:
    """Without frames that a bridge gave to all its ports, or up to itself, for somebody else."""
    peers = _peers(found)
    macs = {
        (place.netns, link.name): link.mac
        for place in found.places
        for link in place.links
        if link.mac and link.master is None
    }

    def foreign(at: tuple[str, str], packet: Packet) -> bool:
        own = macs.get(at)
        return own is not None and packet.mac_to not in (own, "00:00:00:00:00:00")

    kept = []
    for one in sights:
        at = (one.seen.netns, one.seen.link)
        if one.seen.way == "in":
            skip = foreign(at, one.packet)
        else:
            far = peers.get(at)
            skip = (
                far is not None and far in macs and _is_port(at, found) and foreign(far, one.packet)
            )
        if not skip:
            kept.append(one)
    return kept


def _peers(found: Observation) -> dict[tuple[str, str], tuple[str, str]]:
    """The other end of each veth: namespace and link to namespace and link."""
    return {
        (place.netns, link.name): (link.peer_netns, link.peer)
        for place in found.places
        for link in place.links
        if link.peer and link.peer_netns
    }


def _masters(found: Observation) -> dict[tuple[str, str], str]:
    """The bridge of each port, by the port's namespace and link."""
    return {
        (place.netns, link.name): link.master
        for place in found.places
        for link in place.links
        if link.master
    }


def _in_order(
    flight: Flight,
    peers: dict[tuple[str, str], tuple[str, str]],
    masters: dict[tuple[str, str], str],
) -> Flight:
    """In the order in which it must have been.

    Times are the kernel's, but some of what is sent gets its time later than it is received, and
    the first packets theirs when they are read: stamps are switched on by deferred work
    (net_enable_timestamp in net/core/dev.c).  Each router takes one from a packet's life.
    """

    def precedes(one: Sight, other: Sight) -> bool:
        here, there = (one.seen.netns, one.seen.link), (other.seen.netns, other.seen.link)
        if one.seen.way != other.seen.way:  # from one end of a veth to the other
            if one.seen.way == "out":
                return peers.get(here) == there
            across = here[0] == there[0] and masters.get(here) == masters.get(there)
            return across and here in masters  # from a bridge's port to another
        if here[0] != there[0]:
            return False
        if one.seen.way == "out":  # from a bridge to its port
            return masters.get(there) == here[1]
        return masters.get(here) == there[1]  # from a port up to its bridge

    some = sorted(flight.sights, key=lambda one: -one.packet.ttl)
    for _ in range(len(some) ** 2):
        late = next(
            (
                (earlier, at)
                for at, sight in enumerate(some)
                for earlier in range(at)
                if precedes(sight, some[earlier])
            ),
            None,
        )
        if late is None:
            break
        earlier, at = late
        some.insert(earlier, some.pop(at))
    return msgspec.structs.replace(flight, sights=tuple(some))


def _is_port(at: tuple[str, str], found: Observation) -> bool:
    place = found.place(at[0])
    return place is not None and any(
        link.name == at[1] and link.master is not None for link in place.links
    )


def _flights(sights: list[Sight], told: list[Direction | None]) -> Iterator[Flight]:
    """By key, in time's order; a packet that is again where it was, as long-lived, was resent."""
    open_: dict[tuple[object, ...], list[Sight]] = {}
    order: list[tuple[Direction, list[Sight]]] = []
    for sight, direction in zip(sights, told, strict=True):
        if direction is None:
            continue
        key = (direction, *sight.packet.key)
        have = open_.get(key)
        if have is None or any(
            one.where == sight.where and one.packet.ttl <= sight.packet.ttl for one in have
        ):
            have = open_[key] = []
            order.append((direction, have))
        have.append(sight)
    for direction, some in order:
        yield Flight(direction, tuple(some))


def answered(asked: Iterable[Asking], target: IP) -> bool:
    """Whether anybody told the hardware address of ``target``.

    In ARP's answers the target is who asked, in IPv6's it is whose address is told.
    """
    return any(
        not one.arp.asks and target == (one.arp.sender if target.version == 4 else one.arp.target)
        for one in asked
    )
