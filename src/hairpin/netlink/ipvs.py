"""IPVS over generic netlink: virtual servers, real servers, their counters.

The kernel's names are "service" and "destination".  A request is a fixed row of attributes, so
it is one packed Struct: that is what keeps ten thousand of them as cheap as in C.  Answers are
read attribute by attribute, since kernels add to them.  Sources: include/uapi/linux/ip_vs.h,
and net/netfilter/ipvs/ip_vs_ctl.c for what must be present.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import Literal

from hairpin.model.address import IP
from hairpin.netlink import message as wire
from hairpin.netlink.generic import GENERIC
from hairpin.netlink.message import NLA_F_NESTED, Request
from hairpin.state.ipvs import (
    Counters,
    Forwarding,
    Protocol,
    RealServer,
    RealServerSeen,
    VirtualServer,
    VirtualServerSeen,
)

FAMILY_NAME = "IPVS"
Verb = Literal["add", "set", "remove"]

_VERSION = 1
_GET_SERVICE = 4
_GET_DEST = 8
_SERVICE_COMMANDS: dict[Verb, int] = {"add": 1, "set": 2, "remove": 3}
_DEST_COMMANDS: dict[Verb, int] = {"add": 5, "set": 6, "remove": 7}
_VERBS: dict[int, Verb] = {1: "add", 2: "set", 3: "remove", 5: "add", 6: "set", 7: "remove"}

_CMD_ATTR_SERVICE = 1
_CMD_ATTR_DEST = 2

_SVC_ATTR_AF = 1
_SVC_ATTR_PROTOCOL = 2
_SVC_ATTR_ADDR = 3
_SVC_ATTR_PORT = 4
_SVC_ATTR_SCHED_NAME = 6
_SVC_ATTR_FLAGS = 7
_SVC_ATTR_TIMEOUT = 8
_SVC_ATTR_NETMASK = 9
_SVC_ATTR_STATS = 10
_SVC_ATTR_STATS64 = 12

_DEST_ATTR_ADDR = 1
_DEST_ATTR_PORT = 2
_DEST_ATTR_FWD_METHOD = 3
_DEST_ATTR_WEIGHT = 4
_DEST_ATTR_U_THRESH = 5
_DEST_ATTR_L_THRESH = 6
_DEST_ATTR_ACTIVE_CONNS = 7
_DEST_ATTR_INACT_CONNS = 8
_DEST_ATTR_STATS = 10
_DEST_ATTR_ADDR_FAMILY = 11
_DEST_ATTR_STATS64 = 12

_STATS_ATTR_CONNS = 1
_STATS_ATTR_INPKTS = 2
_STATS_ATTR_OUTPKTS = 3
_STATS_ATTR_INBYTES = 4
_STATS_ATTR_OUTBYTES = 5

_AF_INET = 2
_AF_INET6 = 10
_PROTOCOLS: dict[Protocol, int] = {"TCP": 6, "UDP": 17, "SCTP": 132}
_PROTOCOL_NAMES = {number: name for name, number in _PROTOCOLS.items()}
_FORWARDING: dict[Forwarding, int] = {
    "masquerade": 0,
    "local": 1,
    "tunnel": 2,
    "route": 3,
    "bypass": 4,
}
_FORWARDING_NAMES = {number: name for name, number in _FORWARDING.items()}
_FWD_MASK = 0x7  # IP_VS_CONN_F_FWD_MASK; the other bits are the connection's, not ours

_U16, _ADDR, _PORT, _U32 = "HHHxx", "HH16s", "HH2sxx", "HHI"
_SERVICE_KEY = Struct("=" + _U16 + _U16 + _ADDR + _PORT)
_SERVICE_REST = Struct("=" + "HHII" + _U32 * 2)  # flags and their mask; timeout; netmask
_DEST_HEAD = Struct("=" + "HH" + _U16 + "HH")  # the nest, the family, up to the address
_DEST_PORT = Struct("=" + _PORT)
_DEST_REST = Struct("=" + _U32 * 4)
_ALL_BITS = 0xFFFFFFFF
_SERVICE_HEADS = {
    verb: GENERIC.pack(command, _VERSION) for verb, command in _SERVICE_COMMANDS.items()
}


def request(family: int, verb: Verb, server: VirtualServer | RealServer) -> Request:
    """The request that adds, sets or removes a virtual or real server.

    ``family`` is the number that ``generic.get_family`` gave.  The kernel answers EEXIST to an
    add of what is there; ESRCH when there is no such virtual server; ENOENT when it has no such
    real server; EINVAL to a real server while the namespace's lo was never up; ENOENT to a
    scheduler that it does not have.
    """
    ip = server.ip
    version = ip.version
    if isinstance(server, VirtualServer):
        head = _SERVICE_HEADS[verb]
        rest = b"" if verb == "remove" else _service_rest(server.scheduler, version)
        key = _service_key(server.protocol, ip.packed, server.port)
        return Request(family, 0, head + wire.nested(_CMD_ATTR_SERVICE, key, rest))
    # Only the address differs from one real server to the next; the rest is remembered.
    before = _before_address(verb, server.protocol, server.vip.packed, server.vport, version)
    after = _after_address(verb, version, server.port, server.forwarding, server.weight)
    return Request(family, 0, before + ip.packed + after)


def dump_virtual_servers(family: int) -> Request:
    """Asks for all virtual servers of the namespace."""
    return Request(family, wire.NLM_F_DUMP, GENERIC.pack(_GET_SERVICE, _VERSION))


def dump_real_servers(family: int, server: VirtualServer) -> Request:
    """Asks for the real servers of one virtual server."""
    head = GENERIC.pack(_GET_DEST, _VERSION)
    key = _service_key(server.protocol, server.ip.packed, server.port)
    return Request(family, wire.NLM_F_DUMP, head + wire.nested(_CMD_ATTR_SERVICE, key))


def parse_request(body: bytes) -> tuple[Verb, VirtualServer | RealServer]:
    """What ``request`` rendered; a removal's properties are the defaults.  Raises WireError."""
    verb = _VERBS.get(body[0]) if body else None
    if verb is None:
        raise wire.WireError("an IPVS message that is neither add, set nor remove")
    found = wire.attributes(body, GENERIC.size)
    server = _virtual_server(wire.attributes(found.get(_CMD_ATTR_SERVICE, b"")))
    if server is None:
        raise wire.WireError("an IPVS service with no address of its own")
    if _CMD_ATTR_DEST not in found:
        return verb, server
    return verb, _real_server(wire.attributes(found[_CMD_ATTR_DEST]), server)


