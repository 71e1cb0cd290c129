"""Kernel objects in the words of the four tools that save and restore them."""

from __future__ import annotations

from collections.abc import Iterable

from hairpin.present import ipset, iptables, ipvsadm
from hairpin.state.base import KernelObject
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.netfilter import Chain, ChainPolicy, Jump, Rule

SECTIONS = ("ipvsadm-save", "ipset-save", "iptables-save", "ip6tables-save")
"""What each part is headed with, after ``### ``: the program that prints such lines."""


def restore(objects: Iterable[KernelObject]) -> str:
    """What ``ipvsadm -Sn``, ``ipset save``, ``iptables-save`` and ``ip6tables-save`` would print.

    Of objects that none of them knows (links, addresses, sysctls) nothing is said.
    """
    servers: list[VirtualServer | RealServer] = []
    sets: list[IpSet | SetEntry] = []
    filters: list[iptables.Object] = []
    for one in objects:
        match one:
            case VirtualServer() | RealServer():
                servers.append(one)
            case IpSet() | SetEntry():
                sets.append(one)
            case Chain() | ChainPolicy() | Jump() | Rule():
                filters.append(one)
    texts = (
        ipvsadm.save(servers),
        ipset.save(sets),
        iptables.save(filters, "ip"),
        iptables.save(filters, "ip6"),
    )
    return "".join(f"### {name}\n{text}" for name, text in zip(SECTIONS, texts, strict=True))


def sections(text: str) -> dict[str, str]:
    """The text under each heading of such an output."""
    found: dict[str, str] = {}
    name = ""
    for each in text.splitlines(keepends=True):
        if each.startswith("### "):
            name = each[4:].strip()
            found[name] = ""
        else:
            found[name] = found.get(name, "") + each
    return found
