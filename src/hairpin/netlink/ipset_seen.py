"""ipset over nfnetlink: what the kernel says, and our own requests read back.

A dump is a row of messages: the first of a set says what it is, each has as many entries as fit.
Entries of one set are all laid out alike, so that one look tells whether a block of them is as
expected, and one ``Struct`` takes it apart; any other layout is read attribute by attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from struct import Struct

import msgspec

from hairpin.model.address import IP, Network, from_packed, network_of
from hairpin.netlink import ipset_format as form
from hairpin.netlink import message as wire
from hairpin.netlink.ipset_format import NET_BYTEORDER, Verb
from hairpin.state.ipset import IpSet, SetEntry, SetFamily, SetType
from hairpin.state.ipvs import Protocol

_TYPES: tuple[SetType, ...] = tuple(form.REVISIONS)
_NESTED_DATA = wire.NLA_F_NESTED | form.ATTR_DATA


class Listing:
    """Reads the messages of one dump in their order.

    Sets of other types than the five of ``state.ipset`` are passed over, as are those whose name
    does not begin with ``prefix``, entries of other protocols than a Service can have, and what
    kernels hold beside an entry (its time, counters, comments).
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._sets: dict[str, IpSet | None] = {}

    def take(self, body: bytes, found: list[IpSet | SetEntry]) -> None:
        """Adds what one message of the dump says to ``found``.  Raises WireError."""
        top = wire.attributes(body, len(form.NFGENMSG))
        name = wire.string(top.get(form.ATTR_SETNAME, b""))
        if form.ATTR_TYPENAME in top:
            known = _set(name, top) if name.startswith(self._prefix) else None
            self._sets[name] = known
            if known is not None:
                found.append(known)
        of = self._sets.get(name)
        if of is not None and form.ATTR_ADT in top:
            found += _entries(top[form.ATTR_ADT], of)


def parse_set(body: bytes) -> tuple[IpSet, int]:
    """A set and its revision, from a dump or from ``ipset.create``.  Raises WireError."""
    top = wire.attributes(body, len(form.NFGENMSG))
    found = _set(wire.string(top.get(form.ATTR_SETNAME, b"")), top)
    if found is None:
        raise wire.WireError("a set of a type or family that is not known here")
    return found, wire.number(top.get(form.ATTR_REVISION, b""))


def parse_entry(command: int, body: bytes) -> tuple[Verb, SetEntry]:
    """What ``ipset.put_entry`` rendered.  Raises WireError."""
    top = wire.attributes(body, len(form.NFGENMSG))
    name = wire.string(top.get(form.ATTR_SETNAME, b""))
    entry = _entry(top.get(form.ATTR_DATA, b""), name)
    if entry is None or command not in form.ENTRY_VERBS:
        raise wire.WireError("no message about a set's entry")
    return form.ENTRY_VERBS[command], entry


def parse_type(body: bytes) -> tuple[int, int]:
    """The first and last revision of a set type that the kernel has.  Raises WireError."""
    top = wire.attributes(body, len(form.NFGENMSG))
    last = wire.number(top.get(form.ATTR_REVISION, b""))
    return wire.number(top.get(10, b"")), last  # IPSET_ATTR_REVISION_MIN


def _set(name: str, top: dict[int, bytes]) -> IpSet | None:
    type_name = wire.string(top.get(form.ATTR_TYPENAME, b""))
    type = next((one for one in _TYPES if one == type_name), None)
    number = wire.number(top.get(form.ATTR_FAMILY, b""))
    if type is None or number not in form.FAMILY_NAMES:
        return None
    data = wire.attributes(top.get(form.ATTR_DATA, b""))
    timeout = _net32(data.get(form.ATTR_TIMEOUT, b""))
    if type == "bitmap:port":
        return IpSet(name=name, type=type, maxelem=0, timeout=timeout)
    maxelem = data.get(form.ATTR_MAXELEM)
    return IpSet(
        name=name,
        type=type,
        family=form.FAMILY_NAMES[number],
        maxelem=form.DEFAULT_MAXELEM if maxelem is None else _net32(maxelem),
        timeout=timeout,
    )


def _net32(value: bytes) -> int:
    """A number of ipset's, in network order; 0 for none."""
    return int.from_bytes(value, "big")


class _Layout(msgspec.Struct, frozen=True):
    """How the kernel lays out the entries of a type: an entry with every value 0."""

    size: int
    fixed: tuple[tuple[int, int], ...]  # positions of bytes that are always so, and their values
    values: Struct


def _entries(block: bytes, of: IpSet) -> Iterable[SetEntry]:
    layout = _layout(of.type, of.family)
    count, rest = divmod(len(block), layout.size)
    if rest or any(
        block[at :: layout.size] != bytes((value,)) * count for at, value in layout.fixed
    ):
        return _any_entries(block, of.name)
    return _plain_entries(block, layout, of)


