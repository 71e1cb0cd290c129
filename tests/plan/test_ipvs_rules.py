"""The frame: rules, sysctls and timeouts, as the configuration asks for them.

The rules of the recorded configuration are in test_kube_proxy; here is what differs with another.
"""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from hairpin.model.configuration import (
    ConntrackConfiguration,
    DetectLocalConfiguration,
    IPTablesConfiguration,
    IPVSConfiguration,
    KubeProxyConfiguration,
    Seconds,
)
from hairpin.plan import ipvs_sets
from hairpin.plan.ipvs import Planner
from hairpin.plan.ipvs_rules import CHAINS
from hairpin.plan.service_plan import Occupancy
from hairpin.state.ipset import IpSet
from hairpin.state.ipvs import Timeouts
from hairpin.state.netfilter import Chain
from hairpin.state.sysctl import Sysctl
from tests.plan.values import NODE

ALL = Occupancy(frozenset(name for by in ipvs_sets.NAMES.values() for name in by.values()))


def _frame(occupancy: Occupancy = ALL, **fields: Any) -> list[Any]:
    config = KubeProxyConfiguration(mode="ipvs", **fields)
    return [each.object for each in Planner(config, NODE, "n").frame(occupancy)]


def _rules(name: str, table: str = "nat", family: str = "ip", **fields: Any) -> list[str]:
    chains = [one for one in _frame(**fields) if isinstance(one, Chain)]
    (chain,) = (c for c in chains if (c.name, c.table, c.family) == (name, table, family))
    return [" ".join(spec) for spec in chain.rules]


def _cluster_ip(family: str = "ip", **fields: Any) -> str:
    """The rule that masquerades what comes to ClusterIPs."""
    rules = _rules("KUBE-SERVICES", family=family, **fields)
    comment = "-m comment --comment " + ipvs_sets.SETS[ipvs_sets.CLUSTER_IP].comment
    (rule,) = (rule for rule in rules if comment in rule)
    return rule.replace(comment + " -m set --match-set ", "")


LOCAL = DetectLocalConfiguration(bridge_interface="cni0", interface_name_prefix="veth")


@pytest.mark.parametrize(
    ("fields", "v4", "v6"),
    [
        (
            {"cluster_cidr": "10.244.0.0/16"},
            "! -s 10.244.0.0/16 KUBE-CLUSTER-IP dst,dst",
            "KUBE-6-CLUSTER-IP src,dst",
        ),
        (
            {"cluster_cidr": "fd00::/48,10.244.1.2/16", "detect_local_mode": "ClusterCIDR"},
            "! -s 10.244.0.0/16 KUBE-CLUSTER-IP dst,dst",
            "! -s fd00::/48 KUBE-6-CLUSTER-IP dst,dst",
        ),
        (
            {"cluster_cidr": "10.9.0.0/16", "detect_local_mode": "NodeCIDR"},
            "! -s 10.244.0.0/24 KUBE-CLUSTER-IP dst,dst",
            "! -s fd00:244::/64 KUBE-6-CLUSTER-IP dst,dst",
        ),
        (
            {"detect_local": LOCAL, "detect_local_mode": "BridgeInterface"},
            "! -i cni0 KUBE-CLUSTER-IP dst,dst",
            "! -i cni0 KUBE-6-CLUSTER-IP dst,dst",
        ),
        (
            {"detect_local": LOCAL, "detect_local_mode": "InterfaceNamePrefix"},
            "! -i veth+ KUBE-CLUSTER-IP dst,dst",
            "! -i veth+ KUBE-6-CLUSTER-IP dst,dst",
        ),
        ({}, "KUBE-CLUSTER-IP src,dst", "KUBE-6-CLUSTER-IP src,dst"),
        (
            {
                "cluster_cidr": "10.244.0.0/16",
                "iptables": IPTablesConfiguration(masquerade_all=True),
            },
            "KUBE-CLUSTER-IP dst,dst",
            "KUBE-6-CLUSTER-IP dst,dst",
        ),
    ],
)
def test_who_is_masqueraded(fields: dict[str, Any], v4: str, v6: str) -> None:
    assert _cluster_ip(**fields) == f"{v4} -j KUBE-MARK-MASQ"
    assert _cluster_ip("ip6", **fields) == f"{v6} -j KUBE-MARK-MASQ"


@pytest.mark.parametrize(("bit", "mark"), [(0, "0x1"), (14, "0x4000"), (31, "0x80000000")])
def test_the_mark(bit: int, mark: str) -> None:
    section = IPTablesConfiguration(masquerade_bit=bit)
    assert _rules("KUBE-MARK-MASQ", iptables=section) == [f"-j MARK --set-xmark {mark}/{mark}"]
    rules = _rules("KUBE-POSTROUTING", iptables=section)
    assert rules[1:3] == [
        f"-m mark ! --mark {mark}/{mark} -j RETURN",
        f"-j MARK --set-xmark {mark}/0x0",
    ]
    assert f"--mark {mark}/{mark}" in _rules("KUBE-FORWARD", "filter", iptables=section)[0]


def test_a_set_that_holds_nothing_has_no_rule() -> None:
    frame = _frame(Occupancy(frozenset(("KUBE-LOOP-BACK",))))
    text = " ".join(word for c in frame if isinstance(c, Chain) for r in c.rules for word in r)
    commented = {base for base in ipvs_sets.SETS if ipvs_sets.SETS[base].comment in text}
    commented.discard(ipvs_sets.IPVS_IPS)  # has no comment
    assert commented == {"KUBE-LOOP-BACK", "KUBE-HEALTH-CHECK-NODE-PORT"}


