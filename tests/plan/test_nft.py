"""Services in nftables mode, where the recorded ones do not show it.

Expected rules are kube-proxy's (pkg/proxy/nftables/proxier.go of Kubernetes 1.36), as nft(8)
prints them.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any

import msgspec
import pytest

from hairpin.model.configuration import (
    ConntrackConfiguration,
    DetectLocalConfiguration,
    KubeProxyConfiguration,
    NFTablesConfiguration,
)
from hairpin.model.endpointslice import EndpointPort, EndpointSlice
from hairpin.model.service import ClientIPConfig, Service, ServicePort, SessionAffinityConfig
from hairpin.plan.desired import Desired
from hairpin.plan.nftables import NftPlanner
from hairpin.plan.node import NodeFacts
from hairpin.plan.service_plan import Occupancy, ServicePlan, UdpPort
from hairpin.present.nft import element_text
from hairpin.present.nft_statement import rule_text
from hairpin.state.nftables import NftChain, NftElement, NftSet
from tests.plan.values import GONE, NODE, TERMINATING, at, endpoint, service, slice_of

LOCAL = endpoint("10.244.0.1", "node1")
REMOTE = endpoint("10.244.1.1", "node2")
TWO = slice_of(LOCAL, REMOTE)


def config(**fields: Any) -> KubeProxyConfiguration:
    return KubeProxyConfiguration(mode="nftables", **{"cluster_cidr": "10.244.0.0/16", **fields})


def planned(
    one: Service,
    *slices: EndpointSlice,
    config: KubeProxyConfiguration = config(),  # noqa: B008  # frozen
    node: NodeFacts = NODE,
) -> ServicePlan:
    return NftPlanner(config, node, "").service(one, slices)


def chains(plan: ServicePlan) -> dict[str, list[str]]:
    """The rules of each chain, by its kind (``service``, ``external``) and the IP family."""
    found: dict[str, list[str]] = {}
    for each in plan.wanted:
        if isinstance(one := each.object, NftChain):
            name = one.name.split("-")[0] + ("" if one.family == "ip" else "6")
            if name in found:
                name = one.name
            found[name] = [_short(rule_text(rule)) for rule in one.rules]
    return found


def _short(text: str) -> str:
    """Without the hash and the Service's name in the names of chains."""
    return re.sub(r"([a-z]+)-[A-Z2-7]{8}-[^ ,]+", r"\1…", text)


def elements(plan: ServicePlan, name: str) -> list[str]:
    objects = (each.object for each in plan.wanted)
    return [
        _short(element_text(one))
        for one in objects
        if isinstance(one, NftElement) and one.set == name
    ]


def frame(config: KubeProxyConfiguration, node: NodeFacts = NODE) -> dict[str, list[str]]:
    """Rules by chain, elements by set, of IPv4."""
    found: dict[str, list[str]] = {}
    for each in NftPlanner(config, node, "").frame(Occupancy()):
        match each.object:
            case NftChain(family="ip") as one:
                found[one.name] = [rule_text(rule) for rule in one.rules]
            case NftSet(family="ip") as one:
                found[one.name] = []
            case NftElement(family="ip") as one:
                found[one.set].append(element_text(one))
    return found


# Who is reached where


def test_without_endpoints_every_way_in_is_refused_and_leads_nowhere() -> None:
    port = ServicePort(port=80, name="p", node_port=30080)
    one = service(port, type="LoadBalancer", external=("198.51.100.1",), ingress=("192.0.2.9",))
    plan = planned(one, slice_of(endpoint("10.244.0.1", "node1", **GONE)))
    assert chains(plan) == {}
    assert elements(plan, "service-ips") == elements(plan, "service-nodeports") == []
    text = 'comment "default/web:p" : goto reject-chain'
    assert elements(plan, "no-endpoint-services") == [
        f"10.96.0.1 . tcp . 80 {text}",
        f"198.51.100.1 . tcp . 80 {text}",
        f"192.0.2.9 . tcp . 80 {text}",
    ]
    assert elements(plan, "no-endpoint-nodeports") == [f"tcp . 30080 {text}"]
    assert elements(plan, "cluster-ips") == ["10.96.0.1"]