def _plain_entries(block: bytes, layout: _Layout, of: IpSet) -> list[SetEntry]:
    """Entries that are all as ``layout``.  Written out for speed."""
    name, names, ip = of.name, form.PROTOCOL_NAMES, from_packed
    rows = layout.values.iter_unpack(block)
    match of.type:
        case "bitmap:port":
            return [SetEntry(set=name, port=port) for (port,) in rows]
        case "hash:ip":
            return [SetEntry(set=name, ip=ip(one)) for (one,) in rows]
        case "hash:ip,port":
            return [
                SetEntry(set=name, ip=ip(one), protocol=names[number], port=port)
                for one, port, number in rows
                if number in names
            ]
        case "hash:ip,port,ip":
            return [
                SetEntry(set=name, ip=ip(one), protocol=names[number], port=port, ip2=ip(other))
                for one, other, port, number in rows
                if number in names
            ]
        case "hash:ip,port,net":
            return [
                SetEntry(
                    set=name,
                    ip=ip(one),
                    protocol=names[number],
                    port=port,
                    net=_network(net, prefix),
                )
                for one, net, port, prefix, number in rows
                if number in names
            ]


def _any_entries(block: bytes, name: str) -> Iterator[SetEntry]:
    start, end = 0, len(block)
    while end - start >= 4:
        length, kind = wire.ATTRIBUTE.unpack_from(block, start)
        if length < 4 or start + length > end:
            raise wire.WireError(f"an ipset entry of {length} bytes at offset {start} of {end}")
        if kind == _NESTED_DATA:
            entry = _entry(block[start + 4 : start + length], name)
            if entry is not None:
                yield entry
        start += (length + 3) & ~3


def _entry(data: bytes, name: str) -> SetEntry | None:
    """None for an entry of a protocol that no Service has."""
    found = wire.attributes(data)
    ip, second = _address(found.get(form.ATTR_IP)), _address(found.get(form.ATTR_IP2))
    port = int.from_bytes(found.get(form.ATTR_PORT, b"")[:2], "big")
    if ip is None:
        return SetEntry(set=name, port=port)
    protocol: Protocol | None = None
    if form.ATTR_PROTO in found:
        protocol = form.PROTOCOL_NAMES.get(wire.number(found[form.ATTR_PROTO]))
        if protocol is None:
            return None
    net: Network | None = None
    if second is not None and form.ATTR_CIDR2 in found:
        net, second = _network(second.packed, wire.number(found[form.ATTR_CIDR2])), None
    flags = _net32(found.get(form.ATTR_CADT_FLAGS, b""))
    nomatch = bool(flags & form.FLAG_NOMATCH)
    return SetEntry(
        set=name, ip=ip, protocol=protocol, port=port, ip2=second, net=net, nomatch=nomatch
    )


def _address(value: bytes | None) -> IP | None:
    if value is None:
        return None
    found = wire.attributes(value)
    packed = found.get(form.ATTR_IPADDR_IPV4) or found.get(form.ATTR_IPADDR_IPV6, b"")
    try:
        return from_packed(packed)
    except ValueError as error:
        raise wire.WireError(f"an ipset entry with {error}") from None


def _network(packed: bytes, prefix: int) -> Network:
    try:
        return network_of(packed, prefix)
    except ValueError as error:
        raise wire.WireError(f"an ipset entry with {error}") from None


@lru_cache(maxsize=16)
def _layout(type: SetType, family: SetFamily | None) -> _Layout:
    """The order is that of ``*_data_list`` in net/netfilter/ipset/ip_set_hash_*.c, Linux 6.1."""
    size = 16 if family == "inet6" else 4
    inner = form.ATTR_IPADDR_IPV6 if family == "inet6" else form.ATTR_IPADDR_IPV4
    pieces: list[tuple[bytes, str]] = []  # what is always so, then the format of the value

    def address(kind: int) -> None:
        head = wire.ATTRIBUTE.pack(8 + size, kind | wire.NLA_F_NESTED)
        # Without NLA_F_NET_BYTEORDER, which the kernel wants of us (nla_put_in_addr).
        pieces.append((head + wire.ATTRIBUTE.pack(4 + size, inner), f"{size}s"))

    def number(kind: int, format: str) -> None:
        order = NET_BYTEORDER if format == "H" else 0
        length = Struct(format).size
        pieces.append((wire.ATTRIBUTE.pack(4 + length, kind | order), f"{format}{4 - length}x"))

    if type != "bitmap:port":
        address(form.ATTR_IP)
    if type in ("hash:ip,port,ip", "hash:ip,port,net"):
        address(form.ATTR_IP2)
    if type != "hash:ip":
        number(form.ATTR_PORT, "H")
    if type == "hash:ip,port,net":
        number(form.ATTR_CIDR2, "B")
    if type not in ("hash:ip", "bitmap:port"):
        number(form.ATTR_PROTO, "B")
    total = 4 + sum(len(head) + Struct(">" + value).size for head, value in pieces)
    pieces.insert(0, (wire.ATTRIBUTE.pack(total, _NESTED_DATA), ""))
    fixed: list[tuple[int, int]] = []
    at = 0
    for head, value in pieces:
        fixed += enumerate(head, at)
        at += len(head) + Struct(">" + value).size
    formats = "".join(f"{len(head)}x{value}" for head, value in pieces)
    return _Layout(size=total, fixed=tuple(fixed), values=Struct(">" + formats))
