"""What one Service asks in IPVS mode, where the recorded Services do not show it.

Expected values are kube-proxy's (pkg/proxy/ipvs/proxier.go, serviceport.go of Kubernetes 1.36).
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.endpointslice import EndpointPort
from hairpin.model.service import ServicePort
from hairpin.plan.service_plan import EMPTY
from hairpin.state.ipvs import Protocol
from tests.plan.values import (
    addresses,
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


# Who is served at all


@pytest.mark.parametrize(
    "one",
    [
        service(ips=("None",)),
        service(ips=(), type="ExternalName", external_name="example.com"),
        service(type="ExternalName", external_name="example.com"),
        service(ips=()),
        service(labels={"service.kubernetes.io/service-proxy-name": "other"}),
        service(labels={"service.kubernetes.io/service-proxy-name": ""}),
    ],
)
def test_others_have_no_use_for_this_proxy(one: Any) -> None:
    assert planned(one, TWO) == EMPTY


@pytest.mark.parametrize(
    ("label", "of_service", "of_slice"),
    [("service-proxy-name", {}, BOTH), ("headless", {"TCP 10.96.0.1:80": BOTH}, [])],
)
def test_each_label_counts_on_one_kind_alone(
    label: str, of_service: dict[str, list[str]], of_slice: list[str]
) -> None:
    """kube-proxy 1.36 asks for Services without the one, slices without the other (PR 134623)."""
    labels = {f"service.kubernetes.io/{label}": ""}
    assert servers(planned(service(labels=labels), TWO)) == of_service
    marked = slice_of(LOCAL, REMOTE, labels=labels)
    assert servers(planned(service(), marked)) == {"TCP 10.96.0.1:80": of_slice}


def test_without_endpoints_the_virtual_server_is_there_and_empty() -> None:
    plan = planned(service())
    assert servers(plan) == {"TCP 10.96.0.1:80": []}
    assert addresses(plan) == ["10.96.0.1"]
    assert entries(plan, "KUBE-CLUSTER-IP") == ["10.96.0.1,tcp:80"]
    assert entries(plan, "KUBE-IPVS-IPS") == ["10.96.0.1"]


def test_the_order_is_one_to_build_in() -> None:
    plan = planned(service(), TWO)
    kinds = [type(each.object).__name__ for each in plan.wanted]
    assert kinds == [
        *["SetEntry"] * 2,
        "VirtualServer",
        *["RealServer"] * 2,
        "Address",
        "SetEntry",
    ]
    assert [each.owner for each in plan.wanted] == ["service default/web"] * 7
    assert all(each.why for each in plan.wanted)


def test_ports_are_owners_of_what_is_theirs() -> None:
    plan = planned(service(ServicePort(port=80, name="http")))
    assert [each.owner for each in plan.wanted] == [
        "service default/web:http",
        "service default/web:http",
        "service default/web",
        "service default/web",
    ]


# Ports


NAMED: tuple[tuple[str, Protocol], ...] = (("t", "TCP"), ("u", "UDP"), ("s", "SCTP"))


def test_one_number_on_three_protocols_and_named_target_ports_that_differ() -> None:
    ports = [ServicePort(port=53, name=name, protocol=protocol) for name, protocol in NAMED]
    first = slice_of(
        LOCAL,
        ports=[
            EndpointPort(name="t", port=5353),
            EndpointPort(name="u", port=5354, protocol="UDP"),
            EndpointPort(name="s", port=5355, protocol="SCTP"),
            EndpointPort(name="t", port=9, protocol="UDP"),  # another port than the Service's t
        ],
    )
    second = slice_of(REMOTE, ports=[EndpointPort(name="t", port=6000)], name="web-2")
    plan = planned(service(*ports), first, second)
    assert servers(plan) == {
        "TCP 10.96.0.1:53": ["10.244.0.1:5353", "10.244.1.1:6000"],
        "UDP 10.96.0.1:53": ["10.244.0.1:5354"],
        "SCTP 10.96.0.1:53": ["10.244.0.1:5355"],
    }
    assert addresses(plan) == ["10.96.0.1"]
    assert entries(plan, "KUBE-LOOP-BACK") == [
        "10.244.0.1,tcp:5353,10.244.0.1",
        "10.244.0.1,udp:5354,10.244.0.1",
        "10.244.0.1,sctp:5355,10.244.0.1",
    ]


def test_two_ports_that_lead_to_one_target_share_the_loop_back_entry() -> None:
    ports = [ServicePort(port=80, name="a"), ServicePort(port=81, name="b")]
    piece = slice_of(LOCAL, ports=[EndpointPort(name=n, port=8080) for n in ("a", "b")])
    plan = planned(service(*ports), piece)
    assert entries(plan, "KUBE-LOOP-BACK") == ["10.244.0.1,tcp:8080,10.244.0.1"]


def test_sctp_node_ports_are_in_a_set_with_addresses() -> None:
    port = ServicePort(port=9, node_port=30009, protocol="SCTP")
    one = service(port, type="NodePort", external_traffic_policy="Local")
    plan = planned(one)
    for name in ("KUBE-NODE-PORT-SCTP-HASH", "KUBE-NODE-PORT-LOCAL-SCTP-HASH"):
        assert entries(plan, name) == ["192.0.2.1,sctp:30009"]
    assert list(servers(plan)) == ["SCTP 10.96.0.1:9", "SCTP 192.0.2.1:30009"]


# What cannot be served


@pytest.mark.parametrize(
    ("ip", "wrong"),
    [
        ("0.0.0.0", "the unspecified address"),
        ("127.0.0.1", "a loopback address"),
        ("169.254.169.254", "a link-local address"),
        ("224.0.0.1", "a multicast address"),
    ],
)
def test_an_endpoint_that_none_can_be_costs_itself_alone(ip: str, wrong: str) -> None:
    plan = planned(service(), slice_of(endpoint(ip), REMOTE))
    assert servers(plan) == {"TCP 10.96.0.1:80": ["10.244.1.1:8080"]}
    line = f"EndpointSlice default/web-1: endpoints[0].addresses[0]: {ip} is {wrong}"
    assert plan.problems == (f"{line}: no endpoint has that",)


@pytest.mark.parametrize("ip", ["::", "::1", "fe80::1", "ff02::1", "::ffff:10.0.0.1"])
def test_the_same_in_ipv6(ip: str) -> None:
    plan = planned(service(ips=("fd00:96::1",)), slice_of(endpoint(ip)))
    assert servers(plan) == {"TCP [fd00:96::1]:80": []}
    assert len(plan.problems) == 1


def test_an_address_of_the_other_family_in_a_slice() -> None:
    piece = slice_of(endpoint("fd00:244::1"), REMOTE, address_type="IPv4")
    plan = planned(service(), piece)
    assert servers(plan) == {"TCP 10.96.0.1:80": ["10.244.1.1:8080"]}
    where = "EndpointSlice default/web-1: endpoints[0].addresses[0]"
    assert plan.problems == (f"{where}: fd00:244::1 is not IPv4",)


def test_missing_ports_and_addresses_and_ports_that_are_there_twice() -> None:
    bare = msgspec.structs.replace(LOCAL, addresses=())
    piece = slice_of(bare, REMOTE, ports=[EndpointPort(), EndpointPort(port=8080, name="p")])
    one = service(ServicePort(port=80, name="p"), ServicePort(port=80, name="q"))
    plan = planned(one, piece)
    assert servers(plan) == {"TCP 10.96.0.1:80": ["10.244.1.1:8080"]}
    assert plan.problems == (
        "EndpointSlice default/web-1: ports[0].port: is missing: proxies pass over it",
        "EndpointSlice default/web-1: endpoints[0].addresses: is missing",
        "Service default/web: spec.ports[1]: TCP 80 is there twice",
    )


def test_an_address_that_no_server_can_have() -> None:
    one = service(type="LoadBalancer", ingress=("224.0.0.1", "198.51.100.1"), external=("0.0.0.0",))
    plan = planned(one)
    assert list(servers(plan)) == ["TCP 10.96.0.1:80", "TCP 198.51.100.1:80"]
    assert plan.problems == (
        "Service default/web: spec.externalIPs: 0.0.0.0 is the unspecified address",
        "Service default/web: status.loadBalancer.ingress: 224.0.0.1 is a multicast address",
    )


def test_cluster_ips_and_families_that_disagree() -> None:
    plan = planned(service(ips=("10.96.0.1", "fd00:96::1"), families=("IPv4", "IPv4")))
    assert list(servers(plan)) == ["TCP 10.96.0.1:80"]
    where = "Service default/web: spec.clusterIPs[1]"
    line = f"{where}: fd00:96::1 is not IPv4, as spec.ipFamilies[1] says"
    assert plan.problems == (line,)


def test_two_ports_at_one_address_of_the_node() -> None:
    ports = [ServicePort(port=80, name="a", node_port=30080)]
    ports.append(ServicePort(port=30080, name="b", node_port=30081))
    plan = planned(service(*ports, type="NodePort", external=("192.0.2.1",)))
    assert plan.problems == (
        "Service default/web: 192.0.2.1 TCP 30080 is already that of service default/web:a",
    )
