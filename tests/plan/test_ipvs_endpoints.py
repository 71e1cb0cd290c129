"""Which endpoints the frontends of a Service have, where the recorded ones do not show it.

Expected values are kube-proxy's (pkg/proxy/ipvs/proxier.go, serviceport.go of Kubernetes 1.36).
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.service import ServicePort
from tests.plan.values import (
    GONE,
    NODE,
    TERMINATING,
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


# Endpoints


def test_an_endpoint_that_is_in_several_slices_counts_once_and_as_the_better_one() -> None:
    stale = endpoint("10.244.0.1", "node2", ready=False, serving=False)
    for pieces in (
        (slice_of(stale), slice_of(LOCAL, name="web-2")),
        (slice_of(LOCAL), slice_of(stale, name="web-2")),
    ):
        plan = planned(service(), *pieces)
        assert servers(plan) == {"TCP 10.96.0.1:80": ["10.244.0.1:8080"]}
        assert entries(plan, "KUBE-LOOP-BACK") != []


def test_the_new_owner_of_an_address_counts_and_not_the_pod_that_is_going() -> None:
    """Whichever slice comes first, and though the one that goes is on this node
    (kubernetes/kubernetes#135593)."""
    going, new = endpoint("10.244.0.1", "node1", **TERMINATING), endpoint("10.244.0.1", "node2")
    for first, second in ((going, new), (new, going)):
        plan = planned(service(), slice_of(first), slice_of(second, name="web-2"))
        assert servers(plan) == {"TCP 10.96.0.1:80": ["10.244.0.1:8080"]}
        assert entries(plan, "KUBE-LOOP-BACK") == []


def test_of_one_address_twice_in_a_slice_the_last_that_does_not_terminate_counts() -> None:
    """Where all terminate, the first (pkg/proxy/endpointslicecache.go, addEndpoints)."""
    here, there = LOCAL, endpoint("10.244.0.1", "node2")
    for first, second, local in ((here, there, False), (there, here, True)):
        plan = planned(service(), slice_of(first, second))
        assert bool(entries(plan, "KUBE-LOOP-BACK")) is local
    here, there = (endpoint("10.244.0.1", node, **TERMINATING) for node in ("node1", "node2"))
    for first, second, local in ((here, there, True), (there, here, False)):
        plan = planned(service(), slice_of(first, second))
        assert bool(entries(plan, "KUBE-LOOP-BACK")) is local


def test_every_endpoint_of_the_node_is_in_loop_back_ready_or_not() -> None:
    ends = [
        endpoint("10.244.0.1", "node1", ready=False, serving=False),
        endpoint("10.244.0.2", "node1", **GONE),
        endpoint("10.244.0.3", None),
    ]
    plan = planned(service(), slice_of(*ends))
    assert entries(plan, "KUBE-LOOP-BACK") == [
        "10.244.0.1,tcp:8080,10.244.0.1",
        "10.244.0.2,tcp:8080,10.244.0.2",
    ]
    assert servers(plan) == {"TCP 10.96.0.1:80": ["10.244.0.3:8080"]}


def test_real_servers_come_in_the_order_of_their_text() -> None:
    """As kube-proxy lists endpoints in its other modes; in IPVS mode it has no order."""
    four = [endpoint(f"10.244.1.{last}") for last in (9, 1, 20, 10)]
    six = [endpoint(f"fd00:244::{last}") for last in ("b", "1", "2a", "a")]
    one = service(ips=("10.96.0.1", "fd00:96::1"))
    assert servers(planned(one, slice_of(*four), slice_of(*six, name="web-6"))) == {
        "TCP 10.96.0.1:80": [f"10.244.1.{last}:8080" for last in (10, 1, 20, 9)],
        "TCP [fd00:96::1]:80": [f"[fd00:244::{last}]:8080" for last in ("1", "2a", "a", "b")],
    }


def test_conditions_that_are_not_said_are_good() -> None:
    assert servers(planned(service(), slice_of(endpoint("10.244.1.1")))) == {
        "TCP 10.96.0.1:80": ["10.244.1.1:8080"]
    }


@pytest.mark.parametrize(
    ("ends", "cluster", "local"),
    [
        ([{}, TERMINATING], [1], [1]),
        ([TERMINATING, {}], [2], [1]),
        ([TERMINATING, TERMINATING], [1, 2], [1]),
        ([GONE, TERMINATING], [2], [2]),
        ([{"ready": False, "serving": True}, TERMINATING], [2], [2]),
        ([GONE, GONE], [], []),
        ([GONE, {}], [2], [2]),
    ],
)
def test_terminating_endpoints_serve_where_no_other_does(
    ends: list[dict[str, Any]], cluster: list[int], local: list[int]
) -> None:
    """The first is of this node.  Policy Local without a local one falls back to all, in IPVS."""
    first, second = ends
    piece = slice_of(
        endpoint("10.244.0.1", "node1", **first), endpoint("10.244.0.2", "node2", **second)
    )
    port = ServicePort(port=80, node_port=30080)
    one = service(port, type="NodePort", external_traffic_policy="Local")
    assert servers(planned(one, piece)) == {
        "TCP 10.96.0.1:80": [f"10.244.0.{n}:8080" for n in cluster],
        "TCP 192.0.2.1:30080": [f"10.244.0.{n}:8080" for n in local],
    }


def test_internal_local_without_a_local_endpoint() -> None:
    only_remote = slice_of(REMOTE)
    inside = service(internal_traffic_policy="Local")
    assert servers(planned(inside, only_remote)) == {"TCP 10.96.0.1:80": []}
    # One that is reached from outside has its endpoints by policy Cluster, and falls back to them.
    outside = service(internal_traffic_policy="Local", external=("198.51.100.1",))
    assert servers(planned(outside, only_remote)) == {
        "TCP 10.96.0.1:80": ["10.244.1.1:8080"],
        "TCP 198.51.100.1:80": ["10.244.1.1:8080"],
    }
    assert servers(planned(outside, TWO)) == {
        "TCP 10.96.0.1:80": ["10.244.0.1:8080"],
        "TCP 198.51.100.1:80": BOTH,
    }


@pytest.mark.parametrize(
    ("hints", "used"),
    [
        ([{"zones": ["z1"]}, {"zones": ["z2"]}], [1]),
        ([{"zones": ["z1"]}, {}], [1, 2]),  # all or nothing
        ([{"zones": ["z2"]}, {"zones": ["z3"]}], [1, 2]),  # none for this zone
        ([{"zones": ["z2", "z1"]}, {"zones": ["z1"]}], [1, 2]),
        ([{"nodes": ["node1"], "zones": ["z2"]}, {"nodes": ["node2"], "zones": ["z1"]}], [1]),
        ([{"nodes": ["node2"], "zones": ["z2"]}, {"nodes": ["node2"], "zones": ["z1"]}], [2]),
        ([{"nodes": ["node1"]}, {}], [1, 2]),
        ([{"zones": ["z1"], "nodes": ["node1"]}, {"zones": ["z1"]}], [1, 2]),
    ],
)
def test_hints(hints: list[dict[str, Any]], used: list[int]) -> None:
    ends = [endpoint(f"10.244.1.{n}", **hint) for n, hint in enumerate(hints, 1)]
    plan = planned(service(), slice_of(*ends))
    assert servers(plan) == {"TCP 10.96.0.1:80": [f"10.244.1.{n}:8080" for n in used]}


def test_hints_of_endpoints_that_are_not_ready_do_not_count() -> None:
    ends = [
        endpoint("10.244.1.1", zones=["z1"]),
        endpoint("10.244.1.2", ready=False),
        endpoint("10.244.1.3", **TERMINATING),
    ]
    plan = planned(service(), slice_of(*ends))
    assert servers(plan) == {"TCP 10.96.0.1:80": ["10.244.1.1:8080"]}


def test_hints_do_not_narrow_what_is_local() -> None:
    ends = [
        endpoint("10.244.0.1", "node1", zones=["z2"]),
        endpoint("10.244.1.1", "node2", zones=["z1"]),
    ]
    one = service(external=("198.51.100.1",), external_traffic_policy="Local")
    assert servers(planned(one, slice_of(*ends))) == {
        "TCP 10.96.0.1:80": ["10.244.1.1:8080"],
        "TCP 198.51.100.1:80": ["10.244.0.1:8080"],
    }


def test_a_node_without_a_zone_has_no_use_for_zone_hints() -> None:
    node = msgspec.structs.replace(NODE, zone=None)
    piece = slice_of(endpoint("10.244.1.1", zones=["z1"]), endpoint("10.244.1.2", zones=["z2"]))
    assert len(servers(planned(service(), piece, node=node))["TCP 10.96.0.1:80"]) == 2


def test_reasons_say_why_just_these() -> None:
    def whys(*ends: Any, **spec: Any) -> list[str]:
        plan = planned(service(**spec), slice_of(*ends))
        return [each.why for each in plan.wanted if hasattr(each.object, "vip")]

    assert whys(REMOTE) == ["a ready endpoint"]
    assert whys(endpoint("10.244.1.1", zones=["z1"])) == [
        "a ready endpoint that is hinted for this zone"
    ]
    assert whys(endpoint("10.244.1.1", **TERMINATING)) == [
        "it terminates and still serves, and none is ready"
    ]
    assert whys(LOCAL, REMOTE, internal_traffic_policy="Local") == ["a ready endpoint of this node"]
    local: dict[str, Any] = {
        "external": ("198.51.100.1",),
        "external_traffic_policy": "Local",
    }
    assert whys(REMOTE, **local) == [
        "a ready endpoint",
        "a ready endpoint; none is on this node",
    ]
