"""rtnetlink: what decides over packets beside links and addresses; read only.

Policy rules, routes of every table and type, neighbours, bridges' ports, forwarding entries and
VLANs, queues with what they dropped.  Links are known by index here.  Sources:
include/uapi/linux/{fib_rules,rtnetlink,neighbour,if_link,if_bridge,gen_stats}.h.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

import msgspec

from hairpin.model.address import IP, Network, from_packed, network
from hairpin.netlink import message as wire
from hairpin.netlink.message import Request
from hairpin.netlink.qdisc import parse_qdisc
from hairpin.netlink.route import parse_route
from hairpin.state.circumstances import Path, Policy, Port, Queue, Verdict

_RTM_GETLINK, _RTM_GETNEIGH, _RTM_GETRULE, _RTM_GETQDISC = 18, 30, 34, 38
_AF_INET, _AF_INET6, _AF_BRIDGE = 2, 10, 7

_RULE = Struct("=BBBBBxxBI")  # family, dst bits, src bits, tos, table, action, flags
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY = 1, 2, 3, 6
_FRA_FWMARK, _FRA_TABLE, _FRA_FWMASK = 10, 15, 16
_FRA_NARROW = (17, 19, 20, 22, 23, 24)  # output link, VRF, user, protocol, ports
_FIB_RULE_INVERT = 2
_ACTIONS = {1: "lookup", 6: "blackhole", 7: "unreachable", 8: "prohibit"}

_RTA_PRIORITY = 6
_RTMSG_SIZE = 12
_TYPES: dict[int, Verdict] = {
    1: "unicast", 2: "local", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw",
}  # fmt: skip

_NEIGHBOUR = Struct("=BxxxiHBB")  # family, link index, state, flags, type
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_FAILED, _NUD_NOARP, _NUD_PERMANENT = 0x20, 0x40, 0x80
_NUD_KNOWN = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable, stale, delay, probe, permanent
_NTF_MASTER = 0x04

_IFINFO = Struct("=BxHiII")
_IFF_NOARP = 0x80
_IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_EXT_MASK = 18, 26, 29
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_BRPORT_STATE, _BRPORT_LEARNING, _BRPORT_FLOOD, _BRPORT_ISOLATED = 1, 8, 9, 33
_BR_VLAN_FILTERING = 7
_RTEXT_FILTER_BRVLAN = 2
_BRIDGE_VLAN_INFO = 2
_VLAN = Struct("=HH")  # flags, VLAN

_TCMSG_SIZE = 20
_TCA_KIND, _TCA_STATS2, _STATS_QUEUE = 1, 7, 3
_STATS = Struct("=5I")  # packets waiting, bytes, dropped, requeued, over the limit


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A neighbour, or a forwarding entry, whose ``ip`` is that of a VXLAN's far end, else None.

    ``index`` is the link's.
    """

    index: int
    ip: IP | None
    mac: str | None
    permanent: bool = False
    failed: bool = False


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What of a link concerns bridging and ARP; ``port`` None: it is no bridge's."""

    index: int
    no_arp: bool
    filtering: bool
    port: Port | None = None


def dump_rules() -> Request:
    """Asks for the policy rules of both families."""
    return Request(_RTM_GETRULE, wire.NLM_F_DUMP, _RULE.pack(*[0] * 7))


def dump_neighbours(*, bridged: bool = False) -> Request:
    """Asks for the neighbours of all links, or for the forwarding entries of all bridges."""
    family = _AF_BRIDGE if bridged else 0
    return Request(_RTM_GETNEIGH, wire.NLM_F_DUMP, _NEIGHBOUR.pack(family, 0, 0, 0, 0))


def dump_devices() -> Request:
    """Asks for all links."""
    return Request(_RTM_GETLINK, wire.NLM_F_DUMP, _IFINFO.pack(0, 0, 0, 0, 0))


def dump_vlans() -> Request:
    """Asks for the VLANs of bridges' ports."""
    body = _IFINFO.pack(_AF_BRIDGE, 0, 0, 0, 0) + wire.u32(_IFLA_EXT_MASK, _RTEXT_FILTER_BRVLAN)
    return Request(_RTM_GETLINK, wire.NLM_F_DUMP, body)


def dump_queues() -> Request:
    """Asks for the queues of all links."""
    return Request(_RTM_GETQDISC, wire.NLM_F_DUMP, bytes(_TCMSG_SIZE))


def parse_rule(body: bytes) -> Policy | None:
    """A policy rule; None for families other than IPv4 and IPv6.  Raises WireError."""
    if len(body) < _RULE.size:
        raise wire.WireError(f"rule message of {len(body)} bytes")
    family, to_bits, from_bits, tos, table, action, flags = _RULE.unpack_from(body)
    if family not in (_AF_INET, _AF_INET6):
        return None
    found = wire.attributes(body, _RULE.size)
    mark = wire.number(found.get(_FRA_FWMARK, b""))
    link = found.get(_FRA_IIFNAME)
    return Policy(
        priority=wire.number(found.get(_FRA_PRIORITY, b"")),
        version=4 if family == _AF_INET else 6,
        action=_ACTIONS.get(action, "other"),
        table=wire.number(found.get(_FRA_TABLE, b"")) or table,
        source=_network(found.get(_FRA_SRC), from_bits),
        destination=_network(found.get(_FRA_DST), to_bits),
        link_in=wire.string(link) if link else None,
        mark=mark,
        mask=wire.number(found.get(_FRA_FWMASK, b"")) if mark else 0,
        inverted=bool(flags & _FIB_RULE_INVERT),
        narrow=bool(tos) or any(one in found for one in _FRA_NARROW),
    )


