"""IPVS over generic netlink: what is asked of the kernel.  Its answers: ``ipvs_seen``.

The kernel's names are "service" and "destination".  A request is a row of attributes of which
most bytes repeat from one server to the next; ``pack`` remembers those and writes a whole batch
at once, which keeps ten thousand servers about as cheap as in C.  Sources:
include/uapi/linux/ip_vs.h, and net/netfilter/ipvs/ip_vs_ctl.c for what must be present.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from struct import Struct

from hairpin.model.address import IP
from hairpin.netlink import ipvs_format as form
from hairpin.netlink import message as wire
from hairpin.netlink.generic import GENERIC
from hairpin.netlink.ipvs_format import Verb
from hairpin.netlink.message import NLA_F_NESTED, NLM_F_ACK, NLM_F_REQUEST, Request
from hairpin.state.change import Change
from hairpin.state.ipvs import (
    Forwarding,
    Persistence,
    Protocol,
    RealServer,
    SchedulerFlag,
    Timeouts,
    Tunnel,
    VirtualServer,
    prefix_length,
)

MOST_PACKED = 512
"""How many Changes ``pack`` takes at once."""

_KEY_START = Struct("=HHHxx" + "HHHxx" + "HH")  # family; protocol; up to the address
_MARKED = Struct("=HHHxx" + "HHI")  # family; firewall mark
_PORT = Struct("=HH2sxx")
_SERVICE_REST = Struct("=HHII" + "HHI" + "HH4s")  # flags and their mask; timeout; netmask
_DEST_HEAD = Struct("=HH" + "HHHxx" + "HH")  # the nest; the family; up to the address
_DEST_REST = Struct("=HHI" + "HHI" + "HHI" + "HHI")
_TUNNEL = Struct("=HHBxxx" + "HH2sxx" + "HHHxx")
_ADDRESS_SIZE = 16  # union nf_inet_addr, for both families
_ALL_BITS = 0xFFFFFFFF

_SIZES: dict[type[IP], int] = {IPv4Address: 4, IPv6Address: 16}  # bytes of an address

_Shape = tuple[bytes, bytes, bytes, bytes, bytes]
"""A message: the header's first 8 bytes, its number, what comes before an address, that, the rest;
as long as they are not known, number and address are empty."""

_PIECES, _NUMBER, _ADDRESS = 5, 1, 3
_NO_SHAPE: _Shape = (b"", b"", b"", b"", b"")
_HEAD = Struct("=IHH")  # of nlmsghdr: length, type, flags
_ACKED = Struct("=H").pack(NLM_F_REQUEST | NLM_F_ACK)
_NUMBERS = [Struct("=II").pack(wire.FIRST_PACKED + number, 0) for number in range(MOST_PACKED)]


def request(family: int, verb: Verb, server: VirtualServer | RealServer) -> Request:
    """The request that adds, sets or removes a virtual or real server.

    ``family`` is the number that ``generic.get_family`` gave.  The kernel answers EEXIST to an
    add of what is there; ESRCH when there is no such virtual server; ENOENT when it has no such
    real server, or the kernel no such scheduler or persistence engine; EINVAL to a real server
    while the namespace's lo was never up.
    """
    packed, _ = pack(family, (Change(verb=verb, netns="", object=server),), "")
    return Request(family, 0, packed[wire.HEADER_SIZE :])


def pack(family: int, changes: Sequence[Change], netns: str) -> tuple[bytes, int]:
    """The messages of the first Changes, one after the other; and how many they are.

    It ends at MOST_PACKED, and before a Change of another namespace or of no server.  Numbers
    count up from ``message.FIRST_PACKED``; the last message asks for an ACK.  Written out for
    speed: 10 000 virtual servers with four real ones each are 50 000 rounds of this loop, and
    the kernel takes 1 to 2 us for each.
    """
    parts: list[bytes] = []
    quads: list[int] = []  # of each message the IPv4 address that sets it apart
    others: dict[int, bytes] = {}  # what sets it apart instead
    # All else is mostly as in the message before.  Whether it is shows in one tuple: a call would
    # cost a tenth of the round, and comparing field by field takes as long again.
    virtual = real = vip = None
    virtual_shape = real_shape = _NO_SHAPE
    head = before = after = rest = b""
    for change in changes if len(changes) <= MOST_PACKED else changes[:MOST_PACKED]:
        server = change.object
        if change.netns != netns:
            break
        if type(server) is RealServer:
            ip: IP | None = server.ip
            like = (
                change.verb, type(ip), server.protocol, server.vport, server.fwmark, server.port,
                server.weight, server.forwarding, server.upper, server.lower, server.tunnel,
            )  # fmt: skip
            if like != real:
                real, vip = like, None
            if server.vip is not vip:
                if type(server.vip) is not type(vip):
                    head, before, after, rest = _around_both(family, change.verb, server)
                vip = server.vip
                packed = b"" if server.fwmark else vip._ip.to_bytes(_SIZES[type(vip)], "big")  # type: ignore[union-attr]  # int(vip) is a call more
                real_shape = head, b"", before + packed + after, b"", rest
            parts += real_shape
        elif type(server) is VirtualServer:
            ip = server.ip
            alike = (
                change.verb, type(ip), server.protocol, server.port, server.fwmark,
                server.scheduler, server.persistence, server.scheduler_flags, server.one_packet,
                server.persistence_engine,
            )  # fmt: skip
            if alike != virtual:
                virtual, virtual_shape = alike, _around_one(family, change.verb, server)
            parts += virtual_shape
            if server.fwmark:
                ip = None
        else:
            break
        if type(ip) is IPv4Address:
            quads.append(ip._ip)  # type: ignore[attr-defined]  # as above
        else:
            others[len(quads)] = b"" if ip is None else ip.packed
            quads.append(0)
    return _joined(parts, quads, others), len(quads)


def _joined(parts: list[bytes], quads: list[int], others: Mapping[int, bytes]) -> bytes:
    """The messages of which ``pack`` made all but numbers, addresses and the wish for an ACK."""
    if not parts:
        return b""
    numbers, fours = _in_network_order(len(quads))
    parts[_NUMBER::_PIECES] = _NUMBERS[: len(quads)]
    parts[_ADDRESS::_PIECES] = fours.unpack(numbers.pack(*quads))
    for at, packed in others.items():
        parts[at * _PIECES + _ADDRESS] = packed
    parts[-_PIECES] = parts[-_PIECES][:6] + _ACKED
    return b"".join(parts)


@lru_cache(maxsize=16)
def _in_network_order(count: int) -> tuple[Struct, Struct]:
    """What makes numbers bytes, and what cuts these into pieces of four."""
    return Struct(f">{count}I"), Struct("4s" * count)


def dump_virtual_servers(family: int) -> Request:
    """Asks for all virtual servers of the namespace."""
    return Request(family, wire.NLM_F_DUMP, GENERIC.pack(form.GET_SERVICE, form.VERSION))


def dump_real_servers(family: int, server: VirtualServer) -> Request:
    """Asks for the real servers of one virtual server."""
    return Request(family, wire.NLM_F_DUMP, _about(form.GET_DEST, server))


def zero(family: int, server: VirtualServer | None = None) -> Request:
    """Sets the counters of a virtual server and its real servers to 0; of all when None."""
    return Request(family, 0, _about(form.ZERO, server))


def flush(family: int) -> Request:
    """Removes every virtual server of the namespace."""
    return Request(family, 0, GENERIC.pack(form.FLUSH, form.VERSION))


def get_timeouts(family: int) -> Request:
    """Asks for the namespace's timeouts."""
    return Request(family, 0, GENERIC.pack(form.GET_CONFIG, form.VERSION))


