"""A traced connection as a pcapng file: an interface per link, and the story in comments.

Packets of the connection and questions for its hardware addresses, each wherever it was seen.
Format: draft-ietf-opsawg-pcapng; blocks and options are little endian here, padded to four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from hairpin.trace import places
from hairpin.trace.case import failing
from hairpin.trace.follow import Followed, follow
from hairpin.trace.guide import Guide
from hairpin.trace.observation import Observation, Sighting
from hairpin.trace.path import hops
from hairpin.trace.values import Step, Trace

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_MAGIC = 0x1A2B3C4D
_ETHERNET = 1  # LINKTYPE_ETHERNET
_SNAP = 65535
_COMMENT, _NAME, _DESCRIPTION, _RESOLUTION = 1, 2, 3, 9
_APPLICATION = 4
_FLAGS = 2
_INBOUND, _OUTBOUND = 1, 2
_ETHERNET_HEADER, _IPV6_HEADER = 14, 40  # bytes
_NANOSECONDS = 9  # if_tsresol: 10 to the power of -9

_At = tuple[str, str, str, float]


def pcapng(found: Observation, trace: Trace) -> bytes:
    """The file's bytes."""
    followed = follow(found)
    comments = _comments(found, followed, trace, Guide(found, followed))
    seen = _kept(found, followed)
    links = list(dict.fromkeys((one.netns, one.link) for one in seen))
    blocks = [_section(trace)]
    blocks += [_interface(found, netns, link) for netns, link in links]
    numbers = {one: at for at, one in enumerate(links)}
    blocks += [_packet(one, numbers[one.netns, one.link], comments.get(_at(one))) for one in seen]
    return b"".join(blocks)


def _kept(found: Observation, followed: Followed) -> list[Sighting]:
    """The connection's packets, and ARP for its addresses, in time's order."""
    seen = {_at(sight.seen): sight.seen for one in followed.flights for sight in one.sights}
    concerned = {end for form in followed.forms for end in (form.source, form.destination)}
    concerned |= {found.tried.ip}
    for one in followed.asked:
        if one.arp.sender in concerned or one.arp.target in concerned:
            seen[_at(one.seen)] = one.seen
    return sorted(seen.values(), key=lambda one: one.at)


def _at(seen: Sighting) -> _At:
    return seen.netns, seen.link, seen.way, seen.at


def _comments(found: Observation, followed: Followed, trace: Trace, guide: Guide) -> dict[_At, str]:
    """What is said of packets that were rewritten, and of the one that ended it all."""
    said: dict[_At, str] = {}
    for flight in followed.flights:
        told = [
            (hop.netns, step)
            for hop in hops(flight, guide)
            for step in hop.steps
            if step.kind in ("ipvs", "nat")
        ]
        for netns, step in told:
            for sight in flight.sights:
                if sight.seen.netns == netns and step.at in (guide.when(sight), None):
                    key = _at(sight.seen)
                    said[key] = "; ".join(filter(None, (said.get(key), _words(step))))
                    break
    if trace.cause is not None:
        _, flight_ = failing(found, followed)
        if flight_ is not None:
            key = _at(flight_.last.seen)
            end = f"{trace.disposition}: {trace.ended.says}; because {trace.cause.because}"
            said[key] = "; ".join(filter(None, (said.get(key), end)))
    return said


def _words(step: Step) -> str:
    by = f" ({step.by})" if step.by else ""
    owner = f", asked for by {step.owner}" if step.owner else ""
    return f"{step.says}{by}{owner}: {step.before} => {step.after}"


def _section(trace: Trace) -> bytes:
    asked = trace.asked
    lines = [
        f"hairpin trace {asked.source} {asked.target}: {trace.disposition}, {trace.ended.says}"
    ]
    if trace.cause is not None:
        lines.append(f"because {trace.cause.because}")
    options = [(_COMMENT, "\n".join(lines).encode()), (_APPLICATION, b"hairpin")]
    return _block(_SECTION, struct.pack("<IHHq", _MAGIC, 1, 0, -1), options)


def _interface(found: Observation, netns: str, link: str) -> bytes:
    place = found.place(netns)
    who = places.title(place) if place else netns
    options = [
        (_NAME, f"{netns}/{link}".encode()),
        (_DESCRIPTION, f"{link} of {who}".encode()),
        (_RESOLUTION, bytes([_NANOSECONDS])),
    ]
    return _block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, _SNAP), options)


def _packet(seen: Sighting, interface: int, comment: str | None) -> bytes:
    when = round(seen.at * 1e9)
    length = max(seen.length, len(seen.data), said_length(seen.data))
    head = struct.pack("<IIIII", interface, when >> 32, when & 0xFFFFFFFF, len(seen.data), length)
    way = _INBOUND if seen.way == "in" else _OUTBOUND
    options = [(_FLAGS, struct.pack("<I", way))]
    if comment:
        options.append((_COMMENT, comment.encode()))
    return _block(_PACKET, head + _padded(seen.data), options)


def said_length(frame: bytes) -> int:
    """How long an Ethernet frame is by its IP header: what is captured may be cut off; 0 unknown.

    A frame can be longer than the link's MTU: veth hands on what is to be cut into segments later.
    """
    kind = frame[12:14]
    if kind == b"\x08\x00" and len(frame) >= 18:
        return int(_ETHERNET_HEADER + struct.unpack_from("!H", frame, 16)[0])
    if kind == b"\x86\xdd" and len(frame) >= 20:
        return int(_ETHERNET_HEADER + _IPV6_HEADER + struct.unpack_from("!H", frame, 18)[0])
    return 0


def _block(kind: int, body: bytes, options: list[tuple[int, bytes]]) -> bytes:
    content = body + b"".join(_options(options))
    size = 12 + len(content)
    return struct.pack("<II", kind, size) + content + struct.pack("<I", size)


def _options(options: list[tuple[int, bytes]]) -> Iterator[bytes]:
    for code, value in options:
        yield struct.pack("<HH", code, len(value)) + _padded(value)
    yield struct.pack("<HH", 0, 0)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
