"""The addresses and ports of a Service, where the recorded ones do not show it.

Expected values are kube-proxy's (pkg/proxy/ipvs/proxier.go, serviceport.go of Kubernetes 1.36).
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from hairpin.model.configuration import IPVSConfiguration, KubeProxyConfiguration
from hairpin.model.endpointslice import EndpointPort
from hairpin.model.service import ClientIPConfig, ServicePort, SessionAffinityConfig
from hairpin.plan.service_plan import HealthCheck
from hairpin.state.ipvs import VirtualServer
from tests.plan.values import (
    NODE,
    TERMINATING,
    addresses,
    at,
    endpoint,
    entries,
    planned,
    servers,
    service,
    slice_of,
)

LOCAL = endpoint("10.244.0.1", "node1")
REMOTE = endpoint("10.244.1.1", "node2")
TWO = slice_of(LOCAL, REMOTE)
BOTH = ["10.244.0.1:8080", "10.244.1.1:8080"]


def _config(**fields: Any) -> KubeProxyConfiguration:
    return KubeProxyConfiguration(mode="ipvs", **fields)


# Addresses


def test_an_address_of_the_node_is_not_bound_again() -> None:
    one = service(type="LoadBalancer", external=("192.0.2.1",), ingress=("fd31::1", "198.51.100.1"))
    plan = planned(one, TWO)
    assert addresses(plan) == ["10.96.0.1", "198.51.100.1"]
    assert entries(plan, "KUBE-IPVS-IPS") == ["10.96.0.1", "198.51.100.1"]
    assert "TCP 192.0.2.1:80" in servers(plan)
    assert entries(plan, "KUBE-EXTERNAL-IP") == ["192.0.2.1,tcp:80"]


def test_both_families_in_their_own_sets_and_each_with_its_own_endpoints() -> None:
    one = service(
        ServicePort(port=80, node_port=30080),
        ips=("fd00:96::1", "10.96.0.1"),
        external=("198.51.100.1", "2001:db8::1"),
        type="NodePort",
    )
    v6 = slice_of(endpoint("fd00:244::1", "node1"), name="web-6")
    plan = planned(one, TWO, v6)
    assert servers(plan) == {
        "TCP [fd00:96::1]:80": ["[fd00:244::1]:8080"],
        "TCP [2001:db8::1]:80": ["[fd00:244::1]:8080"],
        "TCP [fd31::1]:30080": ["[fd00:244::1]:8080"],
        "TCP 10.96.0.1:80": BOTH,
        "TCP 198.51.100.1:80": BOTH,
        "TCP 192.0.2.1:30080": BOTH,
    }
    assert entries(plan, "KUBE-6-CLUSTER-IP") == ["fd00:96::1,tcp:80"]
    assert entries(plan, "KUBE-6-NODE-PORT-TCP") == ["30080"]
    assert entries(plan, "KUBE-NODE-PORT-TCP") == ["30080"]


def test_what_is_of_a_family_without_a_cluster_ip_is_not_served() -> None:
    one = service(external=("2001:db8::1",), ingress=("2001:db8::2",), type="LoadBalancer")
    plan = planned(one, slice_of(endpoint("fd00:244::1")))
    assert servers(plan) == {"TCP 10.96.0.1:80": []}


@pytest.mark.parametrize("mode", [None, "VIP", "Proxy"])
def test_ip_mode(mode: Any) -> None:
    one = service(type="LoadBalancer", ingress=(at("198.51.100.1", ip_mode=mode),))
    plan = planned(one)
    served = mode != "Proxy"
    assert ("TCP 198.51.100.1:80" in servers(plan)) is served
    assert bool(entries(plan, "KUBE-LOAD-BALANCER")) is served


def test_one_address_as_external_and_load_balancer_ip_is_one_virtual_server() -> None:
    one = service(type="LoadBalancer", external=("198.51.100.1",) * 2, ingress=("198.51.100.1",))
    plan = planned(one, TWO)
    assert list(servers(plan)) == ["TCP 10.96.0.1:80", "TCP 198.51.100.1:80"]
    assert entries(plan, "KUBE-EXTERNAL-IP") == ["198.51.100.1,tcp:80"]
    assert entries(plan, "KUBE-LOAD-BALANCER") == ["198.51.100.1,tcp:80"]
    assert plan.problems == ()


# Source ranges


@pytest.mark.parametrize(
    ("ranges", "cidrs", "own", "blocked"),
    [
        (("203.0.113.0/24",), ["203.0.113.0/24"], False, True),
        (("203.0.113.0/24", "192.0.2.0/24"), ["203.0.113.0/24", "192.0.2.0/24"], True, False),
        (("203.0.113.0/24", "0.0.0.0/0"), [], False, False),  # everybody, so no firewall
        (("fd00::/8",), [], False, False),  # of the other family
        (("fd00::/8", "203.0.113.0/24"), ["203.0.113.0/24"], False, True),
    ],
)
def test_source_ranges(ranges: tuple[str, ...], cidrs: list[str], own: bool, blocked: bool) -> None:
    one = service(type="LoadBalancer", ingress=("198.51.100.1",), ranges=ranges)
    plan = planned(one)
    start = "198.51.100.1,tcp:80"
    assert entries(plan, "KUBE-LOAD-BALANCER-FW") == ([start] if cidrs else [])
    assert entries(plan, "KUBE-LOAD-BALANCER-SOURCE-CIDR") == [f"{start},{c}" for c in cidrs]
    found = entries(plan, "KUBE-LOAD-BALANCER-SOURCE-IP")
    assert found == ([f"{start},198.51.100.1"] if own else [])
    wanted = ((ip_address("198.51.100.1"), "TCP", 80),)
    assert plan.blocked == (wanted if blocked else ())


def test_the_bind_address_is_the_nodes_for_source_ranges() -> None:
    one = service(type="LoadBalancer", ingress=("198.51.100.1",), ranges=("203.0.113.0/24",))
    plan = planned(one, config=_config(bind_address="203.0.113.9"))
    assert plan.blocked == ()
    # Without any address of its own a node counts as 127.0.0.1.
    bare = msgspec.structs.replace(NODE, node_ips=())
    ranges = service(type="LoadBalancer", ingress=("198.51.100.1",), ranges=("127.0.0.0/8",))
    assert planned(ranges, node=bare).blocked == ()


# Node ports


MANY = msgspec.structs.replace(
    NODE,
    addresses=tuple(map(ip_address, ("10.0.0.1", "169.254.1.1", "192.0.2.1", "fd31::1"))),
)


@pytest.mark.parametrize(
    ("given", "v4", "v6"),
    [
        ((), ["10.0.0.1", "169.254.1.1", "192.0.2.1"], ["fd31::1"]),
        (("192.0.2.0/24",), ["192.0.2.1"], ["fd31::1"]),  # the other family has all
        (("10.0.0.0/8", "fd31::/16"), ["10.0.0.1"], ["fd31::1"]),
        (("0.0.0.0/0", "10.0.0.0/8"), ["10.0.0.1", "169.254.1.1", "192.0.2.1"], ["fd31::1"]),
        (("203.0.113.0/24",), [], ["fd31::1"]),
        (("primary",), ["192.0.2.1"], ["fd31::1"]),
        (("10.0.0.77/8",), ["10.0.0.1"], ["fd31::1"]),
    ],
)
def test_node_port_addresses(given: tuple[str, ...], v4: list[str], v6: list[str]) -> None:
    port = ServicePort(port=80, node_port=30080)
    one = service(port, ips=("10.96.0.1", "fd00:96::1"), type="NodePort")
    plan = planned(one, config=_config(node_port_addresses=given), node=MANY)
    found = [key.removeprefix("TCP ") for key in servers(plan) if key.endswith("30080")]
    assert found == [f"{ip}:30080" for ip in v4] + [f"[{ip}]:30080" for ip in v6]
    assert entries(plan, "KUBE-NODE-PORT-TCP") == (["30080"] if v4 else [])


def test_a_load_balancer_needs_no_node_port() -> None:
    plan = planned(service(type="LoadBalancer", ingress=("198.51.100.1",)), TWO)
    assert list(servers(plan)) == ["TCP 10.96.0.1:80", "TCP 198.51.100.1:80"]


# Health checks


def _balanced(**rest: Any) -> Any:
    spec: dict[str, Any] = {
        "type": "LoadBalancer",
        "external_traffic_policy": "Local",
        "health_check_node_port": 32000,
    }
    return service(**(spec | rest))


def test_health_check_counts_addresses_of_ready_local_endpoints_a_family() -> None:
    ends = [
        endpoint("10.244.0.1", "node1"),
        endpoint("10.244.0.2", "node1", ready=False),
        endpoint("10.244.0.3", "node1", **TERMINATING),
        endpoint("10.244.1.1", "node2"),
    ]
    ports = [EndpointPort(port=8080), EndpointPort(port=8443, name="other")]
    v6 = slice_of(endpoint("fd00:244::1", "node2"), name="web-6")
    plan = planned(_balanced(ips=("10.96.0.1", "fd00:96::1")), slice_of(*ends, ports=ports), v6)
    assert plan.health == HealthCheck(32000, ("IPv4", "IPv6"), (1, 0))
    assert entries(plan, "KUBE-HEALTH-CHECK-NODE-PORT") == ["32000"]
    assert entries(plan, "KUBE-6-HEALTH-CHECK-NODE-PORT") == ["32000"]


@pytest.mark.parametrize(
    "rest",
    [
        {"type": "NodePort"},
        {"external_traffic_policy": "Cluster"},
        {"health_check_node_port": None},
    ],
)
def test_others_have_no_health_check(rest: dict[str, Any]) -> None:
    plan = planned(_balanced(**rest))
    assert plan.health is None
    assert entries(plan, "KUBE-HEALTH-CHECK-NODE-PORT") == []


def test_a_node_without_addresses_for_node_ports_has_no_entry_for_the_health_check() -> None:
    """kube-proxy goes on to the next port before it comes there."""
    config = _config(node_port_addresses=("203.0.113.0/24",))
    one = _balanced()
    assert entries(planned(one, config=config), "KUBE-HEALTH-CHECK-NODE-PORT") == ["32000"]
    ported = msgspec.structs.replace(
        one,
        spec=msgspec.structs.replace(one.spec, ports=(ServicePort(port=80, node_port=30080),)),
    )
    plan = planned(ported, config=config)
    assert entries(plan, "KUBE-HEALTH-CHECK-NODE-PORT") == []
    assert plan.health is not None


# Affinity and schedulers


def _server(plan: Any) -> VirtualServer:
    return next(w.object for w in plan.wanted if isinstance(w.object, VirtualServer))


def test_affinity() -> None:
    config = SessionAffinityConfig(client_ip=ClientIPConfig(timeout_seconds=60))
    one = service(session_affinity="ClientIP", session_affinity_config=config)
    assert (persistence := _server(planned(one)).persistence) and persistence.timeout == 60
    default = _server(planned(service(session_affinity="ClientIP"))).persistence
    assert default is not None and default.timeout == 10800
    assert _server(planned(service(session_affinity_config=config))).persistence is None


@pytest.mark.parametrize(
    ("scheduler", "made", "flags"), [("", "rr", ()), ("sh", "sh", ()), ("mh", "mh", (2,))]
)
def test_scheduler(scheduler: str, made: str, flags: tuple[int, ...]) -> None:
    server = _server(
        planned(service(), config=_config(ipvs=IPVSConfiguration(scheduler=scheduler)))
    )
    assert (server.scheduler, server.scheduler_flags) == (made, frozenset(flags))