def test_every_protocol_has_its_node_ports_the_local_ones_first() -> None:
    assert [rule.split(" -m set ")[1] for rule in _rules("KUBE-NODE-PORT")] == [
        "--match-set KUBE-NODE-PORT-LOCAL-TCP dst -j RETURN",
        "--match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ",
        "--match-set KUBE-NODE-PORT-LOCAL-UDP dst -j RETURN",
        "--match-set KUBE-NODE-PORT-UDP dst -j KUBE-MARK-MASQ",
        "--match-set KUBE-NODE-PORT-LOCAL-SCTP-HASH dst,dst -j RETURN",
        "--match-set KUBE-NODE-PORT-SCTP-HASH dst,dst -j KUBE-MARK-MASQ",
    ]
    sctp = _rules("KUBE-NODE-PORT")[-1]
    assert sctp.startswith("-p sctp -m comment --comment Kubernetes nodeport SCTP port")


def test_source_ranges_of_networks_come_before_the_nodes_own() -> None:
    rules = _rules("KUBE-SOURCE-RANGES-FIREWALL", "filter")
    assert [rule.split()[-4] for rule in rules[:2]] == [
        "KUBE-LOAD-BALANCER-SOURCE-CIDR",
        "KUBE-LOAD-BALANCER-SOURCE-IP",
    ]
    assert rules[2] == "-j DROP"


def test_what_is_blocked_is_one_rule_each_in_its_own_family() -> None:
    v4, v6 = ip_address("198.51.100.1"), ip_address("2001:db8::1")
    blocked = ((v4, "TCP", 80), (v4, "SCTP", 81), (v6, "UDP", 53))
    frame = _frame(Occupancy(frozenset(), blocked))  # type: ignore[arg-type]  # are protocols
    found = {
        one.family: [" ".join(spec) for spec in one.rules]
        for one in frame
        if isinstance(one, Chain) and one.name == "KUBE-IPVS-OUT-FILTER"
    }
    assert found == {
        "ip": [
            "-s 198.51.100.1/32 -m ipvs --vproto 6 --vaddr 198.51.100.1 --vport 80 -j DROP",
            "-s 198.51.100.1/32 -m ipvs --vproto 132 --vaddr 198.51.100.1 --vport 81 -j DROP",
        ],
        "ip6": ["-s 2001:db8::1/128 -m ipvs --vproto 17 --vaddr 2001:db8::1 --vport 53 -j DROP"],
    }


def test_all_rules_lead_to_chains_and_sets_that_are_there() -> None:
    frame = _frame()
    sets = {one.name for one in frame if isinstance(one, IpSet)}
    assert len(sets) == 34
    for one in frame:
        if isinstance(one, Chain):
            own = {name for table, name, _ in CHAINS if table == one.table}
            for spec in one.rules:
                words = dict(pairwise(spec))
                assert words.get("--match-set", next(iter(sets))) in sets
                target = spec[spec.index("-j") + 1]
                assert not target.startswith("KUBE-") or target in own


def _sysctls(**fields: Any) -> dict[str, str]:
    return {one.name: one.value for one in _frame(**fields) if isinstance(one, Sysctl)}


def test_sysctls() -> None:
    plain = _sysctls()
    strict = _sysctls(ipvs=IPVSConfiguration(strict_arp=True))
    assert dict(strict.items() - plain.items()) == {
        "net.ipv4.conf.all.arp_ignore": "1",
        "net.ipv4.conf.all.arp_announce": "2",
    }
    conntrack = ConntrackConfiguration(
        tcp_established_timeout=Seconds(0),
        tcp_close_wait_timeout=Seconds(90.5),
        tcp_be_liberal=True,
        udp_timeout=Seconds(10),
        udp_stream_timeout=Seconds(20),
    )
    prefix = "net.netfilter.nf_conntrack_"
    found = _sysctls(conntrack=conntrack).items()
    assert {k.removeprefix(prefix): v for k, v in found if k.startswith(prefix)} == {
        "tcp_timeout_close_wait": "90",
        "udp_timeout": "10",
        "udp_timeout_stream": "20",
        "tcp_be_liberal": "1",
    }


def test_timeouts_are_set_where_one_is_given() -> None:
    assert not any(isinstance(one, Timeouts) for one in _frame())
    section = IPVSConfiguration(udp_timeout=Seconds(30))
    assert Timeouts(udp=30) in _frame(ipvs=section)


def test_the_frame_is_the_proxys_and_of_its_namespace() -> None:
    wanted = Planner(KubeProxyConfiguration(mode="ipvs"), NODE, "node_a").frame(Occupancy())
    assert {(each.owner, each.netns) for each in wanted} == {("proxy", "node_a")}
    assert all(each.why for each in wanted)
    assert len({each.object.key for each in wanted}) == len(wanted)


def test_it_depends_on_nothing_else() -> None:
    other = msgspec.structs.replace(NODE, addresses=(), zone=None, name="x")
    config = KubeProxyConfiguration(mode="ipvs")
    assert Planner(config, other, "n").frame(ALL) == Planner(config, NODE, "n").frame(ALL)
