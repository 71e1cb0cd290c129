"""What a node's kernel holds, as values, as far as it could be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from hairpin.present.iptables_save import Printed
from hairpin.state.conntrack import Flow
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import RealServer, Timeouts, VirtualServer
from hairpin.state.links import Address, Link
from hairpin.state.netfilter import Family
from hairpin.state.nftables import NftObject

Part = Literal[
    "ipvs", "timeouts", "ipset", "iptables", "ip6tables", "nftables", "addresses", "settings",
    "bridge", "conntrack",
]  # fmt: skip
"""Parts of a kernel that are read, each by itself."""

FILES: Mapping[Part, str] = {
    "ipvs": "ipvsadm-save.txt",
    "timeouts": "ipvsadm-timeout.txt",
    "ipset": "ipset-save.txt",
    "iptables": "iptables-save.txt",
    "ip6tables": "ip6tables-save.txt",
    "nftables": "ruleset.json",
    "addresses": "ip-addr.json",
    "settings": "sysctl.txt",
    "bridge": "bridge-link.json",
    "conntrack": "conntrack.txt",
}
"""The file of a folder of dumps that a part is in."""

COMMANDS: Mapping[Part, str] = {
    "ipvs": "ipvsadm -Sn",
    "timeouts": "ipvsadm -l --timeout",
    "ipset": "ipset save",
    "iptables": "iptables-save",
    "ip6tables": "ip6tables-save",
    "nftables": "nft -j list ruleset",
    "addresses": "ip -j addr",
    "settings": "sysctl -a",
    "bridge": "bridge -j -d link",
    "conntrack": "conntrack -L -p udp",
}
"""What prints such a file on a node."""

TABLES: Mapping[Family, Part] = {"ip": "iptables", "ip6": "ip6tables"}


class Port(msgspec.Struct, frozen=True):
    """A port of a bridge, and whether a frame may leave by the port that it came in on."""

    name: str
    bridge: str
    hairpin: bool


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """``unread`` says of a part why it is not known; of such a part nothing is in the fields.

    ``links`` have names, kinds and whether they are up, no more; ``promiscuous`` are those that
    take frames for others.  ``settings`` are sysctls by their dotted names.
    """

    servers: tuple[VirtualServer | RealServer, ...] = ()
    timeouts: Timeouts | None = None
    sets: tuple[IpSet | SetEntry, ...] = ()
    tables: Mapping[Family, Printed] = {}
    nftables: tuple[NftObject, ...] = ()
    links: tuple[Link, ...] = ()
    promiscuous: frozenset[str] = frozenset()
    addresses: tuple[Address, ...] = ()
    settings: Mapping[str, str] = {}
    ports: tuple[Port, ...] = ()
    flows: tuple[Flow, ...] = ()
    unread: Mapping[Part, str] = {}

    def knows(self, part: Part) -> bool:
        return part not in self.unread
