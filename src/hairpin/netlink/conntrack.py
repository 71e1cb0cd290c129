"""nfnetlink, connection tracking: listing flows, and forgetting one or all.

Most flows are laid out alike (nf_conntrack_netlink.c): both tuples first, of fixed size by IP
family.  One ``Struct`` takes them apart; any other layout is read attribute by attribute.
Sources: include/uapi/linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from struct import Struct

import msgspec

from hairpin.model.address import IP
from hairpin.netlink import message as wire
from hairpin.netlink.message import Frame, Request
from hairpin.state.conntrack import Flow, Tuple

NETLINK_NETFILTER = 12
GROUP_DESTROY = 3  # NFNLGRP_CONNTRACK_DESTROY

_NFNL_SUBSYS_CTNETLINK = 1
_IPCTNL_MSG_CT_GET = 1
_IPCTNL_MSG_CT_DELETE = 2
_NFGENMSG = Struct("=BBH")  # family, version, resource
_AF_INET = 2
_AF_INET6 = 10
_NET_BYTEORDER = 0x4000

_CTA_TUPLE_ORIG = 1
_CTA_TUPLE_REPLY = 2
_CTA_STATUS = 3
_CTA_MARK = 8
_CTA_ID = 12
_CTA_ZONE = 18
_CTA_FILTER = 25

_CTA_TUPLE_IP = 1
_CTA_TUPLE_PROTO = 2
_CTA_TUPLE_ZONE = 3
_CTA_IP_V4_SRC = 1
_CTA_IP_V4_DST = 2
_CTA_IP_V6_SRC = 3
_CTA_IP_V6_DST = 4
_CTA_PROTO_NUM = 1
_CTA_PROTO_SRC_PORT = 2
_CTA_PROTO_DST_PORT = 3

_CTA_FILTER_ORIG_FLAGS = 1
_CTA_FILTER_REPLY_FLAGS = 2
_FILTER_PROTO_NUM = 1 << 3  # CTA_FILTER_F_CTA_PROTO_NUM, nf_internals.h


def flush() -> Request:
    """Deletes every entry of the connection tracking table: a delete that names none."""
    return Request(_kind(_IPCTNL_MSG_CT_DELETE), 0, _NFGENMSG.pack(0, 0, 0))


def dump(version: int, protocol: int | None = None) -> Request:
    """Asks for the flows of IPv4 or IPv6, of all protocols or one.

    Kernels before 5.8 know no such filter, and give all: look at what comes.
    """
    family = _AF_INET if version == 4 else _AF_INET6
    body = _NFGENMSG.pack(family, 0, 0)
    if protocol is not None:
        tuple_ = wire.nested(_CTA_TUPLE_PROTO, wire.u8(_CTA_PROTO_NUM, protocol))
        flags = (
            wire.u32(_CTA_FILTER_ORIG_FLAGS, _FILTER_PROTO_NUM),
            wire.u32(_CTA_FILTER_REPLY_FLAGS, 0),
        )
        body += wire.nested(_CTA_TUPLE_ORIG, tuple_) + wire.nested(_CTA_FILTER, *flags)
    return Request(_kind(_IPCTNL_MSG_CT_GET), wire.NLM_F_DUMP, body)


def delete(flow: Flow) -> Request:
    """Forgets one flow; ENOENT when it is not there, or another with the same tuples is."""
    family = _AF_INET if flow.original.source.version == 4 else _AF_INET6
    body = _NFGENMSG.pack(family, 0, 0) + _tuple(_CTA_TUPLE_ORIG, flow.original, flow.protocol)
    if flow.zone:
        body += _net16(_CTA_ZONE, flow.zone)
    if flow.id:
        body += _net32(_CTA_ID, flow.id)
    return Request(_kind(_IPCTNL_MSG_CT_DELETE), 0, body)


def render_flow(flow: Flow) -> bytes:
    """A flow as the kernel tells it."""
    family = _AF_INET if flow.original.source.version == 4 else _AF_INET6
    parts = [
        _NFGENMSG.pack(family, 0, 0),
        _tuple(_CTA_TUPLE_ORIG, flow.original, flow.protocol),
        _tuple(_CTA_TUPLE_REPLY, flow.reply, flow.protocol),
        _net32(_CTA_STATUS, flow.status),
        _net32(_CTA_MARK, flow.mark),
        _net32(_CTA_ID, flow.id),
    ]
    if flow.zone:
        parts.append(_net16(_CTA_ZONE, flow.zone))
    return b"".join(parts)


def parse_flow(body: bytes) -> Flow:
    """A flow from a dump, or what ``delete`` rendered.  Raises WireError.

    The latter has no reply: it is told as the original, turned round.
    """
    layout = _LAYOUTS.get(body[0] if body else 0)
    if layout is not None and layout.fits(body):
        source, to, protocol, port, to_port, source2, to2, port2, to_port2 = (
            layout.values.unpack_from(body, _NFGENMSG.size)
        )
        original = Tuple(_ip(source), port, _ip(to), to_port)
        reply = Tuple(_ip(source2), port2, _ip(to2), to_port2)
        found = wire.attributes(body, _NFGENMSG.size + layout.values.size)
    else:
        found = wire.attributes(body, _NFGENMSG.size)
        if _CTA_TUPLE_ORIG not in found:
            raise wire.WireError("a tracked connection without its original tuple")
        original, protocol = _parse_tuple(found[_CTA_TUPLE_ORIG])
        reply = Tuple(
            original.destination,
            original.destination_port,
            original.source,
            original.source_port,
        )
        if _CTA_TUPLE_REPLY in found:
            reply, _ = _parse_tuple(found[_CTA_TUPLE_REPLY])
    return Flow(
        protocol=protocol,
        original=original,
        reply=reply,
        mark=int.from_bytes(found.get(_CTA_MARK, b"")[:4], "big"),
        status=int.from_bytes(found.get(_CTA_STATUS, b"")[:4], "big"),
        zone=int.from_bytes(found.get(_CTA_ZONE, b"")[:2], "big"),
        id=int.from_bytes(found.get(_CTA_ID, b"")[:4], "big"),
    )


def is_end(frame: Frame) -> bool:
    """Whether a message tells that a flow is forgotten."""
    return frame.kind == _kind(_IPCTNL_MSG_CT_DELETE)


def _kind(message: int) -> int:
    return _NFNL_SUBSYS_CTNETLINK << 8 | message


def _net16(kind: int, value: int) -> bytes:
    return wire.attribute(kind, value.to_bytes(2, "big"))


def _net32(kind: int, value: int) -> bytes:
    return wire.attribute(kind, value.to_bytes(4, "big"))


def _tuple(kind: int, ends: Tuple, protocol: int) -> bytes:
    v4 = ends.source.version == 4
    addresses = wire.nested(
        _CTA_TUPLE_IP,
        wire.attribute(_CTA_IP_V4_SRC if v4 else _CTA_IP_V6_SRC, ends.source.packed),
        wire.attribute(_CTA_IP_V4_DST if v4 else _CTA_IP_V6_DST, ends.destination.packed),
    )
    ports = wire.nested(
        _CTA_TUPLE_PROTO,
        wire.u8(_CTA_PROTO_NUM, protocol),
        _net16(_CTA_PROTO_SRC_PORT, ends.source_port),
        _net16(_CTA_PROTO_DST_PORT, ends.destination_port),
    )
    return wire.nested(kind, addresses, ports)


def _parse_tuple(data: bytes) -> tuple[Tuple, int]:
    found = wire.attributes(data)
    addresses = wire.attributes(found.get(_CTA_TUPLE_IP, b""))
    ports = wire.attributes(found.get(_CTA_TUPLE_PROTO, b""))
    ends = Tuple(
        _ip(addresses.get(_CTA_IP_V4_SRC) or addresses.get(_CTA_IP_V6_SRC, b"")),
        int.from_bytes(ports.get(_CTA_PROTO_SRC_PORT, b"")[:2], "big"),
        _ip(addresses.get(_CTA_IP_V4_DST) or addresses.get(_CTA_IP_V6_DST, b"")),
        int.from_bytes(ports.get(_CTA_PROTO_DST_PORT, b"")[:2], "big"),
    )
    return ends, wire.number(ports.get(_CTA_PROTO_NUM, b""))


def _ip(packed: bytes) -> IP:
    # Not ``from_packed``: a hundred thousand clients would drive out the addresses that matter.
    if len(packed) == 4:
        return IPv4Address(packed)
    if len(packed) == 16:
        return IPv6Address(packed)
    raise wire.WireError(f"a tracked connection with an address of {len(packed)} bytes")


class _Layout(msgspec.Struct, frozen=True):
    """How both tuples of a protocol with ports are laid out, by IP family."""

    fixed: tuple[tuple[int, bytes], ...]  # what is always so, and where
    values: Struct

    def fits(self, body: bytes) -> bool:
        if len(body) < _NFGENMSG.size + self.values.size:
            return False
        return all(body[at : at + len(value)] == value for at, value in self.fixed)


def _layout(version: int) -> _Layout:
    size = 4 if version == 4 else 16
    nothing = _ip(bytes(size))
    ends = Tuple(nothing, 0, nothing, 0)
    addresses, ports = f"12x{size}s4x{size}s", "4xH2x4xH2x"
    once, again = addresses + "8xB3x" + ports, addresses + "12x" + ports
    empty = b"".join(_tuple(kind, ends, 0) for kind in (_CTA_TUPLE_ORIG, _CTA_TUPLE_REPLY))
    start, fixed = _NFGENMSG.size, []
    for _ in range(2):
        # The nests and the source; the destination; the protocol; the ports.
        for skip, length in ((0, 12), (size, 4), (size, 8), (4, 4), (4, 4)):
            start += skip
            at = start - _NFGENMSG.size
            fixed.append((start, empty[at : at + length]))
            start += length
        start += 4
    return _Layout(fixed=tuple(fixed), values=Struct(">" + once + again))


_LAYOUTS = {_AF_INET: _layout(4), _AF_INET6: _layout(6)}
