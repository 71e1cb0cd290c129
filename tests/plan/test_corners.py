"""Corners that the recorded Services do not show, in iptables and nftables mode alike.

What is expected is kube-proxy's: pkg/proxy/topology.go, iptables/proxier.go, nftables/proxier.go
and util/nodeport_addresses.go of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from hairpin.model.configuration import (
    IPTablesConfiguration,
    KubeProxyConfiguration,
    NFTablesConfiguration,
)
from hairpin.model.endpointslice import EndpointPort, EndpointSlice, SliceEndpoint
from hairpin.model.service import Service, ServicePort
from hairpin.plan.nft_names import MOST_COMMENT
from hairpin.plan.node import NodeFacts
from hairpin.plan.planner import planner
from hairpin.plan.service_plan import Occupancy
from hairpin.present.nft_statement import rule_text
from hairpin.state.base import KernelObject
from hairpin.state.netfilter import Chain, DispatchRule, ServiceChain
from hairpin.state.nftables import NftChain, NftElement
from tests.plan.values import GONE, NODE, TERMINATING, endpoint, service, slice_of

MODES = ("iptables", "nftables")
CONFIG: dict[str, Any] = {"cluster_cidr": "10.244.0.0/16,fd00:244::/48"}
HERE, FAR = endpoint("10.244.0.1", "node1"), endpoint("10.244.1.1", "node2")
HERE_GOING = endpoint("10.244.0.2", "node1", **TERMINATING)
FAR_GOING = endpoint("10.244.1.2", "node2", **TERMINATING)
NOT_READY = endpoint("10.244.0.3", "node1", ready=False, serving=False, terminating=False)


def planned(
    mode: Any, one: Service, *slices: EndpointSlice, node: NodeFacts = NODE, **config: Any
) -> list[KernelObject]:
    plans = planner(KubeProxyConfiguration(mode=mode, **{**CONFIG, **config}), node, "")
    return [each.object for each in plans.service(one, slices).wanted]


def framed(mode: Any, node: NodeFacts = NODE, **config: Any) -> list[KernelObject]:
    plans = planner(KubeProxyConfiguration(mode=mode, **{**CONFIG, **config}), node, "")
    return [each.object for each in plans.frame(Occupancy())]


def rules(objects: list[KernelObject], chain: str) -> list[str]:
    """The rules of a chain of IPv4, of whichever kind it is."""
    found: list[str] = []
    for one in objects:
        match one:
            case Chain(name=name, rules=own, family="ip") if name == chain:
                found += [" ".join(words) for words in own]
            case ServiceChain(name=name, rules=lines, family="ip") if name.startswith(chain):
                found += lines
            case DispatchRule(chain=name, rule=rule, family="ip") if name == chain:
                found.append(rule)
            case NftChain(name=name, rules=statements, family="ip") if name.startswith(chain):
                found += map(rule_text, statements)
    return found


def elements(objects: list[KernelObject], name: str) -> dict[str, NftElement]:
    """By the address or the port that leads there."""
    held = [one for one in objects if isinstance(one, NftElement) and one.set == name]
    return {f"{one.of[0]} {one.of[-1]}": one for one in held}


# Who answers


def _iptables(objects: list[KernelObject], at: str) -> str:
    """What becomes of a packet to an address or node port: who answers it, or how it ends."""
    words = f"-d {at}/32 " if "." in at else f"--dport {at} "
    for one in objects:
        if isinstance(one, DispatchRule) and words in one.rule:
            if one.table == "filter":
                return "refused" if "REJECT" in one.rule else "dropped"
            to = one.rule.rpartition("-j ")[2]
            if to.startswith("KUBE-EXT-"):  # what is for outsiders is its last rule
                last = rules(objects, to)[-1]
                if "addrtype" in last:
                    continue  # for this node's own only
                to = last.rpartition("-j ")[2]
            return "those here" if to.startswith("KUBE-SVL-") else "all"
    return "nobody"


def _nftables(objects: list[KernelObject], at: str) -> str:
    key = f"{at} 80" if "." in at else f"TCP {at}"
    for name in ("no-endpoint-services", "no-endpoint-nodeports"):
        if key in (held := elements(objects, name)):
            return "refused" if "reject" in str(held[key].verdict) else "dropped"
    for name in ("service-ips", "service-nodeports"):
        if key in (held := elements(objects, name)):
            to = str(held[key].verdict)
            if "external-" in to:
                to = rules(objects, "external-")[-1]
            return "those here" if "local-" in to else "all"
    return "nobody"


_FATE: dict[str, Callable[[list[KernelObject], str], str]] = {
    "iptables": _iptables,
    "nftables": _nftables,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("endpoints", "cluster", "local"),
    [
        ((), "refused", "refused"),
        ((NOT_READY,), "refused", "refused"),
        ((endpoint("10.244.0.4", "node1", **GONE),), "refused", "refused"),
        ((HERE,), "all", "those here"),
        ((FAR,), "all", "dropped"),
        ((HERE_GOING,), "all", "those here"),
        ((FAR_GOING,), "all", "dropped"),
        ((HERE_GOING, FAR), "all", "those here"),
        ((HERE, HERE_GOING, FAR), "all", "those here"),
        ((endpoint("10.244.0.5", None),), "all", "dropped"),  # nobody says where it is
    ],
)
@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_policies_and_endpoints(
    mode: str, policy: Any, endpoints: tuple[SliceEndpoint, ...], cluster: str, local: str
) -> None:
    expected = local if policy == "Local" else cluster
    fate = _FATE[mode]
    given = slice_of(*endpoints)
    inside = planned(mode, service(internal_traffic_policy=policy), given)
    assert fate(inside, "10.96.0.1") == expected
    port = ServicePort(port=80, node_port=30080)
    one = service(
        port,
        type="LoadBalancer",
        external=["198.51.100.7"],
        ingress=["198.51.100.8"],
        external_traffic_policy=policy,
    )
    outside = planned(mode, one, given)
    for at in ("198.51.100.7", "198.51.100.8", "30080"):
        assert fate(outside, at) == expected, at
    assert fate(outside, "10.96.0.1") == cluster


@pytest.mark.parametrize("mode", MODES)
def test_the_two_policies_do_not_mind_each_other(mode: str) -> None:
    one = service(
        ServicePort(port=80, node_port=30080),
        type="NodePort",
        internal_traffic_policy="Local",
        external_traffic_policy="Cluster",
    )
    objects = planned(mode, one, slice_of(FAR))
    assert _FATE[mode](objects, "10.96.0.1") == "dropped"
    assert _FATE[mode](objects, "30080") == "all"


@pytest.mark.parametrize("mode", MODES)
def test_a_named_port_may_have_another_number_in_each_slice(mode: str) -> None:
    slices = [
        slice_of(each, ports=[EndpointPort(name="http", port=number)], name=f"web-{number}")
        for number, each in ((8080, HERE), (9090, FAR))
    ]
    objects = planned(mode, service(ServicePort(port=80, name="http")), *slices)
    text = " ".join(rules(objects, "KUBE-SEP-") + rules(objects, "service-"))
    between = ":" if mode == "iptables" else " . "
    assert f"10.244.0.1{between}8080" in text
    assert f"10.244.1.1{between}9090" in text


@pytest.mark.parametrize("mode", MODES)
def test_one_number_may_be_a_port_of_each_protocol(mode: str) -> None:
    protocols: tuple[Any, ...] = ("TCP", "UDP", "SCTP")
    ports = [ServicePort(port=53, name=p.lower(), protocol=p, node_port=30053) for p in protocols]
    given = [EndpointPort(port=53, name=p.lower(), protocol=p) for p in protocols]
    objects = planned(mode, service(*ports, type="NodePort"), slice_of(HERE, ports=given))
    if mode == "iptables":
        own = [rule for rule in rules(objects, "KUBE-NODEPORTS") if "127.0.0.0/8" not in rule]
        assert [rule.split()[1] for rule in own] == ["tcp", "udp", "sctp"]
        assert len({rule.rpartition("-j ")[2] for rule in own}) == 3
    else:
        held = elements(objects, "service-nodeports")
        assert list(held) == [f"{each} 30053" for each in protocols]
        assert len({one.verdict for one in held.values()}) == 3


def test_health_checks_are_let_in_where_nobody_serves() -> None:
    one = service(
        type="LoadBalancer", external_traffic_policy="Local", health_check_node_port=32000
    )
    (rule,) = rules(planned("iptables", one), "KUBE-NODEPORTS")
    assert rule.startswith('-p tcp -m comment --comment "default/web health check node port"')
    assert rule.endswith("--dport 32000 -j ACCEPT")


# Where NodePorts answer


@pytest.mark.parametrize(
    ("addresses", "localhost"),
    [
        ((), True),
        (("0.0.0.0/0",), True),
        (("126.0.0.0/7",), True),
        (("127.0.1.0/24", "192.0.2.0/24"), True),
        (("fd31::/16",), True),  # nothing of IPv4 is everything of IPv4
        (("192.0.2.0/24",), False),
        (("primary",), False),
    ],
)
def test_localhost_is_given_up_where_node_ports_are_not_for_it(
    addresses: tuple[str, ...], localhost: bool
) -> None:
    """No counter, and no rule that keeps others off what cannot be reached there anyway."""
    one = service(ServicePort(port=80, node_port=30080), type="NodePort")
    for wanted in (True, False):
        config: dict[str, Any] = {
            "node_port_addresses": addresses,
            "iptables": IPTablesConfiguration(localhost_node_ports=wanted),
        }
        frame = framed("iptables", **config)
        assert bool(rules(frame, "KUBE-FIREWALL")) == (wanted and localhost)
        found = rules(planned("iptables", one, slice_of(HERE), **config), "KUBE-NODEPORTS")
        assert any("127.0.0.0/8" in rule for rule in found) == (wanted and localhost)
        assert len(found) == 1 + (wanted and localhost)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("bound", "let_in"), [("0.0.0.0", False), ("203.0.113.9", True), ("::", False)]
)
def test_the_nodes_own_address_is_the_bound_one(mode: str, bound: str, let_in: bool) -> None:
    """Source ranges that hold it let the node reach the load balancer IP by that address."""
    one = service(type="LoadBalancer", ingress=["198.51.100.8"], ranges=["203.0.113.0/24"])
    objects = planned(mode, one, slice_of(HERE), bind_address=bound)
    text = " ".join(rules(objects, "KUBE-FW-") + rules(objects, "firewall-"))
    assert "203.0.113.0/24" in text
    assert ("198.51.100.8" in text) == let_in


# What nft(8) prints


def test_a_mark_of_the_first_bit_is_a_prefix() -> None:
    shown = {
        bit: rules(framed("nftables", nftables=NFTablesConfiguration(masquerade_bit=bit)), "masq")
        for bit in (0, 31)
    }
    assert shown[0][0].startswith("meta mark & 0x00000001 != 0x00000000 meta mark set")
    assert shown[31][0].startswith("meta mark != 0x00000000/1 meta mark set")


@pytest.mark.parametrize(
    ("cidrs", "said"),
    [
        (("10.96.0.0/12", "10.96.0.0/12"), "10.96.0.0/12"),
        (("10.97.0.0/16", "10.96.0.0/16"), "{ 10.96.0.0/15 }"),
        (("10.96.0.0/12", "10.100.0.0/16", "fd00:96::/108"), "{ 10.96.0.0/12 }"),
        (("10.99.0.0/16", "10.96.0.0/16"), "{ 10.96.0.0/16, 10.99.0.0/16 }"),
        (("10.96.1.0/25", "10.96.0.0/24"), "{ 10.96.0.0-10.96.1.127 }"),
    ],
)
def test_service_cidrs_are_a_set_that_nothing_is_in_twice(cidrs: list[str], said: str) -> None:
    node = msgspec.structs.replace(NODE, service_cidrs=tuple(map(ip_network, cidrs)))
    found = rules(framed("nftables", node), "cluster-ips-check")
    assert found[1] == f'ip daddr {said} drop comment "Drop traffic to unallocated ClusterIPs"'


def test_comments_are_cut_where_nft_takes_no_more() -> None:
    one = service(ServicePort(port=80, name="p" * 63), name="s" * 63, namespace="n" * 63)
    (element,) = elements(planned("nftables", one), "no-endpoint-services").values()
    assert element.comment == f"{'n' * 63}/{'s' * 63}:pppp"[:MOST_COMMENT]
    assert len(element.comment) == 128