def set_timeouts(family: int, timeouts: Timeouts) -> Request:
    """Sets the timeouts that are not 0.  The kernel answers EINVAL to too large a number."""
    body = (
        GENERIC.pack(form.SET_CONFIG, form.VERSION)
        + wire.u32(form.CMD_ATTR_TIMEOUT_TCP, timeouts.tcp)
        + wire.u32(form.CMD_ATTR_TIMEOUT_TCP_FIN, timeouts.tcp_fin)
        + wire.u32(form.CMD_ATTR_TIMEOUT_UDP, timeouts.udp)
    )
    return Request(family, 0, body)


def get_info(family: int) -> Request:
    """Asks for IPVS's version and the size of its connection table."""
    return Request(family, 0, GENERIC.pack(form.GET_INFO, form.VERSION))


def _about(command: int, server: VirtualServer | None) -> bytes:
    head = GENERIC.pack(command, form.VERSION)
    if server is None:
        return head
    return head + wire.nested(form.CMD_ATTR_SERVICE, _key(server))


def _key(server: VirtualServer) -> bytes:
    """What names a virtual server."""
    start, end = _key_ends(
        server.protocol, type(server.ip) is IPv4Address, server.port, server.fwmark
    )
    return start + (b"" if server.fwmark else server.ip.packed) + end


