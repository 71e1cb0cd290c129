"""What was seen of one traced connection: packets on links, and what namespaces held.

Taken by ``kernel.observer`` and ``lab.tracing``; nothing here is a conclusion.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hairpin.model.address import IP
from hairpin.state.change import Change, Wanted
from hairpin.state.circumstances import Circumstances
from hairpin.state.conntrack import Flow
from hairpin.state.ipvs import Connection, VirtualServerSeen
from hairpin.state.links import Address, Link, Route
from hairpin.trace.rules import SavedRule

Role = Literal["pod", "node", "outside", "other"]
HookName = Literal["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "INGRESS"]
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


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """A packet in one base chain of a hook: the rules that it met, and what came of it.

    ``rules`` are places in ``Observation.rules``, in their order; none: it was only looked at
    here.  ``data`` begins with the IP header, as it was when the packet came in, and may be cut.
    ``verdict``: what the chain said, empty where that was not told.  ``link_in`` and ``link_out``
    are known where the hook knows them.  Passages stand in the order of a packet's way.
    """

    netns: str
    hook: HookName
    family: str  # ip, ip6, inet, bridge, netdev
    table: str
    data: bytes
    rules: tuple[int, ...] = ()
    verdict: Literal["accept", "drop", ""] = ""
    link_in: str = ""
    link_out: str = ""


class Rewriting(msgspec.Struct, frozen=True, kw_only=True):
    """What rewrites packets in a namespace, and remembers that it did."""

    flows: tuple[Flow, ...] = ()
    connections: tuple[Connection, ...] = ()
    texts: dict[str, str] = {}
    """Programs' and /proc's own words, by name: iptables, ip6tables (as ``iptables-save -c``; own-
    variant says which, legacy or nft), iptables-other (the variant that the proxy does not use;
    other-variant says which), nft (``nft list ruleset``)."""


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
    """/proc/net's own words, by name: tcp, tcp6, udp, udp6, sctp/eps, arp."""
    before: Rewriting = Rewriting()
    after: Rewriting = Rewriting()
    around: Circumstances | None = None
    """What else decides there; looked at only where the connection failed."""


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


class Astray(msgspec.Struct, frozen=True, kw_only=True):
    """What a node's proxy would change now, were it to compare: the kernel is not as it wants it.

    ``owner`` is who asked for it: ``service default/web:http``, ``proxy`` of what Services share.
    """

    change: Change
    owner: str = ""
    shell: tuple[str, ...] = ()
    """The same as shell lines, typed on the node."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """All of it."""

    tried: Tried
    places: tuple[Place, ...]
    sightings: tuple[Sighting, ...]
    wanted: tuple[Wanted, ...] = ()
    """What is in the kernel for the Services concerned, and why (provenance)."""
    astray: tuple[Astray, ...] = ()
    """What of the proxies' objects is not as they want it; looked at only where it failed."""
    passages: tuple[Passage, ...] = ()
    """What hooks told of the packets that were asked for; some may be others'."""
    rules: tuple[SavedRule, ...] = ()
    """The rules and policies that passages met; ``packets`` is how often."""
    hooked: dict[str, str] = {}
    """The namespaces whose hooks told of packets, and by which means: nft, TRACE, or both."""
    gone: dict[str, tuple[Flow, ...]] = {}
    """By namespace: what conntrack remembered of the connection meanwhile and forgot again."""
    missed: int = 0  # packets that the captures had no room for
    untold: int = 0  # hooks of how many namespaces told more than there was room for
    partial: bool = False
    """Whether packets may go to namespaces that were not looked at: other machines."""

    def place(self, netns: str) -> Place | None:
        """The namespace of that name."""
        return next((one for one in self.places if one.netns == netns), None)
