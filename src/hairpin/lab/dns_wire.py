"""DNS messages: bytes to values and back.  Pure.

RFC 1035 (messages, compression), RFC 2782 (SRV), RFC 3596 (AAAA), RFC 6891 (EDNS).
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import msgspec

Name = tuple[bytes, ...]
"""The labels of a name, as they were spelled, without the root's empty one."""

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
MAX_MESSAGE = 65535
"""Bytes of a message over TCP, whose length takes two bytes."""
PLAIN_SIZE = 512
"""Bytes of a datagram where nobody said more (RFC 1035, 4.2.1)."""

_HEADER = struct.Struct("!6H")
_QUESTION = struct.Struct("!2H")
_RECORD = struct.Struct("!HHIH")
_POINTER = 0xC0
_POINTER_LIMIT = 0x4000  # what 14 bits can point to
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSE, _RECURSING = 0x8000, 0x400, 0x200, 0x100, 0x80
_NAME_LIMIT = 255  # bytes with all lengths, RFC 1035 2.3.4
_RECORDS_LIMIT = 4096  # records that are read of one message


class WireError(ValueError):
    """Bytes that are no DNS message."""


class Host(msgspec.Struct, frozen=True, tag=True):
    """A or AAAA."""

    ip: IPv4Address | IPv6Address

    @property
    def kind(self) -> int:
        return A if self.ip.version == 4 else AAAA


class Pointer(msgspec.Struct, frozen=True, tag=True):
    """CNAME, PTR or NS: another name."""

    kind: int
    name: Name


class Srv(msgspec.Struct, frozen=True, tag=True):
    priority: int
    weight: int
    port: int
    target: Name

    @property
    def kind(self) -> int:
        return SRV


class Soa(msgspec.Struct, frozen=True, tag=True):
    """``times``: serial, refresh, retry, expire, minimum."""

    server: Name
    mailbox: Name
    times: tuple[int, int, int, int, int]

    @property
    def kind(self) -> int:
        return SOA


class Raw(msgspec.Struct, frozen=True, tag=True):
    """Any other type, and TXT."""

    kind: int
    data: bytes


Data = Host | Pointer | Srv | Soa | Raw


class Record(msgspec.Struct, frozen=True):
    name: Name
    ttl: int  # seconds
    data: Data


class Question(msgspec.Struct, frozen=True):
    name: Name
    kind: int
    klass: int = IN


class Edns(msgspec.Struct, frozen=True):
    """``size``: bytes of a datagram that the sender takes; ``options``: codes and contents."""

    size: int
    version: int = 0
    options: tuple[tuple[int, bytes], ...] = ()


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A question, or with ``response`` the answer to one."""

    id: int
    question: Question | None
    response: bool = False
    opcode: int = 0
    authoritative: bool = False
    truncated: bool = False
    recursion_desired: bool = False
    recursion_available: bool = False
    code: int = NOERROR  # with EDNS up to 12 bits
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    edns: Edns | None = None


def text(data: bytes) -> Raw:
    """A TXT record's data of one string."""
    return Raw(TXT, bytes([len(data)]) + data)


def name(said: str) -> Name:
    """``web.default`` as a Name; empty labels are left out, so a dot at the end is too."""
    return tuple(label.encode() for label in said.split(".") if label)


def lower(spelled: Name) -> Name:
    """The form by which names are the same (RFC 4343)."""
    return tuple(label.lower() for label in spelled)


# Reading


def parse(data: bytes) -> Message:
    """A message from its bytes.  Raises WireError.

    Of several OPT records the first counts; a message has at most one question.
    """
    try:
        return _parse(data)
    except (struct.error, IndexError):
        raise WireError("the message is cut off") from None


def _parse(data: bytes) -> Message:
    number, flags, questions, *counts = _HEADER.unpack_from(data)
    if questions > 1:
        raise WireError(f"{questions} questions in one message")
    if sum(counts) > _RECORDS_LIMIT:
        raise WireError(f"{sum(counts)} records in one message")
    at = _HEADER.size
    question = None
    if questions:
        asked, at = _read_name(data, at)
        question = Question(asked, *_QUESTION.unpack_from(data, at))
        at += _QUESTION.size
    sections: list[tuple[Record, ...]] = []
    edns = None
    high = 0
    for count in counts:
        records = []
        for _ in range(count):
            owner, at = _read_name(data, at)
            kind, klass, ttl, length = _RECORD.unpack_from(data, at)
            at += _RECORD.size
            end = at + length
            if end > len(data):
                raise WireError("the message is cut off")
            if kind == OPT:
                if edns is None:
                    edns, high = Edns(klass, ttl >> 16 & 0xFF, _options(data, at, end)), ttl >> 24
            else:
                records.append(Record(owner, ttl, _read_data(kind, data, at, end)))
            at = end
        sections.append(tuple(records))
    return Message(
        id=number,
        question=question,
        response=bool(flags & _RESPONSE),
        opcode=flags >> 11 & 0xF,
        authoritative=bool(flags & _AUTHORITATIVE),
        truncated=bool(flags & _TRUNCATED),
        recursion_desired=bool(flags & _RECURSE),
        recursion_available=bool(flags & _RECURSING),
        code=flags & 0xF | high << 4,
        answers=sections[0],
        authority=sections[1],
        additional=sections[2],
        edns=edns,
    )


