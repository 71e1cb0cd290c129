"""What a kernel can do, found by trying it in namespaces to throw away.

Each ability is a row of a table: what it is for, what to do where it is missing, and a function
that does it once and raises OSError when it cannot.  Versions and configuration are not asked:
what counts is whether it works, here and for this user.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import msgspec

from hairpin.kernel import throwaway, trials
from hairpin.kernel.errors import KernelError
from hairpin.state.abilities import Abilities
from hairpin.state.ipvs import SCHEDULERS
from hairpin.state.nftables import NftFamily


class Ability(msgspec.Struct, frozen=True):
    """One row: ``purpose`` says what needs it, ``remedy`` what brings it to a host's kernel.

    ``needs`` is another ability that this one is a part of.
    """

    name: str
    purpose: str
    remedy: str
    test: Callable[[], None]
    needs: str = ""


class Result(msgspec.Struct, frozen=True):
    """What became of trying one ability; ``why`` it is absent, else empty."""

    name: str
    able: bool
    why: str = ""


def attempt(names: Collection[str] | None = None) -> list[Result]:
    """Tries the abilities of those names, or all, in one child with namespaces of its own.

    Raises KernelError when the kernel refuses the namespaces.
    """
    chosen = [row for row in ABILITIES if names is None or row.name in names]
    found = throwaway.run(lambda: msgspec.to_builtins(_try_all(chosen)))
    return msgspec.convert(found, list[Result])


def report(results: Sequence[Result]) -> dict[str, Any]:
    """The results as the protocol carries them, with the kernel's release."""
    return {"kernel": os.uname().release, "results": msgspec.to_builtins(list(results))}


def abilities(results: Sequence[Result]) -> Abilities:
    """What a lab must know, from the results for ``FOR_LABS``."""
    able = {one.name: one.able for one in results}
    why = {one.name.replace("-", "_"): one.why for one in results if not one.able}
    for name in ("nft_nat_ip6", "nft_nat_ip"):
        if name in why:
            why["nftables"] = f"no NAT of nf_tables ({why.pop(name)})"
    legacy = not able["iptables"] and able["iptables-legacy"]
    if legacy:
        del why["iptables"]
    return Abilities(
        ipvs=able["ipvs"],
        ipvs_conntrack=able["ipvs-conntrack"],
        dummy=able["dummy"],
        br_netfilter=able["br-netfilter"],
        iptables=able["iptables"] or legacy,
        legacy_iptables=legacy,
        nftables=able["nft-nat-ip"] and able["nft-nat-ip6"],
        lacking=why,
    )


def _try_all(rows: Sequence[Ability]) -> list[Result]:
    found: dict[str, Result] = {}
    for row in rows:
        base = found.get(row.needs)
        lacking = base is not None and not base.able
        result = Result(row.name, False, f"needs {row.needs}") if lacking else _try(row)
        found[row.name] = result
    return list(found.values())


def _try(row: Ability) -> Result:
    try:
        row.test()
    except OSError as error:
        return Result(row.name, False, _words(error))
    return Result(row.name, True)


def _words(error: OSError) -> str:
    if isinstance(error, KernelError):
        return error.text or f"{error.name} ({error.strerror})"
    return error.strerror or str(error)


def _module(name: str, option: str) -> str:
    return f"modprobe {name} (CONFIG_{option})"


_IPVS = _module("ip_vs", "IP_VS; root, outside of user namespaces")
_NFT = _module("nft_masq", "NFT_MASQ")
_FAMILIES: tuple[NftFamily, ...] = ("ip", "ip6")

