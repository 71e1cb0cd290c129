"""IPVS: virtual servers, real servers, connection entries, timeouts.

The kernel says "service" and "destination" (include/uapi/linux/ip_vs.h); we keep those words for
Kubernetes.  What no kernel can hold is refused when a value is made; what it holds without using
it (a netmask without persistence, a GUE port of a server that masquerades) has no place in the
values, so that what is observed equals what was wanted.

``gc=False`` of the servers: there may be ten thousands, and none can lead back to itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hairpin.model.address import IP
from hairpin.state.base import KernelObject

Protocol = Literal["TCP", "UDP", "SCTP"]
Forwarding = Literal["masquerade", "tunnel", "route", "local", "bypass"]
SchedulerFlag = Literal[1, 2, 3]
Checksum = Literal["none", "full", "remote"]

# Checked when a value is decoded; a constructor trusts its caller, as everywhere.
Port = Annotated[int, Meta(ge=0, le=65535)]
Mark = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Weight = Annotated[int, Meta(ge=0, le=2**31 - 1)]  # signed in the kernel, ERANGE below 0
# The kernel counts in jiffies in 32 bits (HZ is at most 1 000).
Seconds = Annotated[int, Meta(ge=0, le=(2**32 - 1) // 1000)]

SCHEDULERS = (
    "rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "twos",
)  # fmt: skip
"""Every scheduler of Linux 6.1 (net/netfilter/ipvs/Kconfig); a kernel may lack some."""

FLAG_NAMES: Mapping[str, Mapping[SchedulerFlag, str]] = {
    "sh": {1: "sh-fallback", 2: "sh-port"},
    "mh": {1: "mh-fallback", 2: "mh-port"},
}
"""What a scheduler calls its flags (IP_VS_SVC_F_SCHED_*); elsewhere they are flag-1 to flag-3.

fallback: a real server of weight 0 is passed over instead of refusing.  port: the client's port
counts in the hash.
"""

_ANY: dict[int, IP] = {4: IPv4Address(0), 6: IPv6Address(0)}
_ALL_BITS: dict[int, IP] = {4: IPv4Address(2**32 - 1), 6: IPv6Address(2**128 - 1)}


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """IPVS_STATS_ATTR_*: totals since the object was made or zeroed."""

    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """The same by second, as the kernel estimates them (net/netfilter/ipvs/ip_vs_est.c)."""

    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class Persistence(msgspec.Struct, frozen=True, kw_only=True):
    """A client's connections go to one real server until ``timeout`` seconds after its last one.

    Clients that ``mask`` makes equal count as one client.  None is every bit, and a mask of all
    bits is made None.  IPv4 takes any mask; an IPv6 mask is a prefix of 1 to 128 bits.
    Raises ValueError.
    """

    timeout: Seconds
    mask: IP | None = None

    def __post_init__(self) -> None:
        mask = self.mask
        if mask is None:
            return
        if mask == _ALL_BITS[mask.version]:
            msgspec.structs.force_setattr(self, "mask", None)
        elif mask.version == 6:
            length = prefix_length(mask)
            if not length or mask != prefix_mask(length):
                raise ValueError(f"{mask} is no prefix of 1 to 128 bits")


class Tunnel(msgspec.Struct, frozen=True, kw_only=True):
    """How packets are wrapped where that is not plain IPIP (Linux 5.3 and later).

    ``port`` is GUE's destination port.  ``checksum`` is of the outer header: "full", or "remote"
    (remote checksum offload, GUE only).  Raises ValueError.
    """

    type: Literal["gue", "gre"]
    port: Port = 0
    checksum: Checksum = "none"

    def __post_init__(self) -> None:
        if self.type == "gue" and not self.port:
            raise ValueError("a GUE tunnel needs a port")
        if self.type == "gre" and (self.port or self.checksum == "remote"):
            raise ValueError("a GRE tunnel has no port and no remote checksum")


class VirtualServer(
    KernelObject, frozen=True, tag="virtual-server", kw_only=True, repr_omit_defaults=True, gc=False
):
    """An address, port and protocol that IPVS answers for; or a firewall mark.

    One by ``fwmark`` takes the packets that iptables marked so, whatever their address: it has
    the kernel's own empty values in ``protocol`` (TCP), ``ip`` (0.0.0.0 or ::, the family) and
    ``port`` (0); see ``by_mark``.  With persistence it keeps the port that the client used.

    ``one_packet`` schedules each UDP datagram by itself.  ``persistence_engine`` ("sip") looks
    into packets for what makes a client one.  Raises ValueError.
    """

    protocol: Protocol
    ip: IP
    port: Port
    scheduler: str = "rr"
    fwmark: Mark = 0
    persistence: Persistence | None = None
    scheduler_flags: frozenset[SchedulerFlag] = frozenset()
    one_packet: bool = False
    persistence_engine: str = ""

    def __post_init__(self) -> None:
        if self.fwmark:
            _check_mark(self.fwmark, self.protocol, self.ip, self.port)
        if self.persistence is not None:
            mask = self.persistence.mask
            if mask is not None and mask.version != self.ip.version:
                raise ValueError(f"the mask {mask} is not of the family of {self.ip}")

    @property
    def key(self) -> tuple[object, ...]:
        ip = self.ip
        at = (ip._ip, ip._version)  # type: ignore[union-attr]  # see KernelObject.key
        return ("virtual-server", self.protocol, *at, self.port, self.fwmark)

    @property
    def exclusive(self) -> str:
        return f"{self.ip} {self.protocol} {self.port}"


class RealServer(
    KernelObject, frozen=True, tag="real-server", kw_only=True, repr_omit_defaults=True, gc=False
):
    """Where a virtual server sends connections.

    ``protocol``, ``vip``, ``vport`` and ``fwmark`` name the virtual server.  ``weight`` 0 takes
    no new connections.  Above ``upper`` connections it gets no new ones until it is below
    ``lower`` (0: three quarters of ``upper``); ``upper`` 0 is no limit.  ``tunnel`` None is IPIP.
    Only a tunnel can lead to the other address family.  Raises ValueError.
    """

    protocol: Protocol
    vip: IP
    vport: Port
    ip: IP
    port: Port
    weight: Weight = 1
    forwarding: Forwarding = "masquerade"
    fwmark: Mark = 0
    upper: Count = 0
    lower: Count = 0
    tunnel: Tunnel | None = None

    def __post_init__(self) -> None:
        if self.forwarding != "tunnel":
            if self.tunnel is not None:
                raise ValueError(f"forwarding {self.forwarding} has no tunnel")
            if type(self.ip) is not type(self.vip):
                raise ValueError(f"only a tunnel leads from {self.vip} to {self.ip}")
        if self.lower > self.upper:
            raise ValueError(f"the lower threshold {self.lower} is above the upper {self.upper}")
        if self.fwmark:
            _check_mark(self.fwmark, self.protocol, self.vip, self.vport)

    @property
    def key(self) -> tuple[object, ...]:
        vip, ip = self.vip, self.ip
        at = (vip._ip, vip._version, ip._ip, ip._version)  # type: ignore[union-attr]  # see KernelObject.key
        return ("real-server", self.protocol, *at, self.vport, self.fwmark, self.port)

    @property
    def server_key(self) -> tuple[object, ...]:
        """The ``key`` of its virtual server."""
        vip = self.vip
        at = (vip._ip, vip._version)  # type: ignore[union-attr]  # see KernelObject.key
        return ("virtual-server", self.protocol, *at, self.vport, self.fwmark)


class Timeouts(KernelObject, frozen=True, tag="ipvs-timeouts", kw_only=True):
    """Seconds after which a namespace forgets a silent connection.  They always exist.

    In a "set", 0 leaves one as it is.
    """

    tcp: Seconds = 0
    tcp_fin: Seconds = 0
    udp: Seconds = 0

    @property
    def key(self) -> tuple[object, ...]:
        return ("ipvs-timeouts",)


class VirtualServerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual server as the kernel reports it, with its counters and real servers."""

    server: VirtualServer
    counters: Counters
    rates: Rates = Rates()
    real_servers: tuple[RealServerSeen, ...] = ()


class RealServerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A real server as the kernel reports it; connections now open, by state."""

    server: RealServer
    counters: Counters
    rates: Rates = Rates()
    active: int = 0
    inactive: int = 0
    persistent: int = 0


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the IPVS connection table (/proc/net/ip_vs_conn).

    A persistence template has ``client_port`` 0 and the state NONE or ASSURED; for one of a
    firewall mark the protocol is IP and ``vip`` holds the mark.  ``engine`` and ``engine_data``
    are the persistence engine's.
    """

    protocol: str
    client: IP
    client_port: int
    vip: IP
    vport: int
    server: IP
    server_port: int
    state: str
    expires: int  # seconds
    engine: str = ""
    engine_data: str = ""


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What IPVS says of itself: its version, and the buckets of its connection table."""

    version: tuple[int, int, int]
    connection_table_size: int


def by_mark(
    fwmark: int,
    version: Literal[4, 6] = 4,
    *,
    scheduler: str = "rr",
    persistence: Persistence | None = None,
    scheduler_flags: frozenset[SchedulerFlag] = frozenset(),
    one_packet: bool = False,
) -> VirtualServer:
    """The virtual server for IPv4 or IPv6 packets with that firewall mark.  Raises ValueError."""
    if not fwmark:
        raise ValueError("firewall mark 0 is none")
    return VirtualServer(
        protocol="TCP",
        ip=_ANY[version],
        port=0,
        fwmark=fwmark,
        scheduler=scheduler,
        persistence=persistence,
        scheduler_flags=scheduler_flags,
        one_packet=one_packet,
    )


def prefix_mask(length: int) -> IPv6Address:
    """The mask whose first ``length`` bits of 128 are set."""
    return IPv6Address((2**128 - 1) >> (128 - length) << (128 - length))


def prefix_length(mask: IP) -> int:
    """How many bits of a mask are set."""
    return int(mask).bit_count()


def _check_mark(fwmark: int, protocol: Protocol, ip: IP, port: int) -> None:
    if protocol != "TCP" or int(ip) or port:
        raise ValueError(f"a virtual server by firewall mark {fwmark} has no address of its own")