def parse_virtual_server(body: bytes) -> VirtualServerSeen | None:
    """A virtual server from a dump, its real servers still to be asked for.

    None for one by firewall mark.  Raises WireError.
    """
    service = wire.attributes(body, GENERIC.size).get(_CMD_ATTR_SERVICE, b"")
    found = wire.attributes(service)
    server = _virtual_server(found)
    if server is None:
        return None
    counters = _counters(found.get(_SVC_ATTR_STATS64) or found.get(_SVC_ATTR_STATS, b""))
    return VirtualServerSeen(server=server, counters=counters)


def parse_real_server(body: bytes, of: VirtualServer) -> RealServerSeen:
    """A real server from a dump of those of ``of``.  Raises WireError."""
    found = wire.attributes(wire.attributes(body, GENERIC.size).get(_CMD_ATTR_DEST, b""))
    return RealServerSeen(
        server=_real_server(found, of),
        counters=_counters(found.get(_DEST_ATTR_STATS64) or found.get(_DEST_ATTR_STATS, b"")),
        active=wire.number(found.get(_DEST_ATTR_ACTIVE_CONNS, b"")),
        inactive=wire.number(found.get(_DEST_ATTR_INACT_CONNS, b"")),
    )


def _service_key(protocol: Protocol, ip: bytes, port: int) -> bytes:
    return _SERVICE_KEY.pack(
        6, _SVC_ATTR_AF, _AF_INET if len(ip) == 4 else _AF_INET6,
        6, _SVC_ATTR_PROTOCOL, _PROTOCOLS[protocol],
        20, _SVC_ATTR_ADDR, ip,
        6, _SVC_ATTR_PORT, port.to_bytes(2, "big"),
    )  # fmt: skip


@lru_cache(maxsize=64)
def _service_rest(scheduler: str, version: int) -> bytes:
    """What a virtual server has besides its key.

    The kernel wants flags, timeout and netmask always; persistence (timeout in seconds, netmask)
    and scheduler flags are not used yet.
    """
    flags, timeout = 0, 0
    # The netmask is an address for IPv4, a number of bits for IPv6 (ip_vs_genl_parse_service).
    netmask = _ALL_BITS if version == 4 else 128
    return wire.text(_SVC_ATTR_SCHED_NAME, scheduler) + _SERVICE_REST.pack(
        12, _SVC_ATTR_FLAGS, flags, _ALL_BITS,
        8, _SVC_ATTR_TIMEOUT, timeout,
        8, _SVC_ATTR_NETMASK, netmask,
    )  # fmt: skip