ABILITIES: tuple[Ability, ...] = (
    Ability("ipvs", "Services in ipvs mode", _IPVS, trials.virtual_server),
    *(
        Ability(
            f"ipvs-{name}",
            f"ipvs scheduler {name}",
            _module(f"ip_vs_{name}", f"IP_VS_{name.upper()}"),
            partial(trials.virtual_server, name),
            "ipvs",
        )
        for name in SCHEDULERS
    ),
    Ability(
        "ipvs-ipv6", "ipvs for IPv6 Services", _module("ip_vs", "IP_VS_IPV6"),
        partial(trials.virtual_server, address="2001:db8::1"), "ipvs",
    ),
    Ability(
        "ipvs-sctp", "ipvs for SCTP Services", _module("ip_vs", "IP_VS_PROTO_SCTP"),
        partial(trials.virtual_server, protocol="SCTP"), "ipvs",
    ),
    Ability(
        "ipvs-conntrack", "ingredient ipvs-conntrack", _module("ip_vs", "IP_VS_NFCT"),
        partial(trials.settable, "net.ipv4.vs.conntrack"), "ipvs",
    ),
    Ability("dummy", "kube-ipvs0, the ClusterIPs' link", _module("dummy", "DUMMY"), trials.dummy),
    Ability("veth", "Pods' links", _module("veth", "VETH"), trials.veth),
    Ability("bridge", "cni0, the Pods' bridge", _module("bridge", "BRIDGE"), trials.bridge),
    Ability(
        "bridge-hairpin", "ingredient hairpin=port", _module("bridge", "BRIDGE"),
        trials.bridge_hairpin,
    ),
    Ability(
        "br-netfilter", "ingredient br-netfilter",
        _module("br_netfilter", "BRIDGE_NETFILTER"),
        partial(trials.settable, "net.bridge.bridge-nf-call-iptables"),
    ),
    Ability(
        "iptables", "rules of labs, by the system's iptables", "apt-get install iptables",
        partial(trials.masquerade, ""),
    ),
    Ability(
        "iptables-legacy", "the variant over ip_tables",
        _module("iptable_nat", "IP_NF_NAT") + ", package iptables",
        partial(trials.masquerade, "-legacy"),
    ),
    Ability(
        "iptables-nft", "the variant over nf_tables",
        _module("nft_compat", "NFT_COMPAT") + ", package iptables",
        partial(trials.masquerade, "-nft"),
    ),
    Ability("ipset", "sets of kube-proxy's ipvs mode", _module("ip_set", "IP_SET"), trials.ipset),
    *(
        Ability(
            f"nft-nat-{family}", f"NAT of nf_tables in {family} tables", _NFT,
            partial(trials.nft_nat, family),
        )
        for family in _FAMILIES
    ),
    Ability(
        "nft-nat-inet", "NAT of nf_tables in inet tables", f"{_NFT}, package nftables",
        trials.nft_nat_inet,
    ),
    Ability(
        "nft-trace", "following packets through the rules", _module("nf_tables", "NF_TABLES"),
        trials.nft_trace,
    ),
    Ability(
        "nflog", "packets from rules to a program",
        _module("nfnetlink_log", "NETFILTER_NETLINK_LOG"), trials.nflog,
    ),
    Ability(
        "conntrack-netlink", "connections listed and forgotten",
        _module("nf_conntrack_netlink", "NF_CT_NETLINK"), trials.conntrack_netlink,
    ),
    Ability(
        "conntrack-max", "nf_conntrack_max set in a namespace",
        "none: only the machine's own namespace may, kube-proxy does it there",
        partial(trials.settable, "net.netfilter.nf_conntrack_max"),
    ),
    Ability("vxlan", "networks between nodes", _module("vxlan", "VXLAN"), trials.vxlan),
    Ability("ipip", "ipvs tunneling", _module("ipip", "NET_IPIP"), trials.ipip),
    Ability(
        "sctp", "SCTP Services", _module("sctp", "IP_SCTP"),
        partial(trials.listens, socket.AF_INET, socket.IPPROTO_SCTP, "127.0.0.1"),
    ),
    Ability(
        "ipv6", "IPv6 Services", _module("ipv6", "IPV6"),
        partial(trials.listens, socket.AF_INET6, 0, "::1"),
    ),
    Ability("packet-socket", "captures", _module("af_packet", "PACKET"), trials.packet_socket),
    Ability(
        "netem", "delays and losses on links", _module("sch_netem", "NET_SCH_NETEM"),
        trials.netem,
    ),
    Ability(
        "overlay", "a lab's root that can be written", _module("overlay", "OVERLAY_FS"),
        trials.overlay,
    ),
    Ability(
        "user-namespaces", "labs of ordinary users on this kernel",
        "sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000",
        trials.user_namespaces,
    ),
)  # fmt: skip

MODULES = (
    *(f"ip_vs_{name}" for name in SCHEDULERS), "dummy", "ip_set_hash_ipport", "vxlan", "ipip",
    "sctp", "hmac", "sch_netem", "nfnetlink_log", "nft_masq", "nft_chain_nat", "nft_compat",
)  # fmt: skip
"""What the kernel would have modprobe load for the trials, for a guest to load in a cheaper way.
hmac is for the cookies of an SCTP socket that listens."""

BUILDING = ("veth", "bridge")
"""Without these there is no lab at all."""
FOR_LABS = (
    *BUILDING, "ipvs", "ipvs-conntrack", "dummy", "br-netfilter", "iptables", "iptables-legacy",
    "nft-nat-ip", "nft-nat-ip6",
)  # fmt: skip
"""What decides how a lab is built, see ``state.abilities``."""
