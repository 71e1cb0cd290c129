"""Changes that every mode knows: settings, stale connections, what other modes left."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from hairpin.audit.case import Case
from hairpin.plan.ipvs_sets import NAMES
from hairpin.state.conntrack import Flow, Tuple
from hairpin.state.ipset import IpSet
from hairpin.state.ipvs import VirtualServer
from hairpin.state.nftables import NftElement, NftTable
from hairpin.state.sysctl import Sysctl
from tests.audit import mutate_ipvs, mutate_nft, mutate_rules
from tests.audit.mutate_rules import with_rules
from tests.audit.play import Mutant, Play


def sysctl(play: Play) -> Mutant | None:
    names = [
        one.object.name
        for one in play.case.plan
        if isinstance(one.object, Sysctl) and one.object.name != "net.ipv4.ip_forward"
    ]
    name = play.random.choice(names)
    old = play.case.held.settings[name]
    settings = {**play.case.held.settings, name: "0" if old != "0" else "1"}
    return play.made("sysctl", "alter", name, ["proxy"], settings=settings)


def flow(play: Play) -> Mutant | None:
    ports = [
        (key, port)
        for key, plan in play.case.plan.plans.items()
        for port in plan.udp
        if port.serving and port.frontends
    ]
    (namespace, name), port = play.random.choice(ports)
    kind = ip_address(0).__class__ if port.version == 4 else ip_address("::").__class__
    number, at = play.random.choice(port.frontends)
    served = min(port.serving) >> 16
    client, gone = kind(served + 77), kind(served + 99)
    to = kind(number)
    flow = Flow(
        protocol=17,
        original=Tuple(client, play.random.randint(1024, 60000), to, at),
        reply=Tuple(gone, 5353, client, 1024),
    )
    owners = [f"service {namespace}/{name}:{_PORTS[namespace, name]}"]
    return play.made("flow", "add", flow, owners, flows=(flow,))


def left_servers(play: Play) -> Mutant | None:
    ip = play.random.choice(_cluster_ips(play.case))
    new = VirtualServer(protocol="TCP", ip=ip, port=play.random.choice((80, 443)), scheduler="rr")
    return play.made("leftover", "add", new, ["ipvs"], servers=(new,))


def left_sets(play: Play) -> Mutant | None:
    name = play.random.choice(sorted(NAMES[4].values()))
    new = IpSet(name=name, type="hash:ip,port", family="inet")
    return play.made("leftover", "add", new, ["ipvs"], sets=(new,))


def left_chains(play: Play) -> Mutant | None:
    name = play.random.choice(("KUBE-SERVICES", "KUBE-SVC-ABCDEFGHIJKLMNOP", "KUBE-POSTROUTING"))
    return play.made(
        "leftover", "add", name, ["ipvs", "iptables", "ipvs or iptables"],
        **with_rules(play, "ip", ("nat", name), [("-j", "RETURN")]),
    )  # fmt: skip


def left_table(play: Play) -> Mutant | None:
    family: Any = play.random.choice(("ip", "ip6"))
    new = NftTable(family=family, name="kube-proxy")
    return play.made("leftover", "add", new, ["nftables"], nftables=(new,))


def _cluster_ips(case: Case) -> list[Any]:
    elements = [one for one in case.held.nftables if isinstance(one, NftElement)]
    found = [one.of[0] for one in elements if one.set == "cluster-ips"]
    return found or [ip_address("10.96.1.1")]


_PORTS = {
    ("default", "g02-clusterip-udp"): "p",
    ("default", "g03-multiport"): "dns",
    ("default", "g04-nodeport"): "u",
}
"""The UDP ports of the recorded Services."""

Change = Callable[[Play], Mutant | None]


def leftover(play: Play) -> Mutant | None:
    """Something of another mode."""
    return play.random.choice(_LEFTOVERS[play.case.config.mode])(play)


_RULES: list[Change] = [
    mutate_rules.rule, mutate_rules.rule, mutate_rules.rule, mutate_rules.chain, mutate_rules.jump,
]  # fmt: skip
_LEFTOVERS: dict[str, list[Change]] = {
    "ipvs": [left_table],
    "iptables": [left_servers, left_sets, left_table],
    "nftables": [left_servers, left_sets, left_chains],
}
CHANGES: dict[str, list[Change]] = {
    "ipvs": [
        mutate_ipvs.server, mutate_ipvs.real, mutate_ipvs.entry, mutate_ipvs.entry,
        mutate_ipvs.ipset, mutate_ipvs.address, mutate_ipvs.link, *_RULES, sysctl, flow, leftover,
    ],
    "iptables": [*_RULES, *_RULES, sysctl, flow, leftover],
    "nftables": [
        mutate_nft.element, mutate_nft.element, mutate_nft.nft_chain, mutate_nft.nft_rule,
        mutate_nft.nft_rule, mutate_nft.nft_set, mutate_nft.nft_table, sysctl, flow, leftover,
    ],
}  # fmt: skip
"""The kinds of change by mode; one that comes twice is twice as likely."""


def mutant(play: Play) -> Mutant:
    """A change of a kind that this mode has."""
    while True:
        found = play.random.choice(CHANGES[play.case.config.mode])(play)
        if found is not None:
            return found
