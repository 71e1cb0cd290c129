"""Which entries of UDP are stale (kube-proxy's pkg/proxy/conntrack/cleanup.go)."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from hairpin.model.endpointslice import EndpointPort
from hairpin.model.service import ServicePort
from hairpin.plan.conntrack import stale_flows
from hairpin.plan.service_plan import ServicePlan
from hairpin.state.conntrack import Flow, Tuple
from tests.plan.values import GONE, TERMINATING, endpoint, planned, service, slice_of

CLIENT = ip_address("10.244.0.9")


def _flow(to: str, port: int, answers: str, protocol: int = 17) -> Flow:
    vip, server = ip_address(to), ip_address(answers)
    return Flow(
        protocol=protocol,
        original=Tuple(CLIENT, 40000, vip, port),
        reply=Tuple(server, 8053, CLIENT, 40000),
    )


def _plan(*ends: Any, protocol: Any = "UDP", **spec: Any) -> ServicePlan:
    port = ServicePort(port=53, protocol=protocol, node_port=30053)
    one = service(port, type="LoadBalancer", **spec)
    return planned(one, slice_of(*ends, ports=[EndpointPort(port=8053, protocol=protocol)]))


ALIVE, DEAD = "10.244.1.1", "10.244.1.2"


@pytest.mark.parametrize(
    ("to", "port", "answers", "stale"),
    [
        ("10.96.0.1", 53, ALIVE, False),
        ("10.96.0.1", 53, DEAD, True),
        ("10.96.0.1", 53, "10.96.0.1", True),  # came when nobody served: no DNAT at all
        ("10.96.0.1", 54, DEAD, False),  # not a port of the Service
        ("10.96.0.2", 53, DEAD, False),
        ("198.51.100.1", 53, DEAD, True),
        ("198.51.100.2", 53, DEAD, True),
        ("192.0.2.1", 30053, DEAD, True),
        ("192.0.2.1", 30053, ALIVE, False),
        ("192.0.2.2", 30053, DEAD, False),  # not an address of the node
    ],
)
def test_an_entry_that_nobody_answers(to: str, port: int, answers: str, stale: bool) -> None:
    plan = _plan(endpoint(ALIVE), external=("198.51.100.1",), ingress=("198.51.100.2",))
    flow = _flow(to, port, answers)
    assert list(stale_flows(plan.udp, [flow])) == ([flow] if stale else [])


@pytest.mark.parametrize(
    ("end", "stale"),
    [
        (endpoint(ALIVE, ready=False, serving=True), False),
        (endpoint(ALIVE, **TERMINATING), False),
        (endpoint(ALIVE, zones=["z9"]), False),
        (endpoint(ALIVE, **GONE), True),
        (endpoint(ALIVE, ready=False, serving=False), True),
    ],
)
def test_an_endpoint_that_serves_keeps_its_flows_used_or_not(end: Any, stale: bool) -> None:
    other = endpoint("10.244.0.1", "node1", zones=["z1"])
    plan = _plan(end, other, internal_traffic_policy="Local", external_traffic_policy="Local")
    flow = _flow("10.96.0.1", 53, ALIVE)
    assert list(stale_flows(plan.udp, [flow])) == ([flow] if stale else [])


def test_without_endpoints_flows_stay() -> None:
    flow = _flow("10.96.0.1", 53, DEAD)
    assert list(stale_flows(_plan(endpoint(ALIVE, **GONE)).udp, [flow])) == []
    assert list(stale_flows((), [flow])) == []


def test_other_protocols_end_by_themselves() -> None:
    plan = _plan(endpoint(ALIVE))
    assert list(stale_flows(plan.udp, [_flow("10.96.0.1", 53, DEAD, 6)])) == []
    assert _plan(endpoint(ALIVE), protocol="TCP").udp == ()


def test_a_frontend_that_two_services_claim_is_served_by_both() -> None:
    one, other = _plan(endpoint(ALIVE)), _plan(endpoint("10.244.1.3"))
    udp = (*one.udp, *other.udp)
    flows = [_flow("10.96.0.1", 53, ip) for ip in (ALIVE, "10.244.1.3", DEAD)]
    assert list(stale_flows(udp, flows)) == flows[2:]


def test_ipv6() -> None:
    one = service(ServicePort(port=53, protocol="UDP"), ips=("fd00:96::1",))
    ports = [EndpointPort(port=8053, protocol="UDP")]
    plan = planned(one, slice_of(endpoint("fd00:244::1"), ports=ports))
    good, bad = (_flow("fd00:96::1", 53, ip) for ip in ("fd00:244::1", "fd00:244::2"))
    assert list(stale_flows(plan.udp, [good, bad])) == [bad]
