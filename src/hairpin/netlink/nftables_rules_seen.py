"""Rules of nf_tables read back: expressions on registers become statements.

The opposite of ``nftables_rules``, for all that it writes and for the same in nft's own hand.
A rule with anything else in it comes as ``Opaque`` statements, one for each expression.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TypeVar

import msgspec

from hairpin.model.address import from_packed, network_of
from hairpin.netlink import message as wire
from hairpin.netlink import nftables_format as form
from hairpin.netlink import nftables_values as values
from hairpin.state.nftables import (
    Chance,
    Counter,
    Dnat,
    Field,
    InSet,
    KeyType,
    Masquerade,
    Match,
    NftRule,
    OneOf,
    Opaque,
    RandomDnat,
    RandomVerdict,
    Reject,
    SetMark,
    SetTrace,
    Statement,
    Target,
    UpdateSet,
    Value,
    Verdict,
    VerdictMap,
)

_T = TypeVar("_T")
_WHOLE = 0xFFFFFFFF
_MASQ_FULLY_RANDOM = 0x10
_PORT_UNREACHABLE = ((0, 3), (0, 4), (2, 1))  # NFT_REJECT_*, code: of ip, ip6, inet


class Member(msgspec.Struct, frozen=True):
    """One element of an anonymous set: bytes of its key, and what a map has for it."""

    key: bytes
    data: bytes | Verdict | None = None
    end: bool = False


class AnonymousSet(msgspec.Struct, frozen=True):
    """What an anonymous set holds; of an ``interval`` set where each begins and has ended."""

    members: tuple[Member, ...]
    interval: bool = False


Anonymous = Mapping[str, AnonymousSet]
"""The anonymous sets of a table, by name."""


class _UnknownError(Exception):
    """Something that no statement of ours says."""


class _Seen(msgspec.Struct):
    """What is in the registers from 1 on."""

    fields: list[Field]
    size: int = 0  # bytes loaded of the last field, for a prefix of it
    words: int = 0  # registers of four bytes that are filled
    mask: bytes | None = None
    xor: bytes = b""
    random: int = 0  # what numgen chooses from
    targets: tuple[Target, ...] = ()
    constants: dict[int, bytes] = msgspec.field(default_factory=dict)


def decode(expressions: bytes, sets: Anonymous, comment: str = "") -> NftRule:
    """The rule of these expressions (NFTA_RULE_EXPRESSIONS).  Raises WireError."""
    rows = list(_rows(expressions))
    try:
        return NftRule(tuple(_statements(rows, sets)), comment)
    except _UnknownError:
        return NftRule(tuple(Opaque(name=name, data=data) for name, data in rows), comment)


def _rows(expressions: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and attributes of each expression."""
    at, end = 0, len(expressions)
    while end - at >= 4:
        length, _ = wire.ATTRIBUTE.unpack_from(expressions, at)
        if length < 4 or at + length > end:
            raise wire.WireError(f"an expression of {length} bytes at offset {at} of {end}")
        found = wire.attributes(expressions[at + 4 : at + length])
        yield wire.string(found.get(form.EXPR_NAME, b"")), found.get(form.EXPR_DATA, b"")
        at += (length + 3) & ~3


def _statements(rows: list[tuple[str, bytes]], sets: Anonymous) -> Iterator[Statement]:
    seen = _Seen([])
    for name, data in rows:
        if name in _LOADS:
            field, size, to = _loaded(name, data)
            if field is not None:
                if to != form.register(seen.words) or seen.random or seen.constants:
                    raise _UnknownError
                seen.fields.append(field)
                seen.size = size
                seen.words += (size + 3) // 4
                continue
        found = wire.attributes(data)
        made = _step(name, found, seen, sets)
        if made is not None:
            yield made
            seen = _Seen([])
    if seen.fields or seen.random or seen.constants or seen.targets:
        raise _UnknownError


def _step(name: str, found: dict[int, bytes], seen: _Seen, sets: Anonymous) -> Statement | None:
    """The statement that is complete with this expression; None when more must come."""
    match name:
        case "bitwise":
            _same(found, 1, form.REG_1)
            _same(found, 2, form.REG_1)
            if _number(found, 6) or seen.mask is not None or not seen.fields:
                raise _UnknownError
            seen.mask, seen.xor = _data(found, 4), _data(found, 5)
            return None
        case "numgen":
            if _number(found, 1) != form.REG_1 or _number(found, 3) != 1 or _number(found, 4):
                raise _UnknownError
            seen.random = _number(found, 2)
            return None
        case "immediate":
            if _number(found, 1) == form.REG_VERDICT:
                verdict = wire.attributes(found.get(2, b"")).get(form.DATA_VERDICT)
                return _known(values.read_verdict(verdict) if verdict is not None else None)
            seen.constants[_number(found, 1)] = _data(found, 2)
            return None
        case "cmp":
            return _compared(found, seen)
        case "lookup":
            return _looked_up(found, seen, sets)
        case "meta":
            return _meta_set(found, seen)
        case "nat":
            return _nat(found, seen)
        case "masq":
            flags = _number(found, 1)
            if flags not in (0, _MASQ_FULLY_RANDOM) or 2 in found or 3 in found:
                raise _UnknownError
            return Masquerade(fully_random=bool(flags))
        case "reject":
            if (_number(found, 1), wire.number(found.get(2, b""))) not in _PORT_UNREACHABLE:
                raise _UnknownError
            return Reject()
        case "dynset":
            if _number(found, 3) != 1 or _number(found, 4) != form.REG_1 or len(seen.fields) != 1:
                raise _UnknownError
            # Data, a timeout of its own, an expression, flags, expressions.
            if any(any(found.get(one, b"")) for one in (5, 6, 7, 9, 10)):
                raise _UnknownError
            return UpdateSet(set=wire.string(found.get(1, b"")), field=seen.fields[0])
        case "counter":
            return Counter()
        case _:
            raise _UnknownError


