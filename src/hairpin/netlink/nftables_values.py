"""Keys, verdicts and data of nf_tables as bytes, and back.

A part of a key is in network byte order, but for marks, which the kernel keeps in its own; each
part of a concatenation fills up to four bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, summarize_address_range
from typing import Any, get_args

from hairpin.model.address import IP, Network, from_packed, network_of
from hairpin.netlink import message as wire
from hairpin.netlink import nftables_format as form
from hairpin.state.nftables import Field, Key, KeyType, Value, Verdict

_IFNAMSIZ = 16
_NETWORK: Any = get_args(Network) or (Network,)


def pack_key(types: tuple[KeyType, ...], key: Key) -> bytes:
    """The bytes of a key.  Raises ValueError for a value that is not of its type."""
    if len(types) != len(key):
        raise ValueError(f"a key of {len(key)} parts for {' . '.join(types)}")
    if len(types) == 1:
        return pack_part(types[0], key[0])
    parts = []
    for type, value in zip(types, key, strict=True):
        packed = _fixed(type, value) if type in _FEW else pack_part(type, value)
        parts.append(packed + bytes(-len(packed) & 3))
    return b"".join(parts)


def pack_part(type: KeyType, value: Value) -> bytes:
    """One part of a key.  Raises ValueError."""
    match type, value:
        case "ipv4_addr", IPv4Address():
            return value._ip.to_bytes(4, "big")  # type: ignore[attr-defined,no-any-return]
        case "ipv6_addr", IPv6Address():
            return value._ip.to_bytes(16, "big")  # type: ignore[attr-defined,no-any-return]
        case "inet_proto", str() if value in form.PROTOCOLS:
            return bytes((form.PROTOCOLS[value],))
        case "inet_proto", str() if value.isdecimal() and int(value) < 1 << 8:
            return bytes((int(value),))
        case "inet_service", int() if 0 <= value < 1 << 16:
            return value.to_bytes(2, "big")
        case "mark", int() if 0 <= value < 1 << 32:
            return value.to_bytes(4, sys.byteorder)
        case "ifname", str() if len(value.encode()) < _IFNAMSIZ:
            return value.encode().ljust(_IFNAMSIZ, b"\0")
        case _:
            raise ValueError(f"{value} is no {type}")


def read_key(types: tuple[KeyType, ...], packed: bytes) -> Key:
    """The key of these bytes.  Raises WireError."""
    if len(packed) != form.key_size(types):
        raise wire.WireError(f"a key of {len(packed)} bytes for {' . '.join(types)}")
    found = []
    at = 0
    for type in types:
        size = form.TYPES[type][1]
        found.append(read_part(type, packed[at : at + size]))
        at += size + 3 & ~3
    return tuple(found)


def read_part(type: KeyType, packed: bytes) -> Value:
    """The value of one part of a key, or of a whole key."""
    match type:
        case "ipv4_addr" | "ipv6_addr":
            return from_packed(packed)
        case "inet_proto":
            return form.PROTOCOL_NAMES.get(packed[0], str(packed[0]))
        case "mark":
            return wire.number(packed)
        case "ifname":
            return wire.string(packed)
        case _:
            return int.from_bytes(packed, "big")


def words(field: Field, text: Value) -> bytes:
    """The bits or number of a word of ``ct`` or ``fib``.  Raises ValueError."""
    known = form.CT_WORDS.get(field, form.FIB_WORDS)
    bits = 0
    for word in str(text).split(","):
        if word not in known:
            raise ValueError(f"{field} knows no {word}")
        bits |= known[word]
    return bits.to_bytes(4, sys.byteorder)


def read_words(field: Field, packed: bytes) -> str | None:
    """The words of these bits or this number; None when there is none for some."""
    number = wire.number(packed)
    if field in form.FIBS:
        return form.FIB_NAMES.get(number)
    found = [word for word, bit in form.CT_WORDS[field].items() if number & bit]
    whole = sum(form.CT_WORDS[field][word] for word in found)
    return ",".join(found) if found and whole == number else None


def data(value: bytes) -> bytes:
    """The attribute of plain data (NFTA_DATA_VALUE)."""
    return wire.attribute(form.DATA_VALUE, value)


@lru_cache(maxsize=1 << 8)
def verdict(wanted: Verdict) -> bytes:
    """The attribute of a verdict (NFTA_DATA_VERDICT)."""
    code = form.VERDICTS[wanted.kind] & 0xFFFFFFFF
    inner = form.be32(form.VERDICT_CODE, code)
    if wanted.chain:
        inner += wire.text(form.VERDICT_CHAIN, wanted.chain)
    return wire.nested(form.DATA_VERDICT, inner)


def read_verdict(packed: bytes) -> Verdict | None:
    """What is in NFTA_DATA_VERDICT; None for what rules of ours never have (queue, break)."""
    found = wire.attributes(packed)
    code = int.from_bytes(found.get(form.VERDICT_CODE, b""), "big")
    name = form.VERDICT_NAMES.get(code - (1 << 32) if code >> 31 else code)
    if name is None:
        return None
    return Verdict(name, wire.string(found.get(form.VERDICT_CHAIN, b"")))  # type: ignore[arg-type]


def bounds(network: Network) -> tuple[bytes, bytes | None]:
    """The first address of a network, and the one after its last; None where there is none."""
    size = network.max_prefixlen // 8
    first = int(network.network_address)
    after = first + network.num_addresses
    return first.to_bytes(size, "big"), (
        after.to_bytes(size, "big") if after >> size * 8 == 0 else None
    )


def between(first: bytes, after: bytes | None) -> IP | Network | None:
    """The network or address of these bounds; None when it is neither."""
    start = int.from_bytes(first, "big")
    end = int.from_bytes(after, "big") if after is not None else 1 << len(first) * 8
    size = end - start
    if size <= 0 or size & size - 1 or start % size:
        return None
    prefix = len(first) * 8 - size.bit_length() + 1
    return from_packed(first) if size == 1 else network_of(first, prefix)


def networks(first: bytes, after: bytes | None) -> list[Value]:
    """The fewest networks and addresses that are these bounds together; none: they are no range.

    nft(8) makes one interval of networks that touch, though no network may be all of it.
    """
    size = len(first)
    start = int.from_bytes(first, "big")
    end = int.from_bytes(after, "big") if after is not None else 1 << size * 8
    if size not in (4, 16) or end <= start:
        return []
    last = (end - 1).to_bytes(size, "big")
    found = summarize_address_range(from_packed(first), from_packed(last))
    return [
        from_packed(one.network_address.packed) if one.prefixlen == one.max_prefixlen else one
        for one in found
    ]


def is_network(value: Value) -> bool:
    """Whether a value is a network and not one address."""
    return isinstance(value, _NETWORK)


def element(key: bytes, value: bytes = b"", flags: int = 0, comment: str = "") -> bytes:
    """One element of a set; ``value`` is an attribute as ``data`` or ``verdict`` makes it."""
    parts = [wire.nested(form.ELEM_KEY, data(key))]
    if value:
        parts.append(wire.nested(form.ELEM_DATA, value))
    if flags:
        parts.append(form.be32(form.ELEM_FLAGS, flags))
    if comment:
        parts.append(wire.attribute(form.ELEM_USERDATA, form.comment(comment)))
    return wire.nested(form.LIST_ELEM, *parts)


def intervals(of: Iterable[Value]) -> list[bytes]:
    """The elements of an interval set: where each begins, and where it has ended.

    As nft(8) has it: before the first there is an end at zero, and what touches is one interval.
    """
    pairs: list[tuple[bytes, bytes | None]] = []
    for first, after in sorted(bound(one) for one in of):
        if pairs and pairs[-1][1] == first:
            pairs[-1] = (pairs[-1][0], after)
        else:
            pairs.append((first, after))
    found = []
    if pairs and any(pairs[0][0]):
        found.append(element(bytes(len(pairs[0][0])), flags=form.INTERVAL_END))
    for first, after in pairs:
        found.append(element(first))
        if after is not None:
            found.append(element(after, flags=form.INTERVAL_END))
    return found


def bound(value: Value) -> tuple[bytes, bytes | None]:
    """Where an address or network begins, and the address after it.  Raises ValueError."""
    if is_network(value):
        return bounds(value)  # type: ignore[arg-type]  # seen just now
    if not isinstance(value, IP):
        raise ValueError(f"{value} in a set of addresses")
    return bounds(network_of(value.packed, value.max_prefixlen))


_FEW: frozenset[KeyType] = frozenset(("inet_proto", "inet_service"))


@lru_cache(maxsize=1 << 12)
def _fixed(type: KeyType, value: Value) -> bytes:
    return pack_part(type, value)