def test_local_policies_drop_where_this_node_has_none_and_let_pods_through() -> None:
    one = service(
        ServicePort(port=80, node_port=30080),
        type="NodePort",
        external_traffic_policy="Local",
        internal_traffic_policy="Local",
    )
    plan = planned(one, slice_of(REMOTE))
    assert elements(plan, "no-endpoint-services") == [
        '10.96.0.1 . tcp . 80 comment "default/web" : drop'
    ]
    assert elements(plan, "no-endpoint-nodeports") == ['tcp . 30080 comment "default/web" : drop']
    assert elements(plan, "service-nodeports") == ["tcp . 30080 : goto external…"]
    assert chains(plan)["external"] == [
        'ip saddr 10.244.0.0/16 goto service… comment "short-circuit pod traffic"',
        'fib saddr type local meta mark set meta mark | 0x00004000 comment "masquerade local'
        ' traffic"',
        'fib saddr type local goto service… comment "short-circuit local traffic"',
    ]


def test_internal_local_alone_has_no_chain_for_other_nodes_endpoints() -> None:
    plan = planned(service(internal_traffic_policy="Local"), TWO)
    assert list(chains(plan)) == ["local"]
    assert elements(plan, "service-ips") == ["10.96.0.1 . tcp . 80 : goto local…"]


def test_terminating_endpoints_serve_where_none_is_ready_each_policy_by_itself() -> None:
    here = endpoint("10.244.0.1", "node1", **TERMINATING)
    one = service(ServicePort(port=80, node_port=30080), type="NodePort")
    one = msgspec.structs.replace(
        one, spec=msgspec.structs.replace(one.spec, external_traffic_policy="Local")
    )
    found = chains(planned(one, slice_of(here, REMOTE)))
    assert found["service"] == [
        "meta l4proto tcp dnat ip to numgen random mod 1 map { 0 : 10.244.1.1 . 8080 }"
    ]
    assert found["local"] == [
        "meta l4proto tcp dnat ip to numgen random mod 1 map { 0 : 10.244.0.1 . 8080 }"
    ]


def test_an_address_that_is_external_ip_and_load_balancer_ip_is_one_element() -> None:
    one = service(type="LoadBalancer", external=("192.0.2.9",), ingress=("192.0.2.9",))
    plan = planned(one, TWO)
    assert elements(plan, "service-ips") == [
        "10.96.0.1 . tcp . 80 : goto service…",
        "192.0.2.9 . tcp . 80 : goto external…",
    ]


def test_a_load_balancer_that_keeps_the_address_is_not_served_here() -> None:
    one = service(type="LoadBalancer", ingress=(at("192.0.2.9", ip_mode="Proxy"),))
    assert elements(planned(one, TWO), "service-ips") == ["10.96.0.1 . tcp . 80 : goto service…"]


def test_both_families_each_in_its_table() -> None:
    one = service(ips=("fd00:96::1", "10.96.0.1"))
    plan = planned(one, TWO, slice_of(endpoint("fd00:244::1", "node1"), name="web-6"))
    assert {each.object.family for each in plan.wanted if isinstance(each.object, NftChain)} == {
        "ip",
        "ip6",
    }
    assert chains(plan)["service6"] == [
        "meta l4proto tcp dnat ip6 to numgen random mod 1 map { 0 : fd00:244::1 . 8080 }"
    ]
    assert elements(plan, "hairpin-connections") == [
        "fd00:244::1 . fd00:244::1 . tcp . 8080",
        "10.244.0.1 . 10.244.0.1 . tcp . 8080",
    ]


def test_endpoints_have_kube_proxys_numbers() -> None:
    both = slice_of(endpoint("10.244.0.9"), endpoint("10.244.0.11"))
    assert (
        "{ 0 : 10.244.0.11 . 8080, 1 : 10.244.0.9 . 8080 }"
        in chains(planned(service(), both))["service"][0]
    )  # by their text


