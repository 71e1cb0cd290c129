"""SCTP where the kernel has no sockets for it: an INIT and its INIT ACK over raw sockets.  Pure.

That much a proxy is asked for: its rules and connection tracking see the packets that begin an
association (RFC 9260, 5.1), and a Service that refuses one answers with ICMP.  The server keeps
nothing of an INIT; what it has to say it puts into the state cookie of its INIT ACK, which is its
own to fill (5.1.3), so that the client hears which Pod answered and whom it saw.
"""

from __future__ import annotations

import struct

PROTOCOL = 132  # IPPROTO_SCTP
_HEADER = struct.Struct("!HHII")  # ports, verification tag, checksum (RFC 9260, 3.1)
_CHUNK = struct.Struct("!BBH")  # type, flags, length
_INIT_BODY = struct.Struct("!IIHHI")  # tag, window, streams out and in, first TSN (3.3.2)
_PARAMETER = struct.Struct("!HH")
INIT, INIT_ACK, ABORT = 1, 2, 6
_COOKIE = 7  # the parameter State Cookie
_WINDOW, _STREAMS = 65536, 1
_POLYNOMIAL = 0x82F63B78  # CRC32c, reversed (RFC 9260, appendix A)


def _table() -> tuple[int, ...]:
    found = []
    for number in range(256):
        rest = number
        for _ in range(8):
            rest = rest >> 1 ^ (_POLYNOMIAL if rest & 1 else 0)
        found.append(rest)
    return tuple(found)


_CRC = _table()


def crc32c(data: bytes) -> int:
    """The checksum of SCTP, over the whole packet with 0 in its own place."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def init(source: int, destination: int, tag: int) -> bytes:
    """The packet that begins an association; ``tag`` (not 0) is what the answer must bear."""
    return _packet(source, destination, 0, INIT, _INIT_BODY.pack(tag, _WINDOW, 1, _STREAMS, tag))


def init_ack(source: int, destination: int, peer: int, tag: int, cookie: bytes) -> bytes:
    """The answer to an INIT whose tag was ``peer``."""
    parameter = _PARAMETER.pack(_COOKIE, _PARAMETER.size + len(cookie)) + cookie
    body = _INIT_BODY.pack(tag, _WINDOW, 1, _STREAMS, tag) + parameter
    return _packet(source, destination, peer, INIT_ACK, body)


def _packet(source: int, destination: int, tag: int, kind: int, body: bytes) -> bytes:
    chunk = _CHUNK.pack(kind, 0, _CHUNK.size + len(body)) + body
    chunk += bytes(-len(chunk) % 4)
    bare = _HEADER.pack(source, destination, tag, 0) + chunk
    return bare[:8] + struct.pack("<I", crc32c(bare)) + bare[12:]


class Read:
    """The first chunk of a packet: ``kind``, its sender's ``tag``, the ``cookie`` of an INIT ACK.

    ``to`` is the tag that the packet bears.  Raises ValueError for what is no such packet.
    """

    def __init__(self, packet: bytes) -> None:
        if len(packet) < _HEADER.size + _CHUNK.size:
            raise ValueError("shorter than an SCTP packet")
        self.source, self.destination, self.to, _ = _HEADER.unpack_from(packet)
        self.kind, _, length = _CHUNK.unpack_from(packet, _HEADER.size)
        body = packet[_HEADER.size + _CHUNK.size : _HEADER.size + length]
        self.tag, self.cookie = 0, b""
        if self.kind not in (INIT, INIT_ACK):
            return
        if len(body) < _INIT_BODY.size:
            raise ValueError("an INIT without its fields")
        self.tag = _INIT_BODY.unpack_from(body)[0]
        at = _INIT_BODY.size
        while at + _PARAMETER.size <= len(body):
            kind, size = _PARAMETER.unpack_from(body, at)
            if kind == _COOKIE:
                self.cookie = body[at + _PARAMETER.size : at + size]
            at += max(_PARAMETER.size, size + -size % 4)


def without_ip(packet: bytes) -> bytes:
    """What a raw socket of IPv4 received, without its IP header (raw(7))."""
    return packet[(packet[0] & 0xF) * 4 :] if packet else packet
