"""Kernel objects in the words of the tools that save and restore them."""

from __future__ import annotations

from collections.abc import Iterable

from hairpin.present import ipset, iptables, ipvsadm, nft
from hairpin.state.base import KernelObject
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import RealServer, VirtualServer

SECTIONS = ("ipvsadm-save", "ipset-save", "iptables-save", "ip6tables-save")
"""What each part is headed with, after ``### ``: the program that prints such lines."""


def restore(objects: Iterable[KernelObject], mode: str = "ipvs") -> str:
    """What ``ipvsadm -Sn``, ``ipset save``, ``iptables-save`` and ``ip6tables-save`` would print;
    in iptables mode the latter two, in nftables mode what ``nft list ruleset`` would.

    Of objects that none of them knows (links, addresses, sysctls) nothing is said.
    """
    if mode == "nftables":
        return f"### nft list ruleset\n{nft.listing(objects)}"
    servers: list[VirtualServer | RealServer] = []
    sets: list[IpSet | SetEntry] = []
    filters: list[iptables.Object] = []
    for one in objects:
        match one:
            case VirtualServer() | RealServer():
                servers.append(one)
            case IpSet() | SetEntry():
                sets.append(one)
            case _ if isinstance(one, iptables.KINDS):
                filters.append(one)
    texts = [iptables.save(filters, "ip"), iptables.save(filters, "ip6")]
    if mode == "ipvs":
        texts = [ipvsadm.save(servers), ipset.save(sets), *texts]
    names = SECTIONS[-len(texts) :]
    return "".join(f"### {name}\n{text}" for name, text in zip(names, texts, strict=True))


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
