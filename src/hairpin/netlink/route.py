"""rtnetlink: addresses and routes, IPv4 and IPv6.

Links are known by index here; ``kernel.links`` turns names into indexes and back.  Sources:
include/uapi/linux/if_addr.h and rtnetlink.h.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from struct import Struct

import msgspec

from hairpin.model.address import IP, Network, from_packed
from hairpin.netlink import message as wire
from hairpin.netlink.message import Request

RTM_NEWADDR = 20
_RTM_DELADDR = 21
_RTM_GETADDR = 22
RTM_NEWROUTE = 24
_RTM_DELROUTE = 25
_RTM_GETROUTE = 26

_AF_INET = 2
_AF_INET6 = 10

_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_CACHEINFO = 6
_IFA_FLAGS = 8
_IFA_PROTO = 11
_IFA_F_NODAD = 0x02

_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_MULTIPATH = 9
_RTA_TABLE = 15
_RTA_VIA = 18

_RTNH_F_ONLINK = 4

RT_TABLE_MAIN = 254
RTPROT_KERNEL = 2
RTPROT_BOOT = 3
RTN_UNICAST = 1
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_LINK = 253
RT_SCOPE_HOST = 254
_RT_SCOPE_NOWHERE = 255

_V4_ADDRESS = wire.ATTRIBUTE.pack(8, _IFA_ADDRESS)
_V4_LOCAL = wire.ATTRIBUTE.pack(8, _IFA_LOCAL)
_V6_ADDRESS = wire.ATTRIBUTE.pack(20, _IFA_ADDRESS)
_CACHE = wire.ATTRIBUTE.pack(20, _IFA_CACHEINFO)

_IFADDR = Struct("=BBBBI")  # family, prefix, flags, scope, link index
_ROUTE = Struct("=BBBBBBBBI")  # family, dst, src, tos, table, protocol, scope, type, flags
_NEXTHOP = Struct("=HBBi")  # length, flags, hops, link index
_RTVIA = Struct("=H")  # family; the address follows


class AddressMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """ifaddrmsg and its attributes.  ``made_by`` is IFAPROT_*: 0 when a person or program did."""

    index: int
    ip: IP
    prefix: int
    scope: int = 0
    made_by: int = 0


class RouteMessage(msgspec.Struct, frozen=True, kw_only=True):
    """rtmsg and its attributes.  ``made_by`` is RTPROT_*; ``index`` None: left to the kernel."""

    to: Network
    via: IP | None = None
    index: int | None = None
    table: int = RT_TABLE_MAIN
    made_by: int = RTPROT_BOOT
    type: int = RTN_UNICAST
    onlink: bool = False


def add_address(address: AddressMessage) -> Request:
    """Gives a link an address; EEXIST when it has it.

    An IPv6 address is usable at once: duplicate detection would hold it back for a second.
    """
    return Request(RTM_NEWADDR, wire.NLM_F_CREATE | wire.NLM_F_EXCL, _render_address(address))


def remove_address(address: AddressMessage) -> Request:
    """Takes an address from a link; EADDRNOTAVAIL when it has none such."""
    return Request(_RTM_DELADDR, 0, _render_address(address))


def dump_addresses() -> Request:
    """Asks for all addresses of the namespace."""
    return Request(_RTM_GETADDR, wire.NLM_F_DUMP, _IFADDR.pack(0, 0, 0, 0, 0))


def add_route(route: RouteMessage) -> Request:
    """Adds a route; EEXIST when there is one to the same network."""
    flags = wire.NLM_F_CREATE | wire.NLM_F_EXCL
    return Request(RTM_NEWROUTE, flags, _render_route(route, _scope(route)))


def set_route(route: RouteMessage) -> Request:
    """Puts a route in place of the one to the same network."""
    flags = wire.NLM_F_CREATE | wire.NLM_F_REPLACE
    return Request(RTM_NEWROUTE, flags, _render_route(route, _scope(route)))


def remove_route(route: RouteMessage) -> Request:
    """Removes a route, whoever made it; ESRCH when there is none such."""
    nobody = msgspec.structs.replace(route, made_by=0)
    return Request(_RTM_DELROUTE, 0, _render_route(nobody, _RT_SCOPE_NOWHERE))


def dump_routes() -> Request:
    """Asks for all routes of the namespace, every table."""
    return Request(_RTM_GETROUTE, wire.NLM_F_DUMP, _ROUTE.pack(*[0] * 9))


def parse_address(body: bytes) -> AddressMessage:
    """An address from a message of kind RTM_NEWADDR, or from a request.  Raises WireError."""
    if len(body) < _IFADDR.size:
        raise wire.WireError(f"address message of {len(body)} bytes")
    _, prefix, _, scope, index = _IFADDR.unpack_from(body)
    found = wire.attributes(body, _IFADDR.size)
    value = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS)
    if value is None:
        raise wire.WireError("address message without an address")
    return AddressMessage(
        index=index,
        ip=_ip(value),
        prefix=prefix,
        scope=scope,
        made_by=wire.number(found.get(_IFA_PROTO, b"")),
    )


class Addresses:
    """Reads the messages of one dump of addresses, in any order.

    The flags of ten thousand addresses of one link are the same: what is around the address and
    the time is looked up as it stands, and only what is new is read attribute by attribute.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes, bytes], AddressMessage] = {}

    def parse(self, body: bytes) -> tuple[AddressMessage, IP]:
        """A message that is the same in all but the address, and the address.

        The former is the very same object for many of one link.  Raises WireError.
        """
        if body[8:12] == _V4_ADDRESS and body[16:20] == _V4_LOCAL and body[-20:-16] == _CACHE:
            packed, same = body[20:24], (body[:8], body[24:-20], b"4")
        elif body[8:12] == _V6_ADDRESS and body[28:32] == _CACHE:
            packed, same = body[12:28], (body[:8], body[48:], b"6")
        else:
            one = parse_address(body)
            return one, one.ip
        like = self._known.get(same)
        if like is None:
            like = self._known[same] = parse_address(body)
        return like, from_packed(packed)


