"""What a namespace holds that decides about a connection, read right after it.

Everything is read, nothing is written.  A part that this kernel does not have is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from hairpin.kernel import spawn
from hairpin.kernel.apply import Kernel
from hairpin.kernel.errors import KernelError
from hairpin.kernel.hooks import legacy_tables
from hairpin.kernel.netns import Netns
from hairpin.state.conntrack import Flow
from hairpin.state.ipvs import Connection, VirtualServerSeen
from hairpin.state.links import Address, Link, Route
from hairpin.trace.observation import Place, Rewriting, Role

_SETTINGS = (
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.vs.conntrack",
    "net.bridge.bridge-nf-call-iptables",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.all.route_localnet",
    "net.ipv4.conf.all.arp_ignore",
)
_OF_LINKS = ("rp_filter",)
_LINKS = 64  # of a namespace whose own settings are read
_TEXTS = ("tcp", "tcp6", "udp", "udp6", "sctp/eps", "arp")
_TABLES = "/proc/thread-self/net"
_MOST_FLOWS = 5_000  # of one namespace and protocol that are looked at
_NUMBERS: dict[str, int] = {"ICMP": 1, "TCP": 6, "UDP": 17, "SCTP": 132}


def place(kernel: Kernel, netns: str, role: Role, name: str, node: str = "") -> Place:
    """What the namespace holds now.  Raises KernelError."""
    handle = kernel.namespaces[netns]
    seen = kernel.observe(netns, derived=True)
    links = tuple(one for one in seen if isinstance(one, Link))
    servers: tuple[VirtualServerSeen, ...] = ()
    if role == "node":
        with suppress(KernelError):  # no IPVS
            servers = tuple(kernel.observe_ipvs(netns))
    return Place(
        netns=netns,
        role=role,
        name=name,
        node=node,
        links=links,
        addresses=tuple(one for one in seen if isinstance(one, Address)),
        routes=tuple(one for one in seen if isinstance(one, Route)),
        sysctls=_settings(handle, [one.name for one in links]),
        servers=servers,
        texts=_texts(handle),
    )


def rewriting(
    kernel: Kernel,
    netns: str,
    protocol: str,
    ports: Iterable[int],
    version: int = 4,
    legacy: bool = False,
    listing: bool = True,
) -> Rewriting:
    """What rewrites packets there, and what is remembered of connections by those ports.

    ``version`` is IP's; ``legacy``: this kernel has the legacy variant of iptables only.  Without
    ``listing`` the text of nf_tables is left out: it has no counters to be compared.
    """
    handle = kernel.namespaces[netns]
    return Rewriting(
        flows=tuple(_flows(kernel, netns, protocol, frozenset(ports))),
        connections=tuple(_connections(kernel, netns, protocol)),
        texts=_rules(handle, version, legacy, listing),
    )


def _settings(netns: Netns, links: list[str]) -> dict[str, str]:
    names = list(_SETTINGS)
    names += [f"net.ipv4.conf.{link}.{one}" for link in links[:_LINKS] for one in _OF_LINKS]
    found: dict[str, str] = {}
    with netns.entered():
        for name in names:
            with suppress(OSError):
                fd = os.open(f"/proc/sys/{name.replace('.', '/')}", os.O_RDONLY)
                found[name] = os.read(fd, 64).decode().strip()
                os.close(fd)
    return found


def _texts(netns: Netns) -> dict[str, str]:
    found: dict[str, str] = {}
    with netns.entered():
        for name in _TEXTS:
            with suppress(OSError), open(f"{_TABLES}/{name}", encoding="ascii") as table:
                found[name] = table.read()
    return found


def _flows(kernel: Kernel, netns: str, protocol: str, ports: frozenset[int]) -> Iterable[Flow]:
    number = _NUMBERS[protocol]
    count = 0
    with suppress(KernelError):
        for flow in kernel.flows(netns, None if protocol == "ICMP" else protocol):  # type: ignore[arg-type]
            count += 1
            if count > _MOST_FLOWS:
                return
            ends = (flow.original, flow.reply)
            here = {end for one in ends for end in (one.source_port, one.destination_port)}
            if flow.protocol == number and (not ports or ports & here):
                yield flow


def _connections(kernel: Kernel, netns: str, protocol: str) -> list[Connection]:
    with suppress(OSError):
        return [one for one in kernel.connections(netns) if one.protocol in (protocol, "IP")][
            :_MOST_FLOWS
        ]
    return []


_FAMILIES = {4: ("iptables", "ip"), 6: ("ip6tables", "ip6")}


def _rules(netns: Netns, version: int, legacy: bool, listing: bool) -> dict[str, str]:
    """What ``Rewriting.texts`` says, by ``rewriting``'s words."""
    program, _ = _FAMILIES[version]
    found = {"legacy": ""}
    if legacy or legacy_tables(netns, version):  # else there is nothing to be said
        found["legacy"] = _said(netns, [f"{program}-legacy-save"], "-c")
    if not legacy:
        found["nft"] = _said(netns, [f"{program}-nft-save"], "-c")
    # What a proxy wrote is iptables here, and the other variant the surprise.
    own = max(found, key=lambda one: ("KUBE-" in found[one], found[one].count("\n-A"), one))
    texts = {program: found.pop(own), "own-variant": own}
    for variant, text in found.items():
        if "\n-A" in text.replace("\n[", "\n-A"):
            texts |= {f"{program}-other": text, "other-variant": variant}
    if listing and not legacy:
        texts["nft"] = _said(netns, ["nft"], "list", "ruleset")
    return {name: text for name, text in texts.items() if text}


def _said(netns: Netns, programs: list[str], *words: str) -> str:
    """What a program prints; nothing where there is none, or it cannot."""
    with suppress(KernelError):
        ended = spawn.run(netns, [spawn.find(programs), *words])
        if ended.code == 0:
            return ended.out
    return ""