def test_udp_and_sctp_lead_by_protocol_and_udp_is_told() -> None:
    ports = [ServicePort(port=53, name=one, protocol=one) for one in ("UDP", "SCTP")]
    slices = slice_of(
        LOCAL,
        ports=[EndpointPort(port=53, name=one, protocol=one) for one in ("UDP", "SCTP")],
    )
    plan = planned(service(*ports), slices)
    assert [each.split(" : ")[0] for each in elements(plan, "service-ips")] == [
        "10.96.0.1 . udp . 53",
        "10.96.0.1 . sctp . 53",
    ]
    assert plan.udp == (UdpPort(4, ((0x0A600001, 53),), frozenset((0x0AF40001 << 16 | 53,))),)


# Affinity


def test_affinity_has_a_chain_and_a_set_for_each_endpoint() -> None:
    client_ip = SessionAffinityConfig(client_ip=ClientIPConfig(timeout_seconds=90))
    one = service(session_affinity="ClientIP", session_affinity_config=client_ip)
    found = planned(one, TWO)
    sets = [each.object for each in found.wanted if isinstance(each.object, NftSet)]
    assert [(one.types, one.timeout, one.dynamic, one.size) for one in sets] == [
        (("ipv4_addr",), 90, True, 65535)
    ] * 2
    rules = chains(found)
    assert rules["endpoint"] == [
        "update @affinity… { ip saddr }",
        "meta l4proto tcp dnat to 10.244.0.1:8080",
    ]
    assert rules["service"] == [
        "ip saddr @affinity… goto endpoint…",
        "ip saddr @affinity… goto endpoint…",
        "numgen random mod 2 vmap { 0 : goto endpoint…, 1 : goto endpoint… }",
    ]
    kinds = [each.object.key[0] for each in found.wanted]
    assert kinds.index("nft-chain") > kinds.index("nft-set")  # what a rule names comes first


# Source ranges


@pytest.mark.parametrize(
    ("ranges", "rule"),
    [
        (("10.0.0.0/8",), "ip saddr != 10.0.0.0/8 drop"),
        (("10.1.2.3/32",), "ip saddr != 10.1.2.3 drop"),
        (("203.0.113.0/24", "10.0.0.0/8"), "ip saddr != { 10.0.0.0/8, 203.0.113.0/24 } drop"),
        (("10.0.0.0/25", "10.0.0.128/25"), "ip saddr != { 10.0.0.0/24 } drop"),
        (("10.0.0.128/25", "10.0.1.0/24"), "ip saddr != { 10.0.0.128-10.0.1.255 } drop"),
        (("192.0.2.0/28",), "ip saddr != { 192.0.2.0/28, 198.51.100.9 } drop"),  # the node's own
        (("fd00::/8", "10.0.0.0/8"), "ip saddr != 10.0.0.0/8 drop"),
    ],
)
def test_source_ranges(ranges: tuple[str, ...], rule: str) -> None:
    plan = planned(service(type="LoadBalancer", ingress=("198.51.100.9",), ranges=ranges), TWO)
    assert chains(plan)["firewall"] == [rule]
    assert elements(plan, "firewall-ips") == ["198.51.100.9 . tcp . 80 : goto firewall…"]


@pytest.mark.parametrize("ranges", [("0.0.0.0/0", "10.0.0.0/8"), ("fd00::/8",)])
def test_source_ranges_that_keep_nobody_out(ranges: tuple[str, ...]) -> None:
    plan = planned(service(type="LoadBalancer", ingress=("198.51.100.9",), ranges=ranges), TWO)
    assert "firewall" not in chains(plan)


# The frame


@pytest.mark.parametrize(
    ("mode", "match"),
    [
        ({}, "ip saddr != 10.244.0.0/16"),
        ({"detect_local_mode": "NodeCIDR"}, "ip saddr != 10.244.0.0/24"),
        (
            {
                "detect_local_mode": "BridgeInterface",
                "detect_local": DetectLocalConfiguration(bridge_interface="cni0"),
            },
            'iifname != "cni0"',
        ),
        (
            {
                "detect_local_mode": "InterfaceNamePrefix",
                "detect_local": DetectLocalConfiguration(interface_name_prefix="veth"),
            },
            'iifname != "veth*"',
        ),
    ],
)
def test_who_is_masqueraded_on_the_way_to_a_cluster_ip(mode: dict[str, Any], match: str) -> None:
    assert frame(config(**mode))["services"][0] == (
        f"ip daddr @cluster-ips {match} meta mark set meta mark | 0x00004000"
        ' comment "masquerade clusterIP traffic from outside cluster"'
    )


