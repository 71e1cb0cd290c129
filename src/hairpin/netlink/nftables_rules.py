"""Rules of nf_tables as the kernel has them: statements become expressions on registers.

As nft(8) writes them, so that it can read them back: a match loads into register 1 and compares
there, a prefix is a mask before the comparison (or fewer bytes loaded, where it ends with a byte),
an inline set is an anonymous set of its own.  Expressions are the bytes of NFTA_RULE_EXPRESSIONS.
"""

from __future__ import annotations

import sys
from binascii import b2a_base64
from functools import lru_cache
from hashlib import blake2b

import msgspec

from hairpin.model.address import Network
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
    NftFamily,
    NftRule,
    OneOf,
    Opaque,
    RandomDnat,
    RandomVerdict,
    Reject,
    SetMark,
    SetTrace,
    Statement,
    UpdateSet,
    Verdict,
    VerdictMap,
)

_NAT_DNAT = 1
_NAT_PROTO_SPECIFIED = 0x2
_MASQ_FULLY_RANDOM = 0x10  # NF_NAT_RANGE_PROTO_RANDOM_FULLY, nf_nat.h
_REJECT_ICMP = 0  # NFT_REJECT_ICMP_UNREACH
_PORT_UNREACHABLE = {"ip": 3, "ip6": 4, "inet": 1}
_REJECT_ICMPX = 2
_NUMGEN_RANDOM = 1
_DYNSET_UPDATE = 1
_LOOKUP_INVERTED = 1
_WHOLE = 0xFFFFFFFF
_MOST_NESTED = 60_000  # bytes; the length of an attribute has 16 bits
_NAME = (
    7  # bytes: 42 bits of the digest; one of 10 000 sets has another's name in 1 of 80 000 tables
)


class Inline(msgspec.Struct, frozen=True):
    """An anonymous set that a rule brings along: as attributes, in the kernel's form.

    ``elements`` are NFTA_LIST_ELEM attributes, in blocks that each fit into a nest; sizes in
    bytes; ``data_size`` 0: no map, or one of verdicts.
    """

    name: str
    flags: int
    key_type: int
    key_size: int
    elements: tuple[bytes, ...]
    count: int
    data_type: int = 0
    data_size: int = 0


def inline_name(seed: bytes, elements: tuple[bytes, ...]) -> str:
    """What an anonymous set with these elements is called.

    A digest of whose it is and what it holds: nobody else in the table has the name, and who
    knows what a chain should hold need not read the elements to see that they are right (they
    cannot change: the set is constant).  Seven bytes: the kernel compares each new name with
    that of every set of the table, which takes two thirds of the time when each name with its
    final zero fills an eighth of a cache line.
    """
    digest = blake2b(seed, digest_size=6)
    for block in elements:
        digest.update(block)
    return b2a_base64(digest.digest(), newline=False)[:_NAME].decode()


def encode(rule: NftRule, family: NftFamily, seed: bytes = b"") -> tuple[bytes, list[Inline]]:
    """The expressions of a rule, and the anonymous sets that must be there before it.

    ``seed`` tells their names from those of all other rules of the table.  Raises ValueError for
    a statement that makes no sense in this family.
    """
    parts: list[bytes] = []
    sets: list[Inline] = []
    for statement in rule.statements:
        match statement:
            case RandomDnat():
                expressions, inline = _random_dnat(statement, seed + bytes((len(sets),)))
            case RandomVerdict():
                expressions, inline = _random_verdict(statement, seed + bytes((len(sets),)))
            case OneOf():
                expressions, inline = _one_of(statement, seed + bytes((len(sets),)))
            case _:
                parts.append(_plain(statement, family))
                continue
        parts.append(expressions)
        sets.append(inline)
    return b"".join(parts), sets


@lru_cache(maxsize=1 << 12)
def _plain(statement: Statement, family: NftFamily) -> bytes:
    """A statement that needs no set of its own."""
    match statement:
        case Verdict():
            return _immediate(form.REG_VERDICT, values.verdict(statement))
        case Match():
            return _match(statement)
        case InSet():
            flags = _LOOKUP_INVERTED if statement.negated else 0
            return load(statement.fields) + _lookup(statement.set, flags=flags)
        case VerdictMap():
            return load(statement.fields) + _lookup(statement.map, to=form.REG_VERDICT)
        case Chance():
            return _numgen(statement.of) + _compare(form.CMP_EQ, bytes(4))
        case SetMark():
            mask, xor = {
                "|": (_WHOLE & ~statement.bits, statement.bits),
                "^": (_WHOLE, statement.bits),
                "&": (statement.bits, 0),
            }[statement.operator]
            return (
                _load_one("meta mark", 0)
                + _bitwise(_host(mask), _host(xor))
                + expression("meta", form.be32(2, form.META_MARK), form.be32(3, form.REG_1))
            )
        case SetTrace():
            return _immediate(form.REG_1, values.data(b"\1")) + expression(
                "meta", form.be32(2, form.META_NFTRACE), form.be32(3, form.REG_1)
            )
        case Reject():
            kind = _REJECT_ICMPX if family == "inet" else _REJECT_ICMP
            return expression("reject", form.be32(1, kind), wire.u8(2, _PORT_UNREACHABLE[family]))
        case Masquerade():
            full = form.be32(1, _MASQ_FULLY_RANDOM) if statement.fully_random else b""
            return expression("masq", full)
        case Dnat():
            return (
                _immediate(form.REG_1, values.data(statement.ip.packed))
                + _immediate(form.REG_2, values.data(statement.port.to_bytes(2, "big")))
                + _nat(statement.ip.version, form.REG_2, _NAT_PROTO_SPECIFIED)
            )
        case UpdateSet():
            return load((statement.field,)) + expression(
                "dynset",
                wire.text(1, statement.set),
                form.be32(3, _DYNSET_UPDATE),
                form.be32(4, form.REG_1),
            )
        case Counter():
            return expression("counter")
        case Opaque():
            return _element(statement.name, statement.data)
        case _:
            raise ValueError(f"no statement: {statement}")


