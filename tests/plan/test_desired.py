"""Everything wanted, kept one Service at a time, is what planning all of them anew gives."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hairpin.model.endpointslice import EndpointPort, EndpointSlice
from hairpin.model.metadata import Key
from hairpin.model.service import Service, ServicePort
from hairpin.plan.desired import Desired
from hairpin.plan.service_plan import Occupancy, ServicePlan
from hairpin.state.change import Wanted
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address
from tests.plan.values import endpoint, planned, service, slice_of

NAMES = ("a", "b", "c")
SHARED = ("10.96.0.1", "10.96.0.2", "198.51.100.1", "198.51.100.2", "fd00:96::1")


@st.composite
def plans(draw: st.DrawFn, name: str) -> ServicePlan | None:
    """Of Services that share addresses, ports and endpoints as often as can be."""
    if draw(st.integers(0, 4)) == 0:
        return None
    names = draw(st.lists(st.sampled_from(("", "x")), min_size=1, max_size=2, unique=True))
    ports = tuple(
        ServicePort(
            port=80 + draw(st.integers(0, 1)) + 2 * index,
            name=each,
            protocol=draw(st.sampled_from(("TCP", "UDP"))),
            node_port=draw(st.sampled_from((None, 30080, 30081))),
        )
        for index, each in enumerate(names)
    )
    one = service(
        *ports,
        name=name,
        ips=draw(st.lists(st.sampled_from(SHARED[:2]), min_size=1, max_size=1)),
        external=draw(st.lists(st.sampled_from(SHARED[1:]), max_size=2)),
        ingress=draw(st.lists(st.sampled_from(SHARED[2:4]), max_size=2)),
        ranges=draw(st.sampled_from(((), ("10.0.0.0/8",)))),
        type="LoadBalancer",
        external_traffic_policy=draw(st.sampled_from(("Cluster", "Local"))),
        session_affinity=draw(st.sampled_from(("None", "ClientIP"))),
        health_check_node_port=draw(st.sampled_from((None, 32000))),
    )
    ends = draw(st.lists(st.integers(1, 4), max_size=3, unique=True))
    where = draw(st.sampled_from(("node1", "node2")))
    piece = slice_of(
        *(endpoint(f"10.244.0.{each}", where) for each in ends),
        ports=[EndpointPort(port=8080, name=each.name, protocol=each.protocol) for each in ports],
        of=name,
        address_type="IPv4",
    )
    return planned(one, piece)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Key, ServicePlan | None]]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=8))
    return [(("default", name), draw(plans(name))) for name in names]


def _fresh(last: dict[Key, ServicePlan | None]) -> Desired:
    desired = Desired()
    for key, plan in last.items():
        desired.put(key, plan)
    return desired


def _all(desired: Desired) -> dict[Any, Wanted]:
    found = {each.object.key: each for each in desired}
    assert len(found) == len(desired)
    assert all(desired.get(key) is each for key, each in found.items())
    return found


@given(histories(), st.randoms())
def test_after_any_sequence_all_is_as_after_a_fresh_start(
    history: list[tuple[Key, ServicePlan | None]], random: Any
) -> None:
    desired = Desired()
    mirror: dict[Any, Wanted] = {}
    for key, plan in history:
        delta = desired.put(key, plan)
        for one in delta.removed:
            del mirror[one.object.key]
        for one in delta.added:
            assert one.object.key not in mirror
            mirror[one.object.key] = one
        for before, after in delta.changed:
            assert mirror[before.object.key] == before != after
            assert before.object.key == after.object.key
            mirror[after.object.key] = after
        assert mirror == _all(desired)
    last = dict(history)
    keys = list(last)
    random.shuffle(keys)
    for each in (_fresh(dict(sorted(last.items()))), _fresh({key: last[key] for key in keys})):
        assert _all(each) == _all(desired)
        assert each.occupancy == desired.occupancy
        assert each.conflicts == desired.conflicts
        assert each.plans == desired.plans


@given(histories())
def test_what_is_wanted_can_be_built_in_its_order(
    history: list[tuple[Key, ServicePlan | None]],
) -> None:
    desired = Desired()
    for key, plan in history:
        desired.put(key, plan)
    there: set[Any] = set()
    for each in desired:
        if isinstance(one := each.object, VirtualServer):
            there.add((one.protocol, one.ip, one.port))
        if isinstance(one, RealServer):
            assert (one.protocol, one.vip, one.vport) in there


@given(histories())
def test_the_same_again_changes_nothing(history: list[tuple[Key, ServicePlan | None]]) -> None:
    desired = Desired()
    for key, plan in history:
        desired.put(key, plan)
    occupancy = desired.occupancy
    for key, plan in dict(history).items():
        delta = desired.put(key, plan)
        assert (delta.added, delta.removed, delta.changed) == ([], [], [])
    assert desired.occupancy == occupancy


def _web(name: str, ip: str, *ends: str) -> tuple[Service, EndpointSlice]:
    one = service(name=name, ips=(ip,), external=("198.51.100.1",))
    return one, slice_of(*map(endpoint, ends), of=name)


def test_a_virtual_server_is_of_the_first_service_whoever_came_first() -> None:
    a, b = _web("a", "10.96.0.1", "10.244.0.1"), _web("b", "10.96.0.2", "10.244.0.2")
    for order in ((a, b), (b, a)):
        desired = Desired()
        for one, piece in order:
            desired.put(one.key, planned(one, piece))
        reals = [w.object for w in desired if isinstance(w.object, RealServer)]
        shared = [str(real.ip) for real in reals if str(real.vip) == "198.51.100.1"]
        assert shared == ["10.244.0.1"]
        line = "198.51.100.1 TCP 80 is already that of service default/a"
        assert desired.conflicts == {("default", "b"): (line,)}


def test_the_next_one_has_it_when_the_first_goes() -> None:
    a, b = _web("a", "10.96.0.1", "10.244.0.1", "10.244.0.2"), _web("b", "10.96.0.2", "10.244.0.2")
    desired = Desired()
    for one, piece in (a, b):
        desired.put(one.key, planned(one, piece))
    delta = desired.put(a[0].key, None)
    removed = [w.object for w in delta.removed]
    gone = [str(x.ip) for x in removed if isinstance(x, RealServer) and str(x.vip) != "10.96.0.1"]
    assert gone == ["10.244.0.1"]
    assert not any(isinstance(w.object, VirtualServer) for w in delta.added)
    assert [str(x.ip) for x in removed if isinstance(x, Address)] == ["10.96.0.1"]
    assert all(before.object == after.object for before, after in delta.changed)
    assert desired.conflicts == {}


def test_occupancy_is_the_same_object_until_it_changes() -> None:
    desired = Desired()
    assert desired.occupancy == Occupancy()
    a, b = _web("a", "10.96.0.1", "10.244.0.1"), _web("b", "10.96.0.2")
    desired.put(a[0].key, planned(*a))
    first = desired.occupancy
    assert first.used == {"KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-IPVS-IPS"}
    desired.put(b[0].key, planned(*b))
    assert desired.occupancy is first
    desired.put(a[0].key, None)
    desired.put(b[0].key, None)
    assert desired.occupancy == Occupancy()


def test_blocked_addresses_are_sorted_by_number_and_counted() -> None:
    desired = Desired()
    for name, ip in (("a", "198.51.100.9"), ("b", "198.51.100.10"), ("c", "198.51.100.9")):
        one = service(name=name, type="LoadBalancer", ingress=(ip,), ranges=("10.0.0.0/8",))
        desired.put(one.key, planned(one))
    nine, ten = ip_address("198.51.100.9"), ip_address("198.51.100.10")
    both = [(nine, "TCP", 80), (ten, "TCP", 80)]
    assert list(desired.occupancy.blocked) == both
    desired.put(("default", "a"), None)
    assert list(desired.occupancy.blocked) == both
    desired.put(("default", "c"), None)
    assert list(desired.occupancy.blocked) == both[1:]


def test_removals_are_in_the_order_in_which_to_take_down() -> None:
    one, piece = _web("a", "10.96.0.1", "10.244.0.1")
    desired = Desired()
    added = desired.put(one.key, planned(one, piece)).added
    assert added == list(planned(one, piece).wanted)
    assert desired.put(one.key, None).removed == added[::-1]
