"""Netlink messages and attributes: the part that all families share.

A message is a 16-byte nlmsghdr and a body; a body is a fixed header of its family, then
attributes (length, type, value, padded to four bytes), which may nest.  Numbers are in the
machine's byte order unless the family says otherwise (include/uapi/linux/netlink.h).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from struct import Struct

import msgspec

NLM_F_REQUEST = 0x1
NLM_F_MULTI = 0x2
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200

NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3
_NLMSGERR_ATTR_MSG = 1

_NLA_TYPE_MASK = 0x3FFF  # the two bits above are NLA_F_NESTED and NLA_F_NET_BYTEORDER
NLA_F_NESTED = 0x8000

_HEADER = Struct("=IHHII")
ATTRIBUTE = Struct("=HH")
_U8 = Struct("=HHBxxx")
_U16 = Struct("=HHHxx")
_U32 = Struct("=HHI")
_I32 = Struct("=i")
_VERDICT = Struct("=IHHIIi")  # the header, and the code of an NLMSG_ERROR
HEADER_SIZE = _HEADER.size

FIRST_PACKED = 0x7800_0000
"""The sequence number of the first message in a batch that was packed beforehand; out of reach
of the numbers that a socket gives by itself."""

_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


class WireError(ValueError):
    """Bytes that are not what netlink promises."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """What is sent, before the socket gives it a sequence number.

    ``kind`` is nlmsg_type, ``flags`` NLM_F_* besides REQUEST and ACK, which the socket sets.
    """

    kind: int
    flags: int
    body: bytes


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One message as received."""

    kind: int
    flags: int
    sequence: int
    body: bytes


class Ack(msgspec.Struct, frozen=True, gc=False):
    """The kernel's verdict on one request: ``code`` is an errno, 0 for success.

    ``text`` is the kernel's own explanation (extended ack), often empty.
    """

    sequence: int
    code: int
    text: str = ""


def frame(request: Request, sequence: int, extra_flags: int = 0) -> bytes:
    """The bytes of one message."""
    body = request.body
    size = HEADER_SIZE + len(body)
    flags = request.flags | extra_flags | NLM_F_REQUEST
    return _HEADER.pack(size, request.kind, flags, sequence, 0) + body + _PADDING[size & 3]


def batch(requests: Sequence[Request], first: int) -> bytes:
    """The bytes of many messages, numbered from ``first``; the last asks for an ACK.

    Written out for speed: this runs once for each object that the kernel is given.
    """
    parts = []
    pack = _HEADER.pack
    sequence = first
    for request in requests:
        body = request.body
        size = len(body)
        parts.append(
            pack(HEADER_SIZE + size, request.kind, request.flags | NLM_F_REQUEST, sequence, 0)
        )
        parts.append(body)
        if size & 3:
            parts.append(_PADDING[size & 3])
        sequence += 1
    if requests:
        last = requests[-1]
        at = -3 if len(last.body) & 3 else -2
        parts[at] = frame(last, sequence - 1, NLM_F_ACK)[:HEADER_SIZE]
    return b"".join(parts)


def frames(data: bytes | bytearray | memoryview, size: int) -> Iterator[Frame]:
    """The messages in the first ``size`` bytes of ``data``.  Raises WireError."""
    start = 0
    view = memoryview(data)  # a slice of a bytearray would be a copy more
    while size - start >= HEADER_SIZE:
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, start)
        if length < HEADER_SIZE or start + length > size:
            raise WireError(f"netlink message of {length} bytes at offset {start} of {size}")
        body = bytes(view[start + HEADER_SIZE : start + length])
        yield Frame(kind, flags, sequence, body)
        start += (length + 3) & ~3


def render_ack(ack: Ack) -> Frame:
    """The NLMSG_ERROR message that the kernel sends for ``ack`` (with NETLINK_CAP_ACK set)."""
    inner = _HEADER.pack(HEADER_SIZE, 0, 0, ack.sequence, 0)
    text = attribute(_NLMSGERR_ATTR_MSG, ack.text.encode() + b"\0") if ack.text else b""
    flags = _NLM_F_CAPPED | (_NLM_F_ACK_TLVS if text else 0)
    return Frame(NLMSG_ERROR, flags, ack.sequence, _I32.pack(-ack.code) + inner + text)


def parse_ack(message: Frame) -> Ack:
    """The verdict in a message of kind NLMSG_ERROR or NLMSG_DONE.  Raises WireError."""
    body = message.body
    if len(body) < 4:
        if message.kind == NLMSG_DONE:  # older families end a dump without a code
            return Ack(message.sequence, 0)
        raise WireError(f"netlink error message of {len(body)} bytes")
    code = -_I32.unpack_from(body)[0]
    start = 4
    if message.kind == NLMSG_ERROR:
        if len(body) < 4 + HEADER_SIZE:
            raise WireError(f"netlink error message of {len(body)} bytes")
        quoted = _HEADER.unpack_from(body, 4)[0]
        capped = message.flags & _NLM_F_CAPPED or not code
        start += HEADER_SIZE if capped else (quoted + 3) & ~3
    text = b""
    if message.flags & _NLM_F_ACK_TLVS:
        text = attributes(body, start).get(_NLMSGERR_ATTR_MSG, b"")
    return Ack(message.sequence, code, text.rstrip(b"\0").decode(errors="replace"))


def is_consent(data: bytes | bytearray, size: int, sequence: int) -> bool:
    """Whether the first ``size`` bytes are nothing but the verdict "yes" on that request.

    What a socket hears after nearly every batch; the long way takes 20 us in the guest.
    """
    if size < _VERDICT.size:
        return False
    length, kind, _, number, _, code = _VERDICT.unpack_from(data)
    return bool(kind == NLMSG_ERROR and number == sequence and not code and length == size)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute with its padding."""
    size = 4 + len(value)
    return ATTRIBUTE.pack(size, kind) + value + _PADDING[size & 3]


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    """A NUL-terminated string attribute."""
    return attribute(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    return _U8.pack(5, kind, value)


def u16(kind: int, value: int) -> bytes:
    return _U16.pack(6, kind, value)


def u32(kind: int, value: int) -> bytes:
    return _U32.pack(8, kind, value)


def attributes(data: bytes, start: int = 0) -> dict[int, bytes]:
    """The attributes from ``start`` on by type; of two with one type the last wins.

    Raises WireError.
    """
    found = {}
    end = len(data)
    while end - start >= 4:
        length, kind = ATTRIBUTE.unpack_from(data, start)
        if length < 4 or start + length > end:
            raise WireError(f"netlink attribute of {length} bytes at offset {start} of {end}")
        found[kind & _NLA_TYPE_MASK] = data[start + 4 : start + length]
        start += (length + 3) & ~3
    return found


def number(value: bytes) -> int:
    """An unsigned number of any width."""
    return int.from_bytes(value, sys.byteorder)


def string(value: bytes) -> str:
    """A string attribute's text, its NUL cut off."""
    return value.partition(b"\0")[0].decode(errors="surrogateescape")