def test_everyone_is_masqueraded_or_nobody_can_be_told_apart() -> None:
    own = NFTablesConfiguration(masquerade_all=True, masquerade_bit=31)
    assert frame(config(nftables=own))["services"][0].startswith(
        "ip daddr @cluster-ips meta mark set meta mark | 0x80000000 comment"
    )
    assert len(frame(config(cluster_cidr=""))["services"]) == 2


def test_node_ports_answer_at_the_nodes_own_address_unless_told_otherwise() -> None:
    found = frame(config())
    assert found["nodeport-ips"] == ["192.0.2.1"]
    given = frame(config(node_port_addresses=("198.51.100.0/24",)))
    assert given["nodeport-ips"] == []
    everywhere = frame(config(node_port_addresses=("0.0.0.0/0",)))
    assert "nodeport-ips" not in everywhere
    assert everywhere["services"][-1] == (
        "fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport"
        " vmap @service-nodeports"
    )
    assert everywhere["nodeport-endpoints-check"] == [
        "ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @no-endpoint-nodeports"
    ]


def test_only_known_service_cidrs_are_closed() -> None:
    assert len(frame(config())["cluster-ips-check"]) == 1
    known = msgspec.structs.replace(NODE, service_cidrs=(ip_network("10.96.0.0/12"),))
    assert frame(config(), known)["cluster-ips-check"][1:] == [
        'ip daddr 10.96.0.0/12 drop comment "Drop traffic to unallocated ClusterIPs"'
    ]


def test_settings_of_connection_tracking() -> None:
    own = ConntrackConfiguration(tcp_be_liberal=True, tcp_close_wait_timeout=0)  # type: ignore[arg-type]
    wanted = NftPlanner(config(conntrack=own), NODE, "").frame(Occupancy())
    assert [each.object.key[1] for each in wanted if each.object.key[0] == "sysctl"] == [
        "net.netfilter.nf_conntrack_tcp_timeout_established",
        "net.netfilter.nf_conntrack_tcp_be_liberal",
    ]


# Several Services


def test_the_first_service_by_name_has_what_two_ask_for() -> None:
    both = {
        name: service(name=name, ips=(f"10.96.0.{number}",), external=("198.51.100.1",))
        for number, name in enumerate(("b", "a"), 1)
    }
    desired = Desired()
    for name, one in both.items():
        desired.put(("default", name), planned(one, slice_of(LOCAL, of=name)))
    assert desired.conflicts == {
        ("default", "b"): ("198.51.100.1 TCP 80 is already that of service default/a",)
    }
    held = [each.object for each in desired if isinstance(each.object, NftElement)]
    assert len([one for one in held if one.set == "hairpin-connections"]) == 1  # they share it
    (to,) = [str(one.verdict) for one in held if str(one.of[0]) == "198.51.100.1"]
    assert "default/a/" in to


def test_the_first_port_has_a_node_port_that_two_ask_for() -> None:
    ports = [ServicePort(port=each, name=f"p{each}", node_port=30080) for each in (80, 81)]
    slices = slice_of(LOCAL, ports=[EndpointPort(port=8080, name=one.name) for one in ports])
    plan = planned(service(*ports, type="NodePort"), slices)
    assert plan.problems == (
        "Service default/web: TCP 30080 is already that of service default/web:p80",
    )
    held = [each.object for each in plan.wanted if isinstance(each.object, NftElement)]
    (to,) = [str(one.verdict) for one in held if one.set == "service-nodeports"]
    assert "/p80" in to


def test_long_names_are_cut_as_kube_proxy_cuts_them() -> None:
    one = service(
        ServicePort(port=80, name="p" * 63), name="s" * 63, session_affinity="ClientIP",
        namespace="default", ips=("fd00:96::1",),
    )  # fmt: skip
    end = endpoint("fd00:1111:2222:3333:4444:5555:6666:7777", "node1")
    ports = [EndpointPort(port=65535, name="p" * 63)]
    plan = planned(one, slice_of(end, ports=ports, of="s" * 63))
    names = [each.object.name for each in plan.wanted if isinstance(each.object, NftChain | NftSet)]
    assert max(map(len, names)) <= 255
