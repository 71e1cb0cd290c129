"""ipset over nfnetlink: what is asked of the kernel.  Its answers: ``ipset_seen``.

One message per entry, many of them in one send: the kernel takes 1.1 us for each, against 0.8 us
for an entry of a long list in one message (IPSET_ATTR_ADT), but a list ends at its first error,
and messages fail one by one.  Without NLM_F_EXCL the kernel itself counts an entry that is there
as added and one that is not as removed.  Sources:
include/uapi/linux/netfilter/ipset/ip_set.h, net/netfilter/ipset/ip_set_core.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

from hairpin.model.address import IP
from hairpin.netlink import ipset_format as form
from hairpin.netlink import message as wire
from hairpin.netlink.ipset_format import NET_BYTEORDER, Verb
from hairpin.netlink.message import NLM_F_ACK, NLM_F_REQUEST, Request
from hairpin.state.change import Change
from hairpin.state.ipset import IpSet, SetEntry, SetFamily, SetType
from hairpin.state.ipvs import Protocol

MOST_PACKED = 512
"""How many Changes ``pack`` takes at once."""

_PIECES = 7  # that ``pack`` makes each message of
_HEAD = Struct("=IHH")  # of nlmsghdr: length, type, flags
_ACKED = Struct("=H").pack(NLM_F_REQUEST | NLM_F_ACK)
_NUMBERS = [Struct("=II").pack(wire.FIRST_PACKED + number, 0) for number in range(MOST_PACKED)]
_SIZES = {4: 4, 6: 16}  # bytes of an address by IP version


def create(wanted: IpSet, revision: int) -> Request:
    """Makes a set, of a revision of its type that the kernel knows (``ask_type``).

    EEXIST when there is a set of that name, equal or not: without NLM_F_EXCL the kernel would say
    yes to a set of the other address family.
    """
    data = b""
    if wanted.type == "bitmap:port":
        data = _net16(form.ATTR_PORT, 0) + _net16(form.ATTR_PORT_TO, 65535)
    elif wanted.maxelem != form.DEFAULT_MAXELEM:
        data = _net32(form.ATTR_MAXELEM, wanted.maxelem)
    body = (
        _opening(wanted.name)
        + wire.text(form.ATTR_TYPENAME, wanted.type)
        + wire.u8(form.ATTR_REVISION, revision)
        + wire.u8(form.ATTR_FAMILY, form.FAMILIES[wanted.family])
        + wire.nested(form.ATTR_DATA, data)
    )
    flags = wire.NLM_F_CREATE | wire.NLM_F_EXCL
    return Request(form.kind(form.CMD_CREATE), flags, body)


def destroy(name: str) -> Request:
    """Removes a set with its entries; ENOENT when there is none, IPSET_ERR_BUSY when it is used."""
    return Request(form.kind(form.CMD_DESTROY), 0, _opening(name))


def put_entry(verb: Verb, entry: SetEntry) -> Request:
    """Adds an entry or removes it; what is so already is no error.  ENOENT: no such set."""
    packed, _ = pack((Change(verb=verb, netns="", object=entry),), "")
    return Request(form.kind(form.ENTRY_COMMANDS[verb]), 0, packed[wire.HEADER_SIZE :])


def pack(changes: Sequence[Change], netns: str) -> tuple[bytes, int]:
    """The messages of the first Changes, one after the other; and how many they are.

    It ends at MOST_PACKED, and before a Change of another namespace or of no entry.  Numbers
    count up from ``message.FIRST_PACKED``; the last message asks for an ACK.  Written out for
    speed, as ``ipvs.pack``: there may be fifty thousand entries.
    """
    parts: list[bytes] = []
    for number, change in zip(_NUMBERS, changes, strict=False):
        entry = change.object
        if type(entry) is not SetEntry or change.netns != netns:
            break
        ip, second, prefix = entry.ip, entry.ip2, -1
        if entry.net is not None:
            second, prefix = entry.net.network_address, entry.net.prefixlen
        version, packed = (0, b"") if ip is None else _packed(ip)
        other, packed2 = (0, b"") if second is None else _packed(second)
        head, lead, middle, end = _around(
            change.verb, entry.set, version, entry.protocol, entry.port, other, prefix
        )
        parts += head, number, lead, packed, middle, packed2, end
    if parts:
        parts[-_PIECES] = parts[-_PIECES][:6] + _ACKED
    return b"".join(parts), len(parts) // _PIECES


def dump(*, entries: bool = True) -> Request:
    """Asks for all sets of the namespace, with their entries or without."""
    body = _START
    if not entries:
        body += _net32(form.ATTR_FLAGS, form.FLAG_LIST_HEADER)
    return Request(form.kind(form.CMD_LIST), wire.NLM_F_DUMP, body)


def ask_type(type: SetType, family: SetFamily | None) -> Request:
    """Asks which revisions of a set type the kernel has; IPSET_ERR_FIND_TYPE: none."""
    body = (
        _START
        + wire.text(form.ATTR_TYPENAME, type)
        + wire.u8(form.ATTR_FAMILY, form.FAMILIES[family])
    )
    return Request(form.kind(form.CMD_TYPE), 0, body)


_START = form.NFGENMSG + wire.u8(form.ATTR_PROTOCOL, form.PROTOCOL)


def _opening(name: str) -> bytes:
    return _START + wire.text(form.ATTR_SETNAME, name)


def _packed(ip: IP) -> tuple[int, bytes]:
    """Version and bytes; from the number itself, which costs half of what the methods do."""
    version: int = ip._version  # type: ignore[union-attr]
    return version, ip._ip.to_bytes(_SIZES[version], "big")  # type: ignore[union-attr]


def _net16(kind: int, value: int) -> bytes:
    return wire.attribute(kind | NET_BYTEORDER, value.to_bytes(2, "big"))


def _net32(kind: int, value: int) -> bytes:
    return wire.attribute(kind | NET_BYTEORDER, value.to_bytes(4, "big"))


@lru_cache(maxsize=1024)
def _around(
    verb: Verb,
    name: str,
    version: int,
    protocol: Protocol | None,
    port: int,
    other: int,
    prefix: int,
) -> tuple[bytes, bytes, bytes, bytes]:
    """Of an entry's message: the header's first 8 bytes; what is before the first address (of
    IP ``version``, 0 for none), between it and the second one (of version ``other``), after that.
    """
    opening = _opening(name)
    lead = _address_head(form.ATTR_IP, version)
    middle = b""
    if protocol is not None or not version:
        middle = _net16(form.ATTR_PORT, port)
    if protocol is not None:
        middle += wire.u8(form.ATTR_PROTO, form.PROTOCOLS[protocol])
    middle += _address_head(form.ATTR_IP2, other)
    end = wire.u8(form.ATTR_CIDR2, prefix) if prefix >= 0 else b""
    size = len(lead) + _SIZES.get(version, 0) + len(middle) + _SIZES.get(other, 0) + len(end)
    opening += wire.ATTRIBUTE.pack(4 + size, form.ATTR_DATA | wire.NLA_F_NESTED)
    size += wire.HEADER_SIZE + len(opening)
    kind = form.kind(form.ENTRY_COMMANDS[verb])
    return _HEAD.pack(size, kind, NLM_F_REQUEST), opening + lead, middle, end


def _address_head(kind: int, version: int) -> bytes:
    """What is before an address: the attribute, and in it that of its family."""
    if not version:
        return b""
    size = _SIZES[version]
    inner = form.ATTR_IPADDR_IPV4 if version == 4 else form.ATTR_IPADDR_IPV6
    return wire.ATTRIBUTE.pack(8 + size, kind | wire.NLA_F_NESTED) + wire.ATTRIBUTE.pack(
        4 + size, inner | NET_BYTEORDER
    )
