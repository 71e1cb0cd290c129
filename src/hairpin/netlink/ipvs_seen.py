"""IPVS over generic netlink: what the kernel says, and our own requests read back.

Read attribute by attribute, since kernels add to them.  What a kernel holds without using it is
left out, as ``state.ipvs`` has no place for it.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from hairpin.model.address import IP
from hairpin.netlink import ipvs_format as form
from hairpin.netlink import message as wire
from hairpin.netlink.generic import GENERIC
from hairpin.netlink.ipvs_format import Verb
from hairpin.state.ipvs import (
    Checksum,
    Counters,
    Info,
    Persistence,
    Rates,
    RealServer,
    RealServerSeen,
    Timeouts,
    Tunnel,
    VirtualServer,
    VirtualServerSeen,
    prefix_mask,
)

_ANY: dict[int, IP] = {form.AF_INET: IPv4Address(0), form.AF_INET6: IPv6Address(0)}


def parse_request(body: bytes) -> tuple[Verb, VirtualServer | RealServer]:
    """What ``ipvs.request`` rendered; a removal's properties are the defaults.

    Raises WireError.
    """
    verb = form.VERBS.get(body[0]) if body else None
    if verb is None:
        raise wire.WireError("an IPVS message that is neither add, set nor remove")
    found = wire.attributes(body, GENERIC.size)
    server = _virtual_server(wire.attributes(found.get(form.CMD_ATTR_SERVICE, b"")))
    if form.CMD_ATTR_DEST not in found:
        return verb, server
    return verb, _real_server(wire.attributes(found[form.CMD_ATTR_DEST]), server)


def parse_virtual_server(body: bytes) -> VirtualServerSeen:
    """A virtual server from a dump, its real servers still to be asked for.  Raises WireError."""
    service = wire.attributes(body, GENERIC.size).get(form.CMD_ATTR_SERVICE, b"")
    found = wire.attributes(service)
    # Linux 4.1 and later have both; the older attribute cuts all but the bytes off at 32 bits.
    stats = found.get(form.SVC_ATTR_STATS64) or found.get(form.SVC_ATTR_STATS, b"")
    counters, rates = _stats(stats)
    return VirtualServerSeen(server=_virtual_server(found), counters=counters, rates=rates)


def parse_real_server(body: bytes, of: VirtualServer) -> RealServerSeen:
    """A real server from a dump of those of ``of``.  Raises WireError."""
    found = wire.attributes(wire.attributes(body, GENERIC.size).get(form.CMD_ATTR_DEST, b""))
    stats = found.get(form.DEST_ATTR_STATS64) or found.get(form.DEST_ATTR_STATS, b"")
    counters, rates = _stats(stats)
    return RealServerSeen(
        server=_real_server(found, of),
        counters=counters,
        rates=rates,
        active=wire.number(found.get(form.DEST_ATTR_ACTIVE_CONNS, b"")),
        inactive=wire.number(found.get(form.DEST_ATTR_INACT_CONNS, b"")),
        persistent=wire.number(found.get(form.DEST_ATTR_PERSIST_CONNS, b"")),
    )


def parse_timeouts(body: bytes) -> Timeouts:
    """The answer to ``ipvs.get_timeouts``, or what ``set_timeouts`` rendered.  Raises WireError."""
    found = wire.attributes(body, GENERIC.size)
    return Timeouts(
        tcp=wire.number(found.get(form.CMD_ATTR_TIMEOUT_TCP, b"")),
        tcp_fin=wire.number(found.get(form.CMD_ATTR_TIMEOUT_TCP_FIN, b"")),
        udp=wire.number(found.get(form.CMD_ATTR_TIMEOUT_UDP, b"")),
    )


def parse_info(body: bytes) -> Info:
    """The answer to ``ipvs.get_info``.  Raises WireError."""
    found = wire.attributes(body, GENERIC.size)
    version = wire.number(found.get(form.INFO_ATTR_VERSION, b""))
    return Info(
        version=(version >> 16 & 0xFF, version >> 8 & 0xFF, version & 0xFF),
        connection_table_size=wire.number(found.get(form.INFO_ATTR_CONN_TAB_SIZE, b"")),
    )


def _virtual_server(found: dict[int, bytes]) -> VirtualServer:
    family = wire.number(found.get(form.SVC_ATTR_AF, b""))
    if family not in _ANY:
        raise wire.WireError(f"an IPVS service of address family {family}")
    fwmark = wire.number(found.get(form.SVC_ATTR_FWMARK, b""))
    if fwmark:
        protocol, ip, port = form.PROTOCOLS["TCP"], _ANY[family], 0
    elif form.SVC_ATTR_ADDR in found:
        protocol = wire.number(found.get(form.SVC_ATTR_PROTOCOL, b""))
        ip = _ip(family, found[form.SVC_ATTR_ADDR])
        port = int.from_bytes(found.get(form.SVC_ATTR_PORT, b"")[:2], "big")
    else:
        raise wire.WireError("an IPVS service with neither address nor firewall mark")
    if protocol not in form.PROTOCOL_NAMES:
        raise wire.WireError(f"an IPVS service of IP protocol {protocol}")
    flags = wire.number(found.get(form.SVC_ATTR_FLAGS, b"")[:4])
    return VirtualServer(
        protocol=form.PROTOCOL_NAMES[protocol],
        ip=ip,
        port=port,
        fwmark=fwmark,
        scheduler=wire.string(found.get(form.SVC_ATTR_SCHED_NAME, b"rr")),
        persistence=_persistence(found, family) if flags & form.SVC_F_PERSISTENT else None,
        scheduler_flags=frozenset(flag for flag, bit in form.SCHEDULER_BITS.items() if flags & bit),
        one_packet=bool(flags & form.SVC_F_ONEPACKET),
        persistence_engine=wire.string(found.get(form.SVC_ATTR_PE_NAME, b"")),
    )


def _persistence(found: dict[int, bytes], family: int) -> Persistence:
    mask: IP | None = None
    netmask = found.get(form.SVC_ATTR_NETMASK, b"")
    if family == form.AF_INET and len(netmask) == 4:
        mask = IPv4Address(netmask)
    elif family == form.AF_INET6:
        length = wire.number(netmask)
        if not 1 <= length <= 128:
            raise wire.WireError(f"an IPVS service with an IPv6 mask of {length} bits")
        mask = prefix_mask(length)
    return Persistence(timeout=wire.number(found.get(form.SVC_ATTR_TIMEOUT, b"")), mask=mask)


def _real_server(found: dict[int, bytes], of: VirtualServer) -> RealServer:
    if form.DEST_ATTR_ADDR not in found:
        raise wire.WireError("an IPVS destination without an address")
    # Kernels before 3.18 have no family here: it is the virtual server's.
    family = wire.number(found.get(form.DEST_ATTR_ADDR_FAMILY, b"")) or (
        form.AF_INET if of.ip.version == 4 else form.AF_INET6
    )
    ip = _ip(family, found[form.DEST_ATTR_ADDR])
    method = wire.number(found.get(form.DEST_ATTR_FWD_METHOD, b"")) & form.FWD_MASK
    if form.DEST_ATTR_FWD_METHOD not in found and ip.version != of.ip.version:
        method = form.FORWARDING["tunnel"]  # a removal does not say it; it can be nothing else
    if method not in form.FORWARDING_NAMES:
        raise wire.WireError(f"an IPVS destination with forwarding method {method}")
    forwarding = form.FORWARDING_NAMES[method]
    weight = found.get(form.DEST_ATTR_WEIGHT)
    try:
        return RealServer(
            protocol=of.protocol,
            vip=of.ip,
            vport=of.port,
            fwmark=of.fwmark,
            ip=ip,
            port=int.from_bytes(found.get(form.DEST_ATTR_PORT, b"")[:2], "big"),
            weight=1 if weight is None else wire.number(weight),
            forwarding=forwarding,
            upper=wire.number(found.get(form.DEST_ATTR_U_THRESH, b"")),
            lower=wire.number(found.get(form.DEST_ATTR_L_THRESH, b"")),
            tunnel=_tunnel(found) if forwarding == "tunnel" else None,
        )
    except wire.WireError:
        raise
    except ValueError as error:
        raise wire.WireError(f"an IPVS destination: {error}") from None


def _tunnel(found: dict[int, bytes]) -> Tunnel | None:
    kind = wire.number(found.get(form.DEST_ATTR_TUN_TYPE, b""))
    if kind not in form.TUNNEL_NAMES:
        return None
    flags = wire.number(found.get(form.DEST_ATTR_TUN_FLAGS, b""))
    checksum: Checksum = "full" if flags & form.CHECKSUMS["full"] else "none"
    # GRE keeps nothing but the one bit, and a GUE port may stand with it unused.
    if form.TUNNEL_NAMES[kind] == "gre":
        return Tunnel(type="gre", checksum=checksum)
    if flags & form.CHECKSUMS["remote"]:
        checksum = "remote"
    port = int.from_bytes(found.get(form.DEST_ATTR_TUN_PORT, b"")[:2], "big")
    return Tunnel(type="gue", port=port, checksum=checksum)


@lru_cache(maxsize=256)
def _stats(stats: bytes) -> tuple[Counters, Rates]:
    found = wire.attributes(stats)
    total, rate = (
        [wire.number(found.get(first + number, b"")) for number in range(5)]
        for first in (form.STATS_ATTR_CONNS, form.STATS_ATTR_CPS)
    )
    names = Counters.__struct_fields__
    return Counters(**dict(zip(names, total, strict=True))), Rates(
        **dict(zip(names, rate, strict=True))
    )


def _ip(family: int, packed: bytes) -> IP:
    if family == form.AF_INET and len(packed) >= 4:
        return IPv4Address(packed[:4])
    if family == form.AF_INET6 and len(packed) == 16:
        return IPv6Address(packed)
    raise wire.WireError(f"an IPVS address of family {family}, {len(packed)} bytes")
