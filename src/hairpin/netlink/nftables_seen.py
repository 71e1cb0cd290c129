"""nf_tables over nfnetlink: what the kernel says of a table, and our own requests read back."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from hairpin.model.address import IP, network_of
from hairpin.netlink import message as wire
from hairpin.netlink import nftables_format as form
from hairpin.netlink import nftables_values as values
from hairpin.netlink.nftables_rules import Inline
from hairpin.netlink.nftables_rules_seen import Anonymous, AnonymousSet, Member, decode, pairs
from hairpin.state.nftables import (
    Hook,
    NftChain,
    NftElement,
    NftFamily,
    NftRule,
    NftSet,
    NftTable,
    Value,
    Verdict,
)

_HEAD = len(form.head(0))


class SetSeen(msgspec.Struct, frozen=True):
    """A set as the kernel tells it.

    ``known`` is None for an anonymous one, and for one whose keys or data are of no type that
    ``state.nftables`` has.
    """

    family: NftFamily
    table: str
    name: str
    anonymous: bool
    interval: bool
    known: NftSet | None


class RuleSeen(msgspec.Struct, frozen=True):
    """A rule as the kernel tells it; ``handle`` is its number in the table."""

    table: str
    chain: str
    handle: int
    expressions: bytes
    comment: str

    def rule(self, sets: Anonymous) -> NftRule:
        """The rule as statements; ``sets`` are the anonymous ones of the table.

        Raises WireError.
        """
        return decode(self.expressions, sets, self.comment)


def parse_table(body: bytes) -> NftTable:
    """A table, from a dump or from ``nftables.add_table``.  Raises WireError."""
    found = wire.attributes(body, _HEAD)
    return NftTable(
        family=_family(body),
        name=wire.string(found.get(form.TABLE_NAME, b"")),
        comment=_comment(found.get(form.TABLE_USERDATA)),
        dormant=bool(_number(found, form.TABLE_FLAGS) & form.TABLE_DORMANT),
    )


def parse_chain(body: bytes) -> NftChain:
    """A chain without its rules.  Raises WireError.

    A base chain of a type, hook or policy that is not known here is told as one without a hook.
    """
    found = wire.attributes(body, _HEAD)
    return NftChain(
        family=_family(body),
        table=wire.string(found.get(form.CHAIN_TABLE, b"")),
        name=wire.string(found.get(form.CHAIN_NAME, b"")),
        hook=_hook(found),
        comment=_comment(found.get(form.CHAIN_USERDATA)),
    )


def parse_rule(body: bytes) -> RuleSeen:
    """A rule.  Raises WireError."""
    found = wire.attributes(body, _HEAD)
    return RuleSeen(
        table=wire.string(found.get(form.RULE_TABLE, b"")),
        chain=wire.string(found.get(form.RULE_CHAIN, b"")),
        handle=int.from_bytes(found.get(form.RULE_HANDLE, b""), "big"),
        expressions=found.get(form.RULE_EXPRESSIONS, b""),
        comment=_comment(found.get(form.RULE_USERDATA)),
    )


def parse_set(body: bytes) -> SetSeen:
    """A set, from a dump or from ``nftables.add_set``.  Raises WireError."""
    found = wire.attributes(body, _HEAD)
    family = _family(body)
    table = wire.string(found.get(form.SET_TABLE, b""))
    name = wire.string(found.get(form.SET_NAME, b""))
    flags = _number(found, form.SET_FLAGS)
    anonymous = bool(flags & form.FLAG_ANONYMOUS)
    known = None if anonymous else _named(family, table, name, flags, found)
    return SetSeen(family, table, name, anonymous, bool(flags & form.FLAG_INTERVAL), known)


def parse_members(body: bytes) -> list[Member]:
    """The elements of an anonymous set in one message.  Raises WireError."""
    return [Member(*one[:3]) for one in _elements(body)]


def parse_elements(body: bytes, of: NftSet) -> list[NftElement]:
    """The elements of a named set in one message.  Raises WireError."""
    return list(elements(of, [Row(*one) for one in _elements(body)]))


def inline_set(wanted: Inline) -> AnonymousSet:
    """An anonymous set as the kernel would tell it.  Raises WireError."""
    found: list[Member] = []
    for block in wanted.elements:
        found += (Member(*one[:3]) for one in _members(block))
    return AnonymousSet(tuple(found), bool(wanted.flags & form.FLAG_INTERVAL))


class Row(msgspec.Struct, frozen=True):
    """One element as the kernel tells it; of an interval set its begin or its end."""

    key: bytes
    data: bytes | Verdict | None
    end: bool
    comment: str


def parse_rows(body: bytes) -> list[Row]:
    """The elements of a named set in one message, for ``elements``.  Raises WireError."""
    return [Row(*one) for one in _elements(body)]


def elements(of: NftSet, rows: list[Row]) -> Iterator[NftElement]:
    """The elements that these rows say, all of one set.  Raises WireError.

    Of an interval set all are networks, of one address too; intervals that are none are left out.
    """
    for row in rows if not of.interval else _networks(rows):
        yield NftElement(
            family=of.family,
            table=of.table,
            set=of.name,
            of=values.read_key(of.types, row.key) if isinstance(row.key, bytes) else (row.key,),
            verdict=row.data if isinstance(row.data, Verdict) else None,
            comment=row.comment,
        )


class _Joined(msgspec.Struct, frozen=True):
    """An interval."""

    key: Value
    data: bytes | Verdict | None
    comment: str


def _networks(rows: list[Row]) -> Iterator[_Joined]:
    begins = {row.key: row for row in rows if not row.end}
    for first, after in pairs(tuple(Member(row.key, row.data, row.end) for row in rows)):
        one = values.between(first, after)
        if isinstance(one, IP):
            one = network_of(one.packed, one.max_prefixlen)
        if one is not None:
            yield _Joined(one, begins[first].data, begins[first].comment)


def parse_generation(body: bytes) -> int:
    """How many transactions a namespace has seen.  Raises WireError."""
    return _number(wire.attributes(body, _HEAD), form.GEN_ID)


def table_of(body: bytes) -> str:
    """The table that a chain, set or rule is of: attribute 1 of all of them."""
    length, kind = wire.ATTRIBUTE.unpack_from(body, _HEAD)
    if kind == 1:
        return wire.string(body[_HEAD + 4 : _HEAD + length])
    return wire.string(wire.attributes(body, _HEAD).get(1, b""))


def _elements(body: bytes) -> Iterator[tuple[bytes, bytes | Verdict | None, bool, str]]:
    return _members(wire.attributes(body, _HEAD).get(form.ELEMS_ELEMENTS, b""))


def _members(data: bytes) -> Iterator[tuple[bytes, bytes | Verdict | None, bool, str]]:
    at, end = 0, len(data)
    while end - at >= 4:
        length, _ = wire.ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > end:
            raise wire.WireError(f"an element of {length} bytes at offset {at} of {end}")
        found = wire.attributes(data[at + 4 : at + length])
        value: bytes | Verdict | None = None
        if form.ELEM_DATA in found:
            inner = wire.attributes(found[form.ELEM_DATA])
            if form.DATA_VERDICT in inner:
                value = values.read_verdict(inner[form.DATA_VERDICT])
            else:
                value = inner.get(form.DATA_VALUE)
        key = wire.attributes(found.get(form.ELEM_KEY, b"")).get(form.DATA_VALUE, b"")
        ends = bool(_number(found, form.ELEM_FLAGS) & form.INTERVAL_END)
        yield key, value, ends, _comment(found.get(form.ELEM_USERDATA))
        at += (length + 3) & ~3


def _named(
    family: NftFamily, table: str, name: str, flags: int, found: dict[int, bytes]
) -> NftSet | None:
    types = form.types_of(_number(found, form.SET_KEY_TYPE))
    is_map = bool(flags & form.FLAG_MAP)
    if not types or form.key_size(types) != _number(found, form.SET_KEY_LEN):
        return None
    if is_map and _number(found, form.SET_DATA_TYPE) != form.TYPE_VERDICT:
        return None
    description = wire.attributes(found.get(form.SET_DESC, b""))
    return NftSet(
        family=family,
        table=table,
        name=name,
        types=types,
        verdicts=is_map,
        interval=bool(flags & form.FLAG_INTERVAL),
        dynamic=bool(flags & form.FLAG_DYNAMIC),
        timeout=_number(found, form.SET_TIMEOUT) // 1000,
        size=_number(description, form.SET_DESC_SIZE),
        comment=_comment(found.get(form.SET_USERDATA), form.SET_COMMENT),
    )


def _hook(found: dict[int, bytes]) -> Hook | None:
    if form.CHAIN_HOOK not in found:
        return None
    inner = wire.attributes(found[form.CHAIN_HOOK])
    priority = _number(inner, form.HOOK_PRIORITY)
    try:
        return msgspec.convert(
            {
                "type": wire.string(found.get(form.CHAIN_TYPE, b"")),
                "hook": form.HOOK_NAMES.get(_number(inner, form.HOOK_HOOKNUM)),
                "priority": priority - (1 << 32) if priority >> 31 else priority,
                "policy": form.POLICY_NAMES.get(_number(found, form.CHAIN_POLICY)),
            },
            Hook,
        )
    except msgspec.ValidationError:
        return None


def _family(body: bytes) -> NftFamily:
    number = body[0] if body else 0
    if number not in form.FAMILY_NAMES:
        raise wire.WireError(f"a table of family {number}")
    return form.FAMILY_NAMES[number]


def _comment(data: bytes | None, kind: int = 0) -> str:
    """The comment in user data, which other programs may fill as they like."""
    if not data:
        return ""
    try:
        return wire.string(form.read_tlvs(data).get(kind, b""))
    except wire.WireError:
        return ""


def _number(found: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(found.get(kind, b""), "big")