_LOADS = frozenset(("payload", "meta", "ct", "fib"))


@lru_cache(maxsize=1 << 10)
def _loaded(name: str, data: bytes) -> tuple[Field | None, int, int]:
    """What a load puts where: the field, its bytes, the register.

    None for the field when the expression loads nothing (``meta mark set``).
    """
    found = wire.attributes(data)
    field: Field | None = None
    size = 4
    if name == "payload":
        if 1 not in found:
            raise _UnknownError
        field = form.PAYLOAD_FIELDS.get((_number(found, 2), _number(found, 3)))
        size = _number(found, 4)
        if field is not None and size > form.PAYLOADS[field][2]:
            field = None
    elif name == "meta":
        if 3 in found:
            return None, 0, 0
        field = form.META_FIELDS.get(_number(found, 2))
    elif name == "ct":
        field = form.CT_FIELDS.get(_number(found, 2)) if 3 not in found else None
    elif _number(found, 2) == form.FIB_TYPE:
        field = form.FIB_FIELDS.get(_number(found, 3))
    if field is None:
        raise _UnknownError
    type = form.FIELD_TYPES[field]
    if name != "payload" and type is not None:
        size = form.TYPES[type][1]
    return field, size, _number(found, 1)


def _compared(found: dict[int, bytes], seen: _Seen) -> Statement:
    operator, data = _number(found, 2), _data(found, 3)
    if _number(found, 1) != form.REG_1 or operator not in (form.CMP_EQ, form.CMP_NEQ):
        raise _UnknownError
    if seen.random:
        if operator != form.CMP_EQ or any(data) or seen.random == 0:
            raise _UnknownError
        return Chance(of=seen.random)
    if len(seen.fields) != 1:
        raise _UnknownError
    field = seen.fields[0]
    negated = operator == form.CMP_NEQ
    if seen.mask is not None and any(seen.xor):
        raise _UnknownError
    if field in form.CTS:
        if any(data) or seen.mask is None:
            raise _UnknownError
        words = _known(values.read_words(field, seen.mask))
        return Match(field=field, value=words, negated=not negated)
    if field in form.FIBS:
        if seen.mask is not None:
            raise _UnknownError
        return Match(field=field, value=_known(values.read_words(field, data)), negated=negated)
    type = _type(field)
    if type in ("ipv4_addr", "ipv6_addr"):
        return Match(field=field, value=_network(field, data, seen), negated=negated)
    if type == "ifname":
        if seen.mask is not None:
            raise _UnknownError
        whole = len(data) == form.TYPES["ifname"][1]
        return Match(field=field, value=wire.string(data) + ("" if whole else "*"), negated=negated)
    if len(data) != form.TYPES[type][1] or (seen.mask is not None and field != "meta mark"):
        raise _UnknownError
    mask = wire.number(seen.mask) if seen.mask is not None else None
    return Match(field=field, value=values.read_part(type, data), negated=negated, mask=mask)


def _network(field: Field, data: bytes, seen: _Seen) -> Value:
    size = form.PAYLOADS[field][2]
    if len(data) != seen.size:
        raise _UnknownError
    if seen.mask is None:
        if len(data) == size:
            return from_packed(data)
        return network_of(data.ljust(size, b"\0"), len(data) * 8)
    bits = int.from_bytes(seen.mask, "big")
    host = (1 << size * 8) - 1 - bits
    if len(data) != size or host & host + 1 or int.from_bytes(data, "big") & host:
        raise _UnknownError
    return network_of(data, size * 8 - host.bit_length())