def _match(wanted: Match) -> bytes:
    field, value = wanted.field, wanted.value
    operator = form.CMP_NEQ if wanted.negated else form.CMP_EQ
    if field in form.CTS:
        bits = values.words(field, value)
        # Any of the bits; that none is set is the opposite of it.
        operator = form.CMP_EQ if wanted.negated else form.CMP_NEQ
        return _load_one(field, 0) + _bitwise(bits, bytes(4)) + _compare(operator, bytes(4))
    if field in form.FIBS:
        return _load_one(field, 0) + _compare(operator, values.words(field, value))
    type = form.FIELD_TYPES[field]
    assert type is not None
    if values.is_network(value):
        return _match_network(field, value, operator)  # type: ignore[arg-type]  # seen just now
    if type == "ifname" and isinstance(value, str) and value.endswith("*"):
        return _load_one(field, 0) + _compare(operator, value[:-1].encode())
    packed = values.pack_part(type, value)
    if wanted.mask is not None:
        if field != "meta mark":
            raise ValueError(f"{field} is compared without a mask")
        mask = _bitwise(_host(wanted.mask), bytes(4))
        return _load_one(field, 0) + mask + _compare(operator, packed)
    return _load_one(field, 0) + _compare(operator, packed)


def _match_network(field: Field, network: Network, operator: int) -> bytes:
    if form.FIELD_TYPES[field] != f"ipv{network.version}_addr":
        raise ValueError(f"{field} is never in {network}")
    base, offset, size = form.PAYLOADS[field]
    whole, bits = divmod(network.prefixlen, 8)
    packed = network.network_address.packed
    if not bits and whole:  # as nft does: fewer bytes, no mask
        return payload(base, offset, whole, form.REG_1) + _compare(operator, packed[:whole])
    mask = network.netmask.packed
    load = payload(base, offset, size, form.REG_1)
    return load + _bitwise(mask, bytes(size)) + _compare(operator, packed)


def _one_of(wanted: OneOf, seed: bytes) -> tuple[bytes, Inline]:
    type = form.FIELD_TYPES[wanted.field]
    if type is None:
        raise ValueError(f"{wanted.field} is no part of a key")
    flags = form.FLAG_ANONYMOUS | form.FLAG_CONSTANT
    if any(values.is_network(one) for one in wanted.values):
        flags |= form.FLAG_INTERVAL
        rows = values.intervals(wanted.values)
    else:
        rows = [values.element(values.pack_part(type, one)) for one in wanted.values]
    elements = _blocks(rows)
    name = inline_name(seed, elements)
    number, size = form.TYPES[type]
    inverted = _LOOKUP_INVERTED if wanted.negated else 0
    expressions = _load_one(wanted.field, 0) + _lookup(name, flags=inverted)
    return expressions, Inline(name, flags, number, size, elements, len(rows))


def _random_verdict(wanted: RandomVerdict, seed: bytes) -> tuple[bytes, Inline]:
    rows = [
        values.element(_host(at), values.verdict(one)) for at, one in enumerate(wanted.verdicts)
    ]
    made = _choices(seed, rows, form.TYPE_VERDICT, 0)
    return _numgen(made.count) + _lookup(made.name, to=form.REG_VERDICT), made


def _random_dnat(wanted: RandomDnat, seed: bytes) -> tuple[bytes, Inline]:
    """Written out for speed: there is one for each Service, with all its endpoints."""
    version = wanted.targets[0].ip.version
    rows: list[bytes] = []
    for at, target in enumerate(wanted.targets):
        if target.ip.version != version:
            raise ValueError(f"{target.ip} beside {wanted.targets[0].ip} in one statement")
        rows.append(_choice(at, version) + target.ip.packed + _port(target.port))
    types = _ENDS[version]
    made = _choices(seed, rows, form.type_number(types), form.key_size(types))
    lookup = _lookup(made.name, to=form.REG_1)
    return _numgen(made.count) + lookup + _nat(version, _PORTS[version]), made


_ENDS: dict[int, tuple[KeyType, ...]] = {
    4: ("ipv4_addr", "inet_service"),
    6: ("ipv6_addr", "inet_service"),
}
_PORTS = {4: form.register(1), 6: form.register(4)}
"""Where the port is when address and port were loaded from register 1 on."""


