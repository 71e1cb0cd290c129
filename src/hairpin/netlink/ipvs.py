"""IPVS over generic netlink: what is asked of the kernel.  Its answers: ``ipvs_seen``.

The kernel's names are "service" and "destination".  A request is a row of attributes of which
most bytes repeat from one server to the next; ``pack`` remembers those and writes a whole batch
at once, which keeps ten thousand servers about as cheap as in C.  Sources:
include/uapi/linux/ip_vs.h, and net/netfilter/ipvs/ip_vs_ctl.c for what must be present.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
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

_PIECES = 5  # that ``pack`` makes each message of
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
    # Most of a message is as in the one before: the virtual server's name, and what is around it
    # and around the address in the messages of servers that are like these.
    verb, protocol, vip, vport, fwmark, key = "", "", None, -1, 0, b""
    virtual: VirtualServer | None = None
    real: RealServer | None = None
    start = lead = end = head = before = after = rest = opening = b""
    for number, change in zip(_NUMBERS, changes, strict=False):
        server = change.object
        if change.netns != netns:
            break
        if change.verb != verb:
            verb, vip, virtual, real = change.verb, None, None, None
        if type(server) is RealServer:
            if (
                server.vip is not vip
                or server.vport != vport
                or server.protocol != protocol
                or server.fwmark != fwmark
            ):
                protocol, vip, vport = server.protocol, server.vip, server.vport
                fwmark = server.fwmark
                key, opening = _key(server.protocol, server.vip, vport, fwmark), b""
            if real is None or (
                server.port != real.port
                or server.weight != real.weight
                or server.forwarding != real.forwarding
                or server.upper != real.upper
                or server.lower != real.lower
                or server.tunnel != real.tunnel
                or type(server.ip) is not type(real.ip)
                or server.fwmark != real.fwmark
            ):
                real, opening = server, b""
                head, before, after, rest = _around_address(family, change.verb, server, len(key))
            if not opening:
                opening = before + key + after
            ip = server.ip
            packed = ip._ip.to_bytes(_SIZES[type(ip)], "big")  # type: ignore[union-attr]  # int(ip) is a call more, a tenth of the round
            parts += head, number, opening, packed, rest
        elif type(server) is VirtualServer:
            protocol, vip, vport, fwmark = server.protocol, server.ip, server.port, server.fwmark
            key, opening = _key(server.protocol, vip, vport, fwmark), b""
            if virtual is None or not _alike(server, virtual):
                virtual = server
                start, lead, end = _around_key(family, change.verb, server, len(key))
            parts += start, number, lead, key, end
        else:
            break
    if parts:
        parts[-_PIECES] = parts[-_PIECES][:6] + _ACKED
    return b"".join(parts), len(parts) // _PIECES


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
    key = _key(server.protocol, server.ip, server.port, server.fwmark)
    return head + wire.nested(form.CMD_ATTR_SERVICE, key)


def _key(protocol: Protocol, ip: IP, port: int, fwmark: int) -> bytes:
    """What names a virtual server: its family, and firewall mark or protocol, address and port."""
    if fwmark:
        family = form.AF_INET if type(ip) is IPv4Address else form.AF_INET6
        return _MARKED.pack(6, form.SVC_ATTR_AF, family, 8, form.SVC_ATTR_FWMARK, fwmark)
    start, end = _key_ends(protocol, type(ip) is IPv4Address, port)
    packed: bytes = ip._ip.to_bytes(_SIZES[type(ip)], "big")  # type: ignore[union-attr]  # as in pack
    return start + packed + end


@lru_cache(maxsize=256)
def _key_ends(protocol: Protocol, is_v4: bool, port: int) -> tuple[bytes, bytes]:
    family = form.AF_INET if is_v4 else form.AF_INET6
    start = _KEY_START.pack(
        6, form.SVC_ATTR_AF, family,
        6, form.SVC_ATTR_PROTOCOL, form.PROTOCOLS[protocol],
        4 + _ADDRESS_SIZE, form.SVC_ATTR_ADDR,
    )  # fmt: skip
    padding = bytes(12 if is_v4 else 0)
    return start, padding + _PORT.pack(6, form.SVC_ATTR_PORT, port.to_bytes(2, "big"))


def _alike(one: VirtualServer, other: VirtualServer) -> bool:
    """Whether two differ in nothing but protocol, address, port and mark."""
    return (
        one.scheduler == other.scheduler
        and one.persistence == other.persistence
        and one.scheduler_flags == other.scheduler_flags
        and one.one_packet == other.one_packet
        and one.persistence_engine == other.persistence_engine
        and type(one.ip) is type(other.ip)
        and (not one.fwmark) == (not other.fwmark)
    )


def _around_key(
    family: int, verb: Verb, server: VirtualServer, key_size: int
) -> tuple[bytes, bytes, bytes]:
    return _virtual(
        family, key_size, verb, type(server.ip) is IPv4Address, server.scheduler,
        server.persistence, server.scheduler_flags, server.one_packet, server.persistence_engine,
    )  # fmt: skip


def _around_address(
    family: int, verb: Verb, server: RealServer, key_size: int
) -> tuple[bytes, bytes, bytes, bytes]:
    return _real(
        family, key_size, verb, type(server.ip) is IPv4Address, server.port, server.weight,
        server.forwarding, server.upper, server.lower, server.tunnel,
    )  # fmt: skip


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