@lru_cache(maxsize=256)
def _key_ends(protocol: Protocol, is_v4: bool, port: int, fwmark: int) -> tuple[bytes, bytes]:
    """What names a virtual server, around its address: its family, and protocol and port; of a
    marked one, which has no address, all of it: the family and the mark.
    """
    family = form.AF_INET if is_v4 else form.AF_INET6
    if fwmark:
        return _MARKED.pack(6, form.SVC_ATTR_AF, family, 8, form.SVC_ATTR_FWMARK, fwmark), b""
    start = _KEY_START.pack(
        6, form.SVC_ATTR_AF, family,
        6, form.SVC_ATTR_PROTOCOL, form.PROTOCOLS[protocol],
        4 + _ADDRESS_SIZE, form.SVC_ATTR_ADDR,
    )  # fmt: skip
    padding = bytes(12 if is_v4 else 0)
    return start, padding + _PORT.pack(6, form.SVC_ATTR_PORT, port.to_bytes(2, "big"))


def _around_one(family: int, verb: Verb, server: VirtualServer) -> _Shape:
    """A virtual server's message, around its address; a marked one's is there already."""
    start, end = _key_ends(
        server.protocol, type(server.ip) is IPv4Address, server.port, server.fwmark
    )
    is_v4 = type(server.ip) is IPv4Address
    key_size = len(start) + (0 if server.fwmark else _SIZES[type(server.ip)]) + len(end)
    head, before, rest = _virtual(
        family, key_size, verb, is_v4, server.scheduler,
        server.persistence, server.scheduler_flags, server.one_packet, server.persistence_engine,
    )  # fmt: skip
    return head, b"", before + start, b"", end + rest


def _around_both(family: int, verb: Verb, server: RealServer) -> tuple[bytes, bytes, bytes, bytes]:
    """A real server's message, around the virtual server's address and its own."""
    start, end = _key_ends(
        server.protocol, type(server.vip) is IPv4Address, server.vport, server.fwmark
    )
    key_size = len(start) + (0 if server.fwmark else _SIZES[type(server.vip)]) + len(end)
    head, before, after, rest = _real(
        family, key_size, verb, type(server.ip) is IPv4Address, server.port, server.weight,
        server.forwarding, server.upper, server.lower, server.tunnel,
    )  # fmt: skip
    return head, before + start, end + after, rest