# The real servers of one virtual server are sent one after the other.
@lru_cache(maxsize=4)
def _before_address(verb: Verb, protocol: Protocol, vip: bytes, vport: int, version: int) -> bytes:
    """A real server's request up to its address, the virtual server's name in it."""
    size = _DEST_HEAD.size + 16 + _DEST_PORT.size + (0 if verb == "remove" else _DEST_REST.size)
    return (
        GENERIC.pack(_DEST_COMMANDS[verb], _VERSION)
        + wire.nested(_CMD_ATTR_SERVICE, _service_key(protocol, vip, vport))
        + _DEST_HEAD.pack(
            size, _CMD_ATTR_DEST | NLA_F_NESTED,
            6, _DEST_ATTR_ADDR_FAMILY, _AF_INET if version == 4 else _AF_INET6,
            20, _DEST_ATTR_ADDR,
        )
    )  # fmt: skip


@lru_cache(maxsize=256)
def _after_address(
    verb: Verb, version: int, port: int, forwarding: Forwarding, weight: int
) -> bytes:
    """A real server's request after its address."""
    padding = bytes(12 if version == 4 else 0)  # the attribute is a union of both families
    rest = padding + _DEST_PORT.pack(6, _DEST_ATTR_PORT, port.to_bytes(2, "big"))
    if verb == "remove":
        return rest
    upper, lower = 0, 0  # limits of connections, 0 for none; not used yet
    return rest + _DEST_REST.pack(
        8, _DEST_ATTR_FWD_METHOD, _FORWARDING[forwarding],
        8, _DEST_ATTR_WEIGHT, weight,
        8, _DEST_ATTR_U_THRESH, upper,
        8, _DEST_ATTR_L_THRESH, lower,
    )  # fmt: skip


def _virtual_server(found: dict[int, bytes]) -> VirtualServer | None:
    if _SVC_ATTR_ADDR not in found:
        return None
    protocol = wire.number(found.get(_SVC_ATTR_PROTOCOL, b""))
    if protocol not in _PROTOCOL_NAMES:
        raise wire.WireError(f"an IPVS service of IP protocol {protocol}")
    return VirtualServer(
        protocol=_PROTOCOL_NAMES[protocol],
        ip=_ip(wire.number(found.get(_SVC_ATTR_AF, b"")), found[_SVC_ATTR_ADDR]),
        port=int.from_bytes(found.get(_SVC_ATTR_PORT, b""), "big"),
        scheduler=wire.string(found.get(_SVC_ATTR_SCHED_NAME, b"rr")),
    )


def _real_server(found: dict[int, bytes], of: VirtualServer) -> RealServer:
    if _DEST_ATTR_ADDR not in found:
        raise wire.WireError("an IPVS destination without an address")
    # Kernels before 3.18 have no family here: it is the virtual server's.
    family = wire.number(found.get(_DEST_ATTR_ADDR_FAMILY, b"")) or (
        _AF_INET if of.ip.version == 4 else _AF_INET6
    )
    method = wire.number(found.get(_DEST_ATTR_FWD_METHOD, b"")) & _FWD_MASK
    if method not in _FORWARDING_NAMES:
        raise wire.WireError(f"an IPVS destination with forwarding method {method}")
    weight = found.get(_DEST_ATTR_WEIGHT)
    return RealServer(
        protocol=of.protocol,
        vip=of.ip,
        vport=of.port,
        ip=_ip(family, found[_DEST_ATTR_ADDR]),
        port=int.from_bytes(found.get(_DEST_ATTR_PORT, b""), "big"),
        weight=1 if weight is None else wire.number(weight),
        forwarding=_FORWARDING_NAMES[method],
    )


def _counters(stats: bytes) -> Counters:
    found = wire.attributes(stats)
    return Counters(
        connections=wire.number(found.get(_STATS_ATTR_CONNS, b"")),
        packets_in=wire.number(found.get(_STATS_ATTR_INPKTS, b"")),
        packets_out=wire.number(found.get(_STATS_ATTR_OUTPKTS, b"")),
        bytes_in=wire.number(found.get(_STATS_ATTR_INBYTES, b"")),
        bytes_out=wire.number(found.get(_STATS_ATTR_OUTBYTES, b"")),
    )


def _ip(family: int, packed: bytes) -> IP:
    if family == _AF_INET and len(packed) >= 4:
        return IPv4Address(packed[:4])
    if family == _AF_INET6 and len(packed) == 16:
        return IPv6Address(packed)
    raise wire.WireError(f"an IPVS address of family {family}, {len(packed)} bytes")
