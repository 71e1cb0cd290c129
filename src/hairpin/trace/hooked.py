"""Which of what hooks told belongs to which packet of the connection.

A packet is known at a hook as it is on a link: by what NAT leaves as it is.  Hooks tell its first
bytes only, so that of what a packet is known by only the beginning is compared.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hairpin.trace.follow import Direction, Flight, Followed
from hairpin.trace.observation import Observation, Passage
from hairpin.trace.packet import ICMP, ICMP6, SCTP, UDP, Packet, read
from hairpin.trace.rules import SavedRule
from hairpin.trace.values import Ends

_TOLD = {UDP: 12, SCTP: 8, ICMP: 16, ICMP6: 16}
"""Bytes of payload that nf_tables tells: 20 of the transport layer, less its header."""
_MOST_LENGTH = 65_535
_REDIRECTING = ("DNAT",)


class Pass(msgspec.Struct, frozen=True):
    """A packet of the connection in a base chain."""

    passage: Passage
    packet: Packet
    direction: Direction
    rules: tuple[SavedRule, ...]

    @property
    def ends(self) -> Ends:
        return self.packet.ends

    @property
    def decided(self) -> SavedRule | None:
        """The rule or policy that gave the chain's verdict."""
        return self.rules[-1] if self.rules and self.passage.verdict else None


class Hooked:
    """What hooks told of the connection."""

    def __init__(self, found: Observation, followed: Followed) -> None:
        self._hooked = found.hooked
        self._told = not found.untold
        self.passes: list[Pass] = []
        self._of: dict[tuple[str, tuple[object, ...]], list[Pass]] = {}
        known = {_short(one.first.packet.key): one.direction for one in followed.flights}
        packets = [(one, packet_of(one.data)) for one in found.passages]
        for _, packet in packets:  # those that no link saw: a hook dropped them before
            way = _direction(packet, followed.forms) if packet is not None else None
            if packet is not None and way is not None:
                known.setdefault(_short(packet.key), way)
        for passage, packet in packets:
            direction = known.get(_short(packet.key)) if packet is not None else None
            if packet is None or direction is None:
                continue
            one = Pass(passage, packet, direction, tuple(found.rules[at] for at in passage.rules))
            self.passes.append(one)
            self._of.setdefault((passage.netns, _short(packet.key)), []).append(one)

    def of(self, flight: Flight, netns: str) -> list[Pass]:
        """Those of one packet in one namespace, in the order of its way, each once."""
        some = self._of.get((netns, _short(flight.first.packet.key)), [])
        return list({(one.passage, one.ends): one for one in some}.values())

    def ended(self, netns: str, flight: Flight | None = None) -> list[Pass]:
        """Where a chain dropped a packet of the connection there; of one packet, or of any."""
        some = self.passes if flight is None else self.of(flight, netns)
        return [one for one in some if one.passage.netns == netns and one.passage.verdict == "drop"]

    def cleared(self, netns: str, flight: Flight) -> bool:
        """Whether hooks saw that packet there, told all, and no rule ended it."""
        return (
            self._told
            and netns in self._hooked
            and bool(self.of(flight, netns))
            and not self.ended(netns, flight)
        )


def dropped(found: Observation, flight: Flight, netns: str) -> bool:
    """Whether a hook told that a packet ended in a namespace."""
    ended = (
        packet_of(one.data)
        for one in found.passages
        if one.verdict == "drop" and one.netns == netns
    )
    key = _short(flight.first.packet.key)
    return any(one is not None and _short(one.key) == key for one in ended)


def redirected(found: Observation, flight: Flight, netns: str) -> bool:
    """Whether a hook told of a rule that gave a packet another destination in a namespace."""
    key = _short(flight.first.packet.key)
    for one in found.passages:
        if one.netns != netns:
            continue
        if any(found.rules[at].target in _REDIRECTING for at in one.rules):
            packet = packet_of(one.data)
            if packet is not None and _short(packet.key) == key:
                return True
    return False


def packet_of(data: bytes) -> Packet | None:
    """The packet of what a hook told: from its IP header on, filled up with zeros."""
    if len(data) < 20:
        return None
    six = data[0] >> 4 == 6
    length = int.from_bytes(data[4:6] if six else data[2:4], "big") + (40 if six else 0)
    whole = data + bytes(max(min(length, _MOST_LENGTH) - len(data), 0))
    found = read(bytes(12) + (b"\x86\xdd" if six else b"\x08\x00") + whole)
    return found if isinstance(found, Packet) else None


def _short(key: tuple[object, ...]) -> tuple[object, ...]:
    """A packet's key as far as hooks tell of it."""
    most = _TOLD.get(key[0]) if isinstance(key[0], int) else None
    if most is None:
        return key
    return tuple(one[:most] if isinstance(one, bytes) else one for one in key)


def _direction(packet: Packet, forms: Iterable[Ends]) -> Direction | None:
    """Of a packet that has ends of the connection."""
    if packet.inner is not None:
        return None
    if packet.ends in forms:
        return "request"
    return "reply" if packet.ends.reversed in forms else None