def parse_path(body: bytes, names: dict[int, str]) -> Path | None:
    """A route of any table; None for other families.  Raises WireError."""
    route = parse_route(body)
    if route is None:
        return None
    metric = wire.number(wire.attributes(body, _RTMSG_SIZE).get(_RTA_PRIORITY, b""))
    return Path(
        to=route.to,
        type=_TYPES.get(route.type, "other"),
        via=route.via,
        link=names.get(route.index or 0),
        table=route.table,
        metric=metric,
    )


def parse_entry(body: bytes) -> Entry:
    """A neighbour or a forwarding entry.  Raises WireError."""
    if len(body) < _NEIGHBOUR.size:
        raise wire.WireError(f"neighbour message of {len(body)} bytes")
    _, index, state, flags, _ = _NEIGHBOUR.unpack_from(body)
    found = wire.attributes(body, _NEIGHBOUR.size)
    mac, ip = found.get(_NDA_LLADDR), found.get(_NDA_DST)
    # A bridge's own entry of what it learned has no state of ARP's.
    known = bool(state & _NUD_KNOWN) or bool(state & _NUD_NOARP) or bool(flags & _NTF_MASTER)
    return Entry(
        index=index,
        ip=_ip(ip) if ip else None,
        mac=mac.hex(":") if mac and known else None,
        permanent=bool(state & (_NUD_PERMANENT | _NUD_NOARP)),
        failed=bool(state & _NUD_FAILED),
    )


def parse_device(body: bytes, names: dict[int, str]) -> Device:
    """What of a link concerns bridging and ARP.  Raises WireError."""
    _, _, index, flags, _ = _ifinfo(body)
    found = wire.attributes(body, _IFINFO.size)
    info = wire.attributes(found.get(_IFLA_LINKINFO, b""))
    filtering = False
    if wire.string(info.get(_INFO_KIND, b"")) == "bridge":
        own = wire.attributes(info.get(_INFO_DATA, b""))
        filtering = bool(wire.number(own.get(_BR_VLAN_FILTERING, b"")))
    port = None
    if wire.string(info.get(_INFO_SLAVE_KIND, b"")) == "bridge":
        own = wire.attributes(info.get(_INFO_SLAVE_DATA, b""))
        port = Port(
            link=names.get(index, ""),
            state=wire.number(own.get(_BRPORT_STATE, b"\3")),
            isolated=bool(wire.number(own.get(_BRPORT_ISOLATED, b""))),
            learning=bool(wire.number(own.get(_BRPORT_LEARNING, b"\1"))),
            flood=bool(wire.number(own.get(_BRPORT_FLOOD, b"\1"))),
        )
    return Device(index=index, no_arp=bool(flags & _IFF_NOARP), filtering=filtering, port=port)


def parse_vlans(body: bytes) -> tuple[int, tuple[int, ...]]:
    """A link's index, and the VLANs that it is in as a bridge's port.  Raises WireError."""
    index = int(_ifinfo(body)[2])
    spec = wire.attributes(body, _IFINFO.size).get(_IFLA_AF_SPEC, b"")
    return index, tuple(_VLAN.unpack(one)[1] for one in _all_of(spec, _BRIDGE_VLAN_INFO))


def parse_queue(body: bytes, names: dict[int, str]) -> Queue:
    """A link's queue.  Raises WireError."""
    index, netem = parse_qdisc(body)
    found = wire.attributes(body, _TCMSG_SIZE)
    counts = wire.attributes(found.get(_TCA_STATS2, b"")).get(_STATS_QUEUE, b"")
    return Queue(
        link=names.get(index, ""),
        kind=wire.string(found.get(_TCA_KIND, b"")),
        dropped=_STATS.unpack_from(counts)[2] if len(counts) >= _STATS.size else 0,
        loss=netem.loss if netem is not None else 0.0,
    )


def _all_of(data: bytes, kind: int) -> Iterator[bytes]:
    """All attributes of one type: a port has one for each of its VLANs."""
    at = 0
    while at + 4 <= len(data):
        size, type_ = wire.ATTRIBUTE.unpack_from(data, at)
        if size < 4 or at + size > len(data):
            raise wire.WireError(f"attribute of {size} bytes at offset {at} of {len(data)}")
        if type_ & 0x3FFF == kind and size == 4 + _VLAN.size:
            yield data[at + 4 : at + size]
        at += (size + 3) & ~3


def _ifinfo(body: bytes) -> tuple[int, ...]:
    if len(body) < _IFINFO.size:
        raise wire.WireError(f"link message of {len(body)} bytes")
    return _IFINFO.unpack_from(body)


def _ip(packed: bytes) -> IP:
    try:
        return from_packed(packed)
    except ValueError as error:
        raise wire.WireError(str(error)) from None


def _network(packed: bytes | None, bits: int) -> Network | None:
    return None if packed is None else network(f"{_ip(packed)}/{bits}")