def _looked_up(found: dict[int, bytes], seen: _Seen, sets: Anonymous) -> Statement | None:
    name = wire.string(found.get(1, b""))
    to = _number(found, 3) if 3 in found else None
    flags = _number(found, 5)
    if _number(found, 2) != form.REG_1 or flags not in (0, 1) or seen.mask is not None:
        raise _UnknownError
    known = sets.get(name)
    if seen.random:
        if known is None or flags or to is None:
            raise _UnknownError
        return _chosen(known.members, seen, to)
    fields = tuple(seen.fields)
    if not fields:
        raise _UnknownError
    if known is None:
        if to is None:
            return InSet(fields=fields, set=name, negated=bool(flags))
        if to != form.REG_VERDICT or flags:
            raise _UnknownError
        return VerdictMap(fields=fields, map=name)
    if len(fields) != 1 or to is not None:
        raise _UnknownError
    return OneOf(field=fields[0], values=_alternatives(fields[0], known), negated=bool(flags))


def _chosen(members: tuple[Member, ...], seen: _Seen, to: int) -> Statement | None:
    """One of the members, by chance: a verdict, or the address and port that ``nat`` wants."""
    rows = sorted(members, key=lambda one: wire.number(one.key))
    if [wire.number(one.key) for one in rows] != list(range(seen.random)):
        raise _UnknownError
    if to == form.REG_VERDICT:
        verdicts = [one.data for one in rows]
        if not all(isinstance(one, Verdict) for one in verdicts):
            raise _UnknownError
        return RandomVerdict(verdicts=tuple(verdicts))  # type: ignore[arg-type]  # seen just now
    targets = []
    for one in rows:
        if to != form.REG_1 or not isinstance(one.data, bytes) or len(one.data) not in (8, 20):
            raise _UnknownError
        port = int.from_bytes(one.data[-4:-2], "big")
        targets.append(Target(from_packed(one.data[:-4]), port))
    seen.targets = tuple(targets)
    return None


def _alternatives(field: Field, of: AnonymousSet) -> tuple[Value, ...]:
    type = _type(field)
    if not of.interval:
        parts = [one.key for one in sorted(of.members, key=lambda one: one.key)]
        if any(len(one) != form.TYPES[type][1] for one in parts):
            raise _UnknownError
        return tuple(values.read_part(type, one) for one in parts)
    found: list[Value] = []
    for first, after in pairs(of.members):
        some = values.networks(first, after)
        if not some:
            raise _UnknownError
        found += some
    return tuple(found)


def pairs(members: tuple[Member, ...]) -> Iterator[tuple[bytes, bytes | None]]:
    """Where each interval of a set begins, and where it has ended; None: at the last address."""
    first: bytes | None = None
    for one in sorted(members, key=lambda one: (one.key, not one.end)):
        if first is not None:
            yield first, one.key
        first = None if one.end else one.key
    if first is not None:
        yield first, None


def _meta_set(found: dict[int, bytes], seen: _Seen) -> Statement:
    if _number(found, 3) != form.REG_1:
        raise _UnknownError
    if _number(found, 2) == form.META_NFTRACE:
        if seen.constants != {form.REG_1: b"\1"} or seen.fields:
            raise _UnknownError
        return SetTrace()
    if _number(found, 2) != form.META_MARK or seen.fields != ["meta mark"] or seen.mask is None:
        raise _UnknownError
    mask, xor = wire.number(seen.mask), wire.number(seen.xor)
    if mask == _WHOLE:
        return SetMark(operator="^", bits=xor)
    if mask == _WHOLE & ~xor:
        return SetMark(operator="|", bits=xor)
    if not xor:
        return SetMark(operator="&", bits=mask)
    raise _UnknownError


def _nat(found: dict[int, bytes], seen: _Seen) -> Statement:
    address, port = _number(found, 3), _number(found, 5)
    ranges = _number(found, 4) not in (0, address) or _number(found, 6) not in (0, port)
    if _number(found, 1) != 1 or address != form.REG_1 or ranges or _number(found, 7) & ~0x3:
        raise _UnknownError
    if seen.targets:
        if port != form.register(len(seen.targets[0].ip.packed) // 4):
            raise _UnknownError
        return RandomDnat(targets=seen.targets)
    if set(seen.constants) != {address, port} or len(seen.constants[port]) != 2:
        raise _UnknownError
    ip = from_packed(seen.constants[address])
    return Dnat(ip=ip, port=int.from_bytes(seen.constants[port], "big"))


def _number(found: dict[int, bytes], kind: int) -> int:
    """A number in network byte order; 0 when it is not said."""
    return int.from_bytes(found.get(kind, b""), "big")


def _same(found: dict[int, bytes], kind: int, wanted: int) -> None:
    if _number(found, kind) != wanted:
        raise _UnknownError


def _data(found: dict[int, bytes], kind: int) -> bytes:
    value = wire.attributes(found.get(kind, b"")).get(form.DATA_VALUE)
    if value is None:
        raise _UnknownError
    return value


def _type(field: Field) -> KeyType:
    type = form.FIELD_TYPES[field]
    if type is None:
        raise _UnknownError
    return type


def _known(value: _T | None) -> _T:
    if value is None:
        raise _UnknownError
    return value