@lru_cache(maxsize=256)
def _virtual(
    family: int,
    key_size: int,
    verb: Verb,
    is_v4: bool,
    scheduler: str,
    persistence: Persistence | None,
    flags: frozenset[SchedulerFlag],
    one_packet: bool,
    engine: str,
) -> tuple[bytes, bytes, bytes]:
    """Of a virtual server's message: the header's first 8 bytes, what is before the key, the rest.

    The kernel wants flags, timeout and netmask always (ip_vs_genl_parse_service).
    """
    rest = b""
    if verb != "remove":
        bits = sum(form.SCHEDULER_BITS[flag] for flag in flags)
        bits |= form.SVC_F_ONEPACKET if one_packet else 0
        bits |= form.SVC_F_PERSISTENT if persistence else 0
        rest = wire.text(form.SVC_ATTR_SCHED_NAME, scheduler)
        if engine:
            rest += wire.text(form.SVC_ATTR_PE_NAME, engine)
        rest += _SERVICE_REST.pack(
            12, form.SVC_ATTR_FLAGS, bits, _ALL_BITS,
            8, form.SVC_ATTR_TIMEOUT, persistence.timeout if persistence else 0,
            8, form.SVC_ATTR_NETMASK, _netmask(persistence.mask if persistence else None, is_v4),
        )  # fmt: skip
    opening = GENERIC.pack(form.SERVICE_COMMANDS[verb], form.VERSION) + wire.ATTRIBUTE.pack(
        4 + key_size + len(rest), form.CMD_ATTR_SERVICE | NLA_F_NESTED
    )
    size = wire.HEADER_SIZE + len(opening) + key_size + len(rest)
    return _HEAD.pack(size, family, NLM_F_REQUEST), opening, rest


def _netmask(mask: IP | None, is_v4: bool) -> bytes:
    """An address for IPv4, a number of bits for IPv6 (ip_vs_add_service)."""
    if is_v4:
        return mask.packed if mask is not None else b"\xff\xff\xff\xff"
    return (128 if mask is None else prefix_length(mask)).to_bytes(4, sys.byteorder)


@lru_cache(maxsize=1024)
def _real(
    family: int,
    key_size: int,
    verb: Verb,
    is_v4: bool,
    port: int,
    weight: int,
    forwarding: Forwarding,
    upper: int,
    lower: int,
    tunnel: Tunnel | None,
) -> tuple[bytes, bytes, bytes, bytes]:
    """Of a real server's message: the header's first 8 bytes, and what is before the virtual
    server's key, between that and the real server's address, and after it.
    """
    rest = bytes(12 if is_v4 else 0) + _PORT.pack(6, form.DEST_ATTR_PORT, port.to_bytes(2, "big"))
    if verb != "remove":
        rest += _DEST_REST.pack(
            8, form.DEST_ATTR_FWD_METHOD, form.FORWARDING[forwarding],
            8, form.DEST_ATTR_WEIGHT, weight,
            8, form.DEST_ATTR_U_THRESH, upper,
            8, form.DEST_ATTR_L_THRESH, lower,
        )  # fmt: skip
        if tunnel is not None:  # left out, it is IPIP; kernels before 5.2 know nothing else
            rest += _TUNNEL.pack(
                5, form.DEST_ATTR_TUN_TYPE, form.TUNNELS[tunnel.type],
                6, form.DEST_ATTR_TUN_PORT, tunnel.port.to_bytes(2, "big"),
                6, form.DEST_ATTR_TUN_FLAGS, form.CHECKSUMS[tunnel.checksum],
            )  # fmt: skip
    before = GENERIC.pack(form.DEST_COMMANDS[verb], form.VERSION) + wire.ATTRIBUTE.pack(
        4 + key_size, form.CMD_ATTR_SERVICE | NLA_F_NESTED
    )
    nest = _DEST_HEAD.size + (4 if is_v4 else 16) + len(rest)
    middle = _DEST_HEAD.pack(
        nest, form.CMD_ATTR_DEST | NLA_F_NESTED,
        6, form.DEST_ATTR_ADDR_FAMILY, form.AF_INET if is_v4 else form.AF_INET6,
        4 + _ADDRESS_SIZE, form.DEST_ATTR_ADDR,
    )  # fmt: skip
    size = wire.HEADER_SIZE + len(before) + key_size + nest
    return _HEAD.pack(size, family, NLM_F_REQUEST), before, middle, rest