@lru_cache(maxsize=1 << 12)
def _choice(number: int, version: int) -> bytes:
    """What is before address and port in an element of ``_random_dnat``."""
    size = form.key_size(_ENDS[version])
    key = wire.nested(form.ELEM_KEY, values.data(_host(number)))
    value = wire.ATTRIBUTE.pack(4 + size, form.DATA_VALUE)
    nest = wire.ATTRIBUTE.pack(8 + size, form.ELEM_DATA | wire.NLA_F_NESTED)
    whole = 4 + len(key) + len(nest) + len(value) + size
    return wire.ATTRIBUTE.pack(whole, form.LIST_ELEM | wire.NLA_F_NESTED) + key + nest + value


@lru_cache(maxsize=1 << 10)
def _port(port: int) -> bytes:
    return port.to_bytes(2, "big") + bytes(2)


def _choices(seed: bytes, rows: list[bytes], type: int, size: int) -> Inline:
    """The map of what ``numgen`` chooses from; ``rows`` are its elements."""
    flags = form.FLAG_ANONYMOUS | form.FLAG_CONSTANT | form.FLAG_MAP
    elements = _blocks(rows)
    name = inline_name(seed, elements)
    return Inline(name, flags, form.TYPE_INTEGER, 4, elements, len(rows), type, size)


def _blocks(rows: list[bytes]) -> tuple[bytes, ...]:
    """Elements in as few nests as hold them."""
    if sum(map(len, rows)) <= _MOST_NESTED:
        return (b"".join(rows),)
    blocks: list[bytes] = []
    block = b""
    for row in rows:
        if len(block) + len(row) > _MOST_NESTED:
            blocks.append(block)
            block = b""
        block += row
    return (*blocks, block)


def load(fields: tuple[Field, ...]) -> bytes:
    """Loads fields into registers from register 1 on, side by side as in a key."""
    word = 0
    parts = []
    for field in fields:
        type = form.FIELD_TYPES[field]
        if type is None:
            raise ValueError(f"{field} is no part of a key")
        parts.append(_load_one(field, word))
        word += (form.TYPES[type][1] + 3) // 4
    return b"".join(parts)


def _load_one(field: Field, word: int) -> bytes:
    to = form.register(word)
    if field in form.PAYLOADS:
        base, offset, size = form.PAYLOADS[field]
        return payload(base, offset, size, to)
    if field in form.METAS:
        return expression("meta", form.be32(2, form.METAS[field]), form.be32(1, to))
    if field in form.CTS:
        return expression("ct", form.be32(2, form.CTS[field]), form.be32(1, to))
    flags = form.be32(3, form.FIBS[field])
    return expression("fib", flags, form.be32(2, form.FIB_TYPE), form.be32(1, to))


def payload(base: int, offset: int, size: int, to: int) -> bytes:
    return expression(
        "payload", form.be32(1, to), form.be32(2, base), form.be32(3, offset), form.be32(4, size)
    )


def expression(name: str, *attributes: bytes) -> bytes:
    """One expression with its attributes."""
    return _element(name, b"".join(attributes))


def _element(name: str, attributes: bytes) -> bytes:
    return wire.nested(
        form.LIST_ELEM,
        wire.text(form.EXPR_NAME, name),
        wire.nested(form.EXPR_DATA, attributes),
    )


@lru_cache(maxsize=1 << 8)
def _numgen(count: int) -> bytes:
    return expression(
        "numgen", form.be32(1, form.REG_1), form.be32(2, count), form.be32(3, _NUMGEN_RANDOM)
    )


def _lookup(name: str, *, to: int | None = None, flags: int = 0) -> bytes:
    parts = [form.be32(2, form.REG_1)]
    if to is not None:
        parts.append(form.be32(3, to))
    if flags:
        parts.append(form.be32(5, flags))
    return expression("lookup", wire.text(1, name), *parts)


def _nat(version: int, port: int, flags: int = 0) -> bytes:
    """DNAT to the address in register 1 and the port in register ``port``."""
    parts = [
        form.be32(1, _NAT_DNAT),
        form.be32(2, form.FAMILIES["ip" if version == 4 else "ip6"]),
        form.be32(3, form.REG_1),
        form.be32(5, port),
    ]
    if flags:
        parts.append(form.be32(7, flags))
    return expression("nat", *parts)


def _immediate(to: int, data: bytes) -> bytes:
    return expression("immediate", form.be32(1, to), wire.nested(2, data))


def _compare(operator: int, value: bytes) -> bytes:
    data = wire.nested(3, values.data(value))
    return expression("cmp", form.be32(1, form.REG_1), form.be32(2, operator), data)


def _bitwise(mask: bytes, xor: bytes) -> bytes:
    return expression(
        "bitwise",
        form.be32(1, form.REG_1),
        form.be32(2, form.REG_1),
        form.be32(3, len(mask)),
        wire.nested(4, values.data(mask)),
        wire.nested(5, values.data(xor)),
    )


def _host(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)