def parse_route(body: bytes) -> RouteMessage | None:
    """A route from a message of kind RTM_NEWROUTE, or from a request.

    None for families other than IPv4 and IPv6.  Of several next hops the first is told.
    Raises WireError.
    """
    if len(body) < _ROUTE.size:
        raise wire.WireError(f"route message of {len(body)} bytes")
    family, prefix, _, _, table, made_by, _, kind, _ = _ROUTE.unpack_from(body)
    if family not in (_AF_INET, _AF_INET6):
        return None
    found = wire.attributes(body, _ROUTE.size)
    hops = found.get(_RTA_MULTIPATH, b"")
    if len(hops) >= _NEXTHOP.size:
        size, _, _, index = _NEXTHOP.unpack_from(hops)
        found |= wire.attributes(hops[:size], _NEXTHOP.size)
    else:
        index = wire.number(found.get(_RTA_OIF, b""))
    via = found.get(_RTA_GATEWAY) or found.get(_RTA_VIA, b"")[_RTVIA.size :]
    return RouteMessage(
        to=_network(family, found.get(_RTA_DST, b""), prefix),
        via=_ip(via) if via else None,
        index=index or None,
        table=wire.number(found.get(_RTA_TABLE, b"")) or table,
        made_by=made_by,
        type=kind,
    )


def _render_address(address: AddressMessage) -> bytes:
    family = _family(address.ip)
    packed = address.ip.packed
    flags = _IFA_F_NODAD if family == _AF_INET6 else 0
    parts = [
        _IFADDR.pack(family, address.prefix, flags, address.scope, address.index),
        wire.attribute(_IFA_LOCAL, packed),
        wire.attribute(_IFA_ADDRESS, packed),
    ]
    if flags:
        parts.append(wire.u32(_IFA_FLAGS, flags))
    if address.made_by:
        parts.append(wire.u8(_IFA_PROTO, address.made_by))
    return b"".join(parts)


def _render_route(route: RouteMessage, scope: int) -> bytes:
    family = _AF_INET if route.to.version == 4 else _AF_INET6
    flags = _RTNH_F_ONLINK if route.onlink else 0
    short_table = route.table if route.table < 256 else 0
    parts = [
        _ROUTE.pack(
            family, route.to.prefixlen, 0, 0, short_table, route.made_by, scope, route.type, flags
        )
    ]
    if route.to.prefixlen:
        parts.append(wire.attribute(_RTA_DST, route.to.network_address.packed))
    if route.via is not None:
        if route.via.version == route.to.version:
            parts.append(wire.attribute(_RTA_GATEWAY, route.via.packed))
        else:
            value = _RTVIA.pack(_family(route.via)) + route.via.packed
            parts.append(wire.attribute(_RTA_VIA, value))
    if route.index is not None:
        parts.append(wire.u32(_RTA_OIF, route.index))
    parts.append(wire.u32(_RTA_TABLE, route.table))
    return b"".join(parts)


def _scope(route: RouteMessage) -> int:
    """How far away the destination is: without a gateway it must be on the link."""
    return _RT_SCOPE_LINK if route.via is None else _RT_SCOPE_UNIVERSE


def _family(ip: IP) -> int:
    return _AF_INET if ip.version == 4 else _AF_INET6


def _ip(packed: bytes) -> IP:
    try:
        return from_packed(packed)
    except ValueError as error:
        raise wire.WireError(str(error)) from None


def _network(family: int, packed: bytes, prefix: int) -> Network:
    try:
        if family == _AF_INET:
            return IPv4Network((packed or bytes(4), prefix))
        return IPv6Network((packed or bytes(16), prefix))
    except ValueError as error:
        raise wire.WireError(f"route to {packed.hex()}/{prefix}") from error
