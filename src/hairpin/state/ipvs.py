"""IPVS: virtual servers, real servers, connection entries.

The kernel says "service" and "destination" (include/uapi/linux/ip_vs.h); we keep those words for
Kubernetes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hairpin.model.address import IP
from hairpin.state.base import KernelObject

Protocol = Literal["TCP", "UDP", "SCTP"]
Forwarding = Literal["masquerade", "tunnel", "route", "local", "bypass"]

SCHEDULERS = (
    "rr", "wrr", "lc", "wlc", "fo", "ovf", "lblc", "lblcr", "dh", "sh", "mh", "sed", "nq", "twos",
)  # fmt: skip
"""Every scheduler of Linux 6.1 (net/netfilter/ipvs/Kconfig); a kernel may lack some."""


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """IPVS_STATS_ATTR_*: totals since the object was made or zeroed."""

    connections: int = 0
    packets_in: int = 0
    packets_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class VirtualServer(KernelObject, frozen=True, tag="virtual-server", kw_only=True):
    """An address, port and protocol that IPVS answers for."""

    protocol: Protocol
    ip: IP
    port: int
    scheduler: str = "rr"

    @property
    def key(self) -> tuple[object, ...]:
        return ("virtual-server", self.protocol, self.ip, self.port)


class RealServer(KernelObject, frozen=True, tag="real-server", kw_only=True):
    """Where a virtual server sends connections: ``vip``/``vport``/``protocol`` name the server.

    ``weight`` 0 takes no new connections.
    """

    protocol: Protocol
    vip: IP
    vport: int
    ip: IP
    port: int
    weight: int = 1
    forwarding: Forwarding = "masquerade"

    @property
    def key(self) -> tuple[object, ...]:
        return ("real-server", self.protocol, self.vip, self.vport, self.ip, self.port)


class VirtualServerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A virtual server as the kernel reports it, with its counters and real servers."""

    server: VirtualServer
    counters: Counters
    real_servers: tuple[RealServerSeen, ...] = ()


class RealServerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A real server as the kernel reports it; connections now open, by state."""

    server: RealServer
    counters: Counters
    active: int = 0
    inactive: int = 0


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the IPVS connection table (/proc/net/ip_vs_conn)."""

    protocol: str
    client: IP
    client_port: int
    vip: IP
    vport: int
    server: IP
    server_port: int
    state: str
    expires: int  # seconds