def _read_name(data: bytes, at: int) -> tuple[Name, int]:
    """The name at ``at``, and where it ends there.  Pointers lead backwards only."""
    labels: list[bytes] = []
    end = None
    size = 1
    lowest = at
    while length := data[at]:
        if length & _POINTER == _POINTER:
            end = at + 2 if end is None else end
            at = (length & 0x3F) << 8 | data[at + 1]
            if at >= lowest:
                raise WireError("a name that points forwards or to itself")
            lowest = at
            continue
        if length & _POINTER:
            raise WireError(f"a label of unknown type {length >> 6}")
        label = data[at + 1 : at + 1 + length]
        size += length + 1
        if len(label) < length or size > _NAME_LIMIT:
            raise WireError("a name that is cut off or too long")
        labels.append(label)
        at += 1 + length
    return tuple(labels), at + 1 if end is None else end


def _options(data: bytes, at: int, end: int) -> tuple[tuple[int, bytes], ...]:
    found = []
    while at < end:
        code, length = struct.unpack_from("!2H", data, at)
        if at + 4 + length > end:
            raise WireError("an option that is cut off")
        found.append((code, data[at + 4 : at + 4 + length]))
        at += 4 + length
    return tuple(found)


def _read_data(kind: int, data: bytes, at: int, end: int) -> Data:
    raw = data[at:end]
    match kind:
        case 1 if len(raw) == 4:
            return Host(IPv4Address(raw))
        case 28 if len(raw) == 16:
            return Host(IPv6Address(raw))
        case 2 | 5 | 12:
            target, at = _read_name(data, at)
            read: Data = Pointer(kind, target)
        case 33:
            priority, weight, port = struct.unpack_from("!3H", data, at)
            target, at = _read_name(data, at + 6)
            read = Srv(priority, weight, port, target)
        case 6:
            server, at = _read_name(data, at)
            mailbox, at = _read_name(data, at)
            read = Soa(server, mailbox, struct.unpack_from("!5I", data, at))
            at += 20
        case 1 | 28:
            raise WireError(f"an address of {len(raw)} bytes")
        case _:
            return Raw(kind, raw)
    if at != end:
        raise WireError("a record that is longer or shorter than it says")
    return read


# Writing


def render(message: Message, limit: int = MAX_MESSAGE) -> bytes:
    """The bytes of a message, names compressed.

    What is longer than ``limit`` becomes the same with no records and the truncated bit, for the
    client to ask again over TCP.  Raises WireError for what fits no message.
    """
    data = _render(message)
    if len(data) <= limit:
        return data
    short = msgspec.structs.replace(
        message, truncated=True, answers=(), authority=(), additional=()
    )
    return _render(short)


def _render(message: Message) -> bytes:
    flags = (
        (_RESPONSE if message.response else 0)
        | message.opcode << 11
        | (_AUTHORITATIVE if message.authoritative else 0)
        | (_TRUNCATED if message.truncated else 0)
        | (_RECURSE if message.recursion_desired else 0)
        | (_RECURSING if message.recursion_available else 0)
        | message.code & 0xF
    )
    sections = (message.answers, message.authority, message.additional)
    counts = [len(section) for section in sections]
    counts[2] += message.edns is not None
    writer = _Writer()
    writer.out += _HEADER.pack(message.id, flags, message.question is not None, *counts)
    if message.question:
        writer.name(message.question.name)
        writer.out += _QUESTION.pack(message.question.kind, message.question.klass)
    for section in sections:
        for record in section:
            writer.record(record)
    if message.edns:
        edns = message.edns
        options = b"".join(struct.pack("!2H", c, len(data)) + data for c, data in edns.options)
        ttl = message.code >> 4 << 24 | edns.version << 16
        writer.out += b"\0" + _RECORD.pack(OPT, edns.size, ttl, len(options)) + options
    return bytes(writer.out)


class _Writer:
    def __init__(self) -> None:
        self.out = bytearray()
        self._known: dict[Name, int] = {}

    def name(self, spelled: Name) -> None:
        if sum(map(len, spelled)) + len(spelled) + 1 > _NAME_LIMIT:
            raise WireError("a name that is too long")
        for index, label in enumerate(spelled):
            rest = lower(spelled[index:])
            known = self._known.get(rest)
            if known is not None:
                self.out += struct.pack("!H", _POINTER << 8 | known)
                return
            if len(self.out) < _POINTER_LIMIT:
                self._known[rest] = len(self.out)
            if not 0 < len(label) < 64:
                raise WireError(f"a label of {len(label)} bytes")
            self.out.append(len(label))
            self.out += label
        self.out.append(0)

    def record(self, record: Record) -> None:
        self.name(record.name)
        self.out += _RECORD.pack(record.data.kind, IN, record.ttl, 0)
        start = len(self.out)
        match record.data:
            case Host() as host:
                self.out += host.ip.packed
            case Pointer() as pointer:
                self.name(pointer.name)
            case Srv() as srv:
                self.out += struct.pack("!3H", srv.priority, srv.weight, srv.port)
                self._whole(srv.target)
            case Soa() as soa:
                self.name(soa.server)
                self.name(soa.mailbox)
                self.out += struct.pack("!5I", *soa.times)
            case Raw() as raw:
                self.out += raw.data
        struct.pack_into("!H", self.out, start - 2, len(self.out) - start)

    def _whole(self, spelled: Name) -> None:
        """Without compression: not every client expects it in SRV (RFC 2782)."""
        for label in spelled:
            if not 0 < len(label) < 64:
                raise WireError(f"a label of {len(label)} bytes")
            self.out.append(len(label))
            self.out += label
        self.out.append(0)
