"""A captured frame read: Ethernet, ARP, IPv4, IPv6, TCP, UDP, SCTP, ICMP; VXLAN looked into.

Sources: RFC 826, 791, 8200, 9293, 768, 9260, 792, 4443, 7348.
"""

from __future__ import annotations

import struct

import msgspec

from hairpin.model.address import IP, from_packed
from hairpin.trace.values import Ends

TCP, UDP, SCTP, ICMP, ICMP6 = 6, 17, 132, 1, 58
NUMBERS = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP}
_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_ETHERNET = 14
_VXLAN_PORTS = (8472, 4789)  # Linux' own and IANA's
_FLAGS = ((0x02, "SYN"), (0x10, "ACK"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"))
_ERRORS = {
    ICMP: {3: "unreachable", 5: "redirect", 11: "time exceeded", 12: "parameter problem"},
    ICMP6: {1: "unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem"},
}
_UNREACHABLE = {
    ICMP: {
        0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable",
        3: "port unreachable", 4: "fragmentation needed", 9: "network prohibited",
        10: "host prohibited", 13: "administratively prohibited",
    },
    ICMP6: {
        0: "no route", 1: "administratively prohibited", 3: "address unreachable",
        4: "port unreachable",
    },
}  # fmt: skip


class Arp(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for, or tells, a hardware address; also IPv6's neighbour messages."""

    asks: bool
    sender: IP
    mac: str
    target: IP


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """One frame's IP packet.

    ``key`` is what NAT leaves as it is, so that equal keys are one packet wherever it was seen.
    ``inner`` are the ends of the packet that an ICMP error is about.
    """

    ends: Ends
    protocol: int
    key: tuple[object, ...]
    says: str
    ttl: int
    length: int  # of the IP packet, bytes
    mac_to: str
    mac_from: str
    flags: int = 0  # TCP
    payload: int = 0  # bytes
    inner: Ends | None = None
    error: str = ""  # what an ICMP error says
    mtu: int = 0  # that an ICMP error asks for
    tunnel: Ends | None = None  # of the VXLAN packet that it was in


def read(data: bytes) -> Packet | Arp | None:
    """The packet of an Ethernet frame; None for what has no part in connections."""
    if len(data) < _ETHERNET:
        return None
    kind = int.from_bytes(data[12:14], "big")
    try:
        if kind == _ARP:
            return _arp(data)
        if kind in (_IPV4, _IPV6):
            return _ip(data, data[_ETHERNET:], kind == _IPV6)
    except (struct.error, IndexError, ValueError):
        return None
    return None


def _arp(data: bytes) -> Arp | None:
    operation, mac, sender, _, target = struct.unpack_from("!6xH6s4s6s4s", data, _ETHERNET)
    return Arp(
        asks=operation == 1, sender=from_packed(sender), mac=_mac(mac), target=from_packed(target)
    )


def _ip(data: bytes, packet: bytes, six: bool) -> Packet | Arp | None:
    if six:
        length, protocol, ttl = struct.unpack_from("!4xHBB", packet)
        source, destination = from_packed(packet[8:24]), from_packed(packet[24:40])
        body, number, length = packet[40 : 40 + length], 0, length + 40
    else:
        length, number, fragment, ttl, protocol = struct.unpack_from("!2xHHHBB", packet)
        source, destination = from_packed(packet[12:16]), from_packed(packet[16:20])
        body = packet[(packet[0] & 15) * 4 : length]
        if fragment & 0x1FFF:  # a later fragment has no ports
            return None
    if protocol == ICMP6 and body[0] in (135, 136):
        mac = body[26:32] if len(body) >= 32 else data[6:12]
        return Arp(
            asks=body[0] == 135, sender=source, mac=_mac(mac), target=from_packed(body[8:24])
        )
    ports = struct.unpack_from("!HH", body) if protocol in (TCP, UDP, SCTP) else (0, 0)
    if protocol == UDP and ports[1] in _VXLAN_PORTS and len(body) > 16 + _ETHERNET:
        inside = read(body[16:])
        if isinstance(inside, Packet):
            outer = Ends(source, ports[0], destination, ports[1])
            # Who gets the frame is said outside; what is in it is the connection's.
            return msgspec.structs.replace(
                inside, tunnel=outer, mac_to=_mac(data[:6]), mac_from=_mac(data[6:12])
            )
    found = Packet(
        ends=Ends(source, ports[0], destination, ports[1]),
        protocol=protocol,
        key=(protocol, number, len(body)),
        says="IP",
        ttl=ttl,
        length=length,
        mac_to=_mac(data[:6]),
        mac_from=_mac(data[6:12]),
    )
    return _READERS[protocol](found, body, number) if protocol in _READERS else None


def _tcp(found: Packet, body: bytes, number: int) -> Packet:
    sequence, answered, offset, flags = struct.unpack_from("!4xIIBB", body)
    payload = max(len(body) - (offset >> 4) * 4, 0)
    words = "+".join(name for bit, name in _FLAGS if flags & bit) or "none"
    size = f", {payload} bytes" if payload else ""
    return msgspec.structs.replace(
        found,
        key=(TCP, sequence, answered if flags & 0x10 else 0, flags, payload, number),
        says=f"TCP {words}{size}",
        flags=flags,
        payload=payload,
    )


def _udp(found: Packet, body: bytes, number: int) -> Packet:
    size = len(body) - 8
    return msgspec.structs.replace(
        found, key=(UDP, number, body[8:]), says=f"UDP, {size} bytes", payload=size
    )


def _sctp(found: Packet, body: bytes, number: int) -> Packet:
    kind = body[12] if len(body) > 12 else -1
    key = (SCTP, number, body[4:8], body[12:])
    return msgspec.structs.replace(
        found,
        key=key,
        says=f"SCTP {_CHUNKS.get(kind, 'chunk')}",
        flags=kind,
        payload=len(body) - 12,
    )


def _icmp(found: Packet, body: bytes, number: int) -> Packet:
    kind, code = body[0], body[1]
    six = found.protocol == ICMP6
    if kind in ((128, 129) if six else (0, 8)):
        request = kind in (8, 128)
        key = (found.protocol, request, body[4:])
        says = "ICMP echo request" if request else "ICMP echo reply"
        return msgspec.structs.replace(found, key=key, says=says, flags=int(request))
    name = _ERRORS[found.protocol].get(kind)
    if name is None:
        return msgspec.structs.replace(found, says=f"ICMP type {kind}")
    if name == "unreachable":
        name = _UNREACHABLE[found.protocol].get(code, name)
    mtu = struct.unpack_from("!6xH" if not six else "!4xI", body)[0]
    about = _ip(bytes(_ETHERNET), body[8:], six)
    # The quoted packet is rewritten together with the error: the kind and what NAT leaves is kept.
    quoted = about.key[:2] if isinstance(about, Packet) else body[8:]
    return msgspec.structs.replace(
        found,
        key=(found.protocol, kind, code, number, quoted),
        says=f"ICMP {name}",
        inner=about.ends if isinstance(about, Packet) else None,
        error=name,
        mtu=mtu if name in ("fragmentation needed", "packet too big") else 0,
    )


_CHUNKS = {
    0: "DATA", 1: "INIT", 2: "INIT ACK", 3: "SACK", 6: "ABORT", 7: "SHUTDOWN", 8: "SHUTDOWN ACK",
    10: "COOKIE ECHO", 11: "COOKIE ACK", 14: "SHUTDOWN COMPLETE",
}  # fmt: skip
_READERS = {TCP: _tcp, UDP: _udp, SCTP: _sctp, ICMP: _icmp, ICMP6: _icmp}


def _mac(data: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in data)
