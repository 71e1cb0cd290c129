"""What decides over packets in a namespace beside links, addresses and netfilter's rules.

Only ever observed: hairpin plans and makes none of it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hairpin.model.address import IP, Network

Verdict = Literal["unicast", "local", "blackhole", "unreachable", "prohibit", "throw", "other"]
"""A route's type, ip-route(8)."""

MAIN = 254
"""The number of the table ``main``, include/uapi/linux/rtnetlink.h."""


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """A route of any table and type.  Of equal networks the smallest ``metric`` counts."""

    to: Network
    type: Verdict = "unicast"
    via: IP | None = None
    link: str | None = None
    table: int = MAIN
    metric: int = 0


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of ``ip rule``: whose packets look up which table, or what becomes of them.

    ``action`` is ``lookup`` or a verdict.  ``mark`` is of the packet, under ``mask``.  ``narrow``:
    it asks for more than is told here (ports, a protocol, a user), so that whether it matches is
    not known.
    """

    priority: int
    version: Literal[4, 6]
    action: str = "lookup"
    table: int = 0
    source: Network | None = None
    destination: Network | None = None
    link_in: str | None = None
    mark: int = 0
    mask: int = 0
    inverted: bool = False
    narrow: bool = False


class Acquainted(msgspec.Struct, frozen=True, kw_only=True):
    """Which hardware address an IP address has on a link.  ``mac`` None: not found out.

    ``permanent``: somebody wrote it, and nobody is ever asked.
    """

    link: str
    ip: IP
    mac: str | None = None
    permanent: bool = False
    failed: bool = False


class Port(msgspec.Struct, frozen=True, kw_only=True):
    """A bridge's port.  ``state`` is STP's number, 3 is forwarding; ``vlans`` are its VLANs."""

    link: str
    state: int = 3
    isolated: bool = False
    learning: bool = True
    flood: bool = True
    vlans: tuple[int, ...] = ()


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """Behind which port of a bridge a hardware address is; ``to``: behind which end of a VXLAN."""

    link: str
    mac: str
    static: bool = False
    to: IP | None = None


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A queueing discipline of a link, and how many packets it has dropped since it was made.

    ``loss`` is netem's, from 0 to 1.
    """

    link: str
    kind: str
    dropped: int = 0
    loss: float = 0.0


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """All that was seen of one namespace.

    ``no_arp`` are links that ask nobody for hardware addresses; ``filtering`` bridges that look at
    VLANs.  ``settings`` by name, as ``sysctl`` prints them.  ``listed_rules`` is what ``nft -a list
    ruleset`` prints of families that hooks tell nothing of.
    """

    paths: tuple[Path, ...] = ()
    policies: tuple[Policy, ...] = ()
    neighbours: tuple[Acquainted, ...] = ()
    ports: tuple[Port, ...] = ()
    learned: tuple[Learned, ...] = ()
    queues: tuple[Queue, ...] = ()
    no_arp: tuple[str, ...] = ()
    filtering: tuple[str, ...] = ()
    settings: dict[str, str] = {}
    listed_rules: str = ""
