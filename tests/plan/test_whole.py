"""A Snapshot in one go is what its Services one by one are."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.snapshot import Snapshot
from hairpin.plan.whole import plan
from hairpin.state.ipvs import RealServer
from hairpin.state.netfilter import Chain
from tests.plan.values import NODE, endpoint, service, slice_of

CONFIG = KubeProxyConfiguration(mode="ipvs")
OBJECTS: list[Any] = [
    service(name="a", ips=("10.96.0.1",), external=("198.51.100.1",)),
    service(name="b", ips=("10.96.0.2",), external=("198.51.100.1", "0.0.0.0")),
    service(name="c", ips=("None",)),
    slice_of(endpoint("10.244.0.1", "node1"), name="a-1", of="a"),
    slice_of(endpoint("10.244.0.2", "node1"), name="a-2", of="a"),
    slice_of(endpoint("10.244.0.2", "node1"), name="b-1", of="b"),
    slice_of(endpoint("10.244.0.9", "node1"), name="x-1", of="nobody"),
]


@given(st.permutations(OBJECTS))
def test_the_order_of_the_objects_makes_no_difference(objects: list[Any]) -> None:
    found = plan(Snapshot(objects), CONFIG, NODE, "n")
    assert list(found) == list(plan(Snapshot(OBJECTS), CONFIG, NODE, "n"))
    assert set(found.plans) == {("default", "a"), ("default", "b")}
    assert set(found.conflicts) == {("default", "b")}
    assert found.problems == (
        "Service default/b: spec.externalIPs: 0.0.0.0 is the unspecified address",
    )


def test_endpoints_are_of_their_own_service() -> None:
    found = plan(Snapshot(OBJECTS), CONFIG, NODE, "n")
    reals = [one.object for one in found.services if isinstance(one.object, RealServer)]
    assert sorted((str(one.vip), str(one.ip)) for one in reals) == [
        ("10.96.0.1", "10.244.0.1"),
        ("10.96.0.1", "10.244.0.2"),
        ("10.96.0.2", "10.244.0.2"),
        ("198.51.100.1", "10.244.0.1"),
        ("198.51.100.1", "10.244.0.2"),
    ]


def test_the_frame_has_the_rules_of_what_is_wanted() -> None:
    frame = plan(Snapshot(OBJECTS), CONFIG, NODE, "n").frame
    chains = [one.object for one in frame if isinstance(one.object, Chain)]
    (rules,) = (c.rules for c in chains if (c.name, c.family) == ("KUBE-SERVICES", "ip"))
    text = " ".join(word for rule in rules for word in rule)
    assert "KUBE-EXTERNAL-IP" in text
    assert "KUBE-LOAD-BALANCER" not in text
