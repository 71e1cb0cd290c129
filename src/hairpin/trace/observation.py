"""What was seen of one traced connection: packets on links, and what namespaces held.

Taken by ``kernel.observer`` and ``lab.tracing``; nothing here is a conclusion.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hairpin.model.address import IP
from hairpin.state.change import Wanted
from hairpin.state.conntrack import Flow
from hairpin.state.ipvs import Connection, VirtualServerSeen
from hairpin.state.links import Address, Link, Route

Role = Literal["pod", "node", "outside", "other"]
Protocol = Literal["TCP", "UDP", "SCTP", "ICMP"]


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A packet on a link of a namespace.

    ``way``: "in" was received by the link, "out" sent on it.  ``data`` begins with the Ethernet
    header.  ``at`` is in seconds of the kernel's clock, comparable between namespaces.
    """

    netns: str
    link: str
    way: Literal["in", "out"]
    at: float
    data: bytes
    length: int = 0  # bytes on the link, where ``data`` was cut


class Rewriting(msgspec.Struct, frozen=True, kw_only=True):
    """What rewrites packets in a namespace, and remembers that it did."""

    flows: tuple[Flow, ...] = ()
    connections: tuple[Connection, ...] = ()
    texts: dict[str, str] = {}
    """Programs' and /proc's own words, by name: iptables, ip6tables (as ``iptables-save -c``),
    iptables-other (the variant that the proxy does not use; other-variant is its name, legacy or
    nft), nft (``nft list ruleset``)."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace, and what it held right after the connection.

    ``name``: ``default/foo`` of a Pod, the node's name, or the namespace's.  ``before`` is what
    rewrote before the connection; only of nodes.
    """

    netns: str
    role: Role
    name: str
    node: str = ""  # of a Pod: the namespace of its node
    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    sysctls: dict[str, str] = {}
    servers: tuple[VirtualServerSeen, ...] = ()
    texts: dict[str, str] = {}
    """/proc's own words, by name: tcp, tcp6, udp, udp6, arp."""
    before: Rewriting = Rewriting()
    after: Rewriting = Rewriting()


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """The connection that was made, and what its maker saw of it.

    ``outcome`` and ``error`` are the probe's (``lab.probe.Seen``).  ``source_port`` 0: it had none.
    """

    netns: str
    ip: IP
    port: int
    protocol: Protocol
    outcome: str
    source: IP | None = None
    source_port: int = 0
    error: str | None = None
    status: int | None = None
    body: str = ""
    seconds: float = 0.0


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    tried: Tried
    places: tuple[Place, ...]
    sightings: tuple[Sighting, ...]
    wanted: tuple[Wanted, ...] = ()
    """What is in the kernel for the Services concerned, and why (provenance)."""
    missed: int = 0  # packets that the captures had no room for

    def place(self, netns: str) -> Place | None:
        """The namespace of that name."""
        return next((one for one in self.places if one.netns == netns), None)
