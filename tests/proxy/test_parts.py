"""The parts of a Proxy that need no kernel."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hairpin.kernel.apply import Failed
from hairpin.kernel.errors import KernelError
from hairpin.mode.ownership import Marks, ours
from hairpin.mode.wants import Wants
from hairpin.model.address import ip, network
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.service import Service
from hairpin.plan.node import node_facts
from hairpin.plan.planner import planner
from hairpin.proxy.pace import Pace
from hairpin.proxy.retries import MOST, Retries
from hairpin.proxy.tracker import Tracker
from hairpin.state.change import Change, Object
from hairpin.state.ipset import SetEntry
from hairpin.state.ipvs import Protocol, RealServer, VirtualServer
from hairpin.state.links import Address
from tests.proxy.cluster import CONFIG, NODE, PortSpec, endpoint_slice, key, service

# -- ownership -----------------------------------------------------------------------------------


def virtual(at: str, port: int = 80, protocol: Protocol = "TCP") -> VirtualServer:
    return VirtualServer(protocol=protocol, ip=ip(at), port=port)


def real(of: VirtualServer, at: str) -> RealServer:
    return RealServer(protocol=of.protocol, vip=of.ip, vport=of.port, ip=ip(at), port=8080)


def entry(name: str, port: int, at: str | None = None) -> SetEntry:
    if at is None:
        return SetEntry(set=name, port=port)
    return SetEntry(set=name, ip=ip(at), protocol="TCP", port=port)


MARKS = Marks(
    bound=[ip("10.96.0.1")],
    entries=[
        entry("KUBE-CLUSTER-IP", 80, "10.96.0.2"),
        entry("KUBE-6-EXTERNAL-IP", 80, "2001:db8::1"),
        entry("KUBE-LOOP-BACK", 8080, "10.244.0.5"),
        entry("KUBE-NODE-PORT-TCP", 30080),
    ],
    node=[ip("192.168.7.2")],
    excluded=[network("10.96.9.0/24")],
)


@pytest.mark.parametrize(
    ("server", "owned"),
    [
        (virtual("10.96.0.1", 1), True),
        (virtual("10.96.0.2"), True),
        (virtual("10.96.0.2", 81), False),
        (virtual("10.96.0.2", protocol="UDP"), False),
        (virtual("2001:db8::1"), True),
        (virtual("10.244.0.5", 8080), False),
        (virtual("192.168.7.2", 30080), True),
        (virtual("192.168.7.2", 30080, "UDP"), False),
        (virtual("192.168.7.9", 30080), False),
        (virtual("203.0.113.1"), False),
        (VirtualServer(protocol="TCP", ip=ip("0.0.0.0"), port=0, fwmark=1), False),
    ],
)
def test_which_virtual_servers_are_ours(server: VirtualServer, owned: bool) -> None:
    assert MARKS.owns(server) is owned


def test_excluded_ones_are_never_ours() -> None:
    marks = Marks([ip("10.96.9.1")], [], [], [network("10.96.9.0/24")])
    assert not marks.owns(virtual("10.96.9.1"))


def test_a_node_port_of_an_address_that_has_gone_is_known_by_its_real_servers() -> None:
    cluster, gone, other = (
        virtual("10.96.0.2"), virtual("192.168.7.9", 30080), virtual("192.168.7.8", 30080),
    )  # fmt: skip
    seen: list[VirtualServer | RealServer] = [cluster, real(cluster, "10.244.0.5")]
    seen += [gone, real(gone, "10.244.0.5"), other, real(other, "203.0.113.9")]
    assert ours(MARKS, seen, [cluster, gone, other]) == [cluster, gone]
    assert ours(MARKS, seen, [gone, other]) == [gone]


# -- what changed --------------------------------------------------------------------------------


def wants(adjust: object = None) -> Wants:
    facts = node_facts(NODE, None, [ip("192.168.7.2")])
    made = Wants(lambda node: planner(CONFIG, node, "node"), facts, "node", None)
    made.forget_changes()
    if adjust is not None:
        made.adjust = adjust  # type: ignore[assignment]
    return made


def variant(name: str, which: int) -> Service | None:
    """Some of them have addresses, ports and node ports in common."""
    match which:
        case 0:
            return None
        case 1:
            return service(name)
        case 2:
            ports: list[PortSpec] = [("http", "TCP", 80, 30080), ("dns", "UDP", 53, 0)]
            return service(name, ports=ports)
        case 3:
            return service(name, ["10.96.0.9"], external=["198.51.100.1"])
        case _:
            return service(name, balancer=["192.0.2.1"], ranges=["10.0.0.0/8"])


def slices(name: str, which: int) -> list[EndpointSlice]:
    return [endpoint_slice(name, [f"10.244.0.{which}"])] if which else []


@settings(deadline=None)  # other tests may have the CPU
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.integers(0, 2), st.booleans()),
        max_size=12,
    )
)
def test_changes_taken_at_any_time_add_up_to_what_is_wanted(
    steps: list[tuple[str, int, int, bool]],
) -> None:
    """Several Services share addresses and endpoints; some changes are taken together."""
    made = wants()
    held = {want.object.key: want.object for want in made}
    for name, which, behind, taken in steps:
        made.put(("default", name), variant(name, which), slices(name, behind))
        if taken:
            _apply(held, made)
    _apply(held, made)
    assert held == {want.object.key: want.object for want in made}
    assert not made.take()


def _apply(held: dict[tuple[object, ...], Object], made: Wants) -> None:
    found = made.take()
    keys = [change.object.key for change in found]
    assert len(keys) == len(set(keys))
    for change in found.removals:
        assert held.pop(change.object.key) == change.object
    for change in found.puts:
        if change.verb == "add":
            assert change.object.key not in held
        assert held.get(change.object.key) == change.before
        held[change.object.key] = change.object


def test_what_is_withheld_is_in_no_change() -> None:
    def without_addresses(one: Object) -> Object | None:
        return None if isinstance(one, Address) else one

    made = wants(without_addresses)
    made.put(("default", "a"), service("a"), ())
    assert not [one for one in made.take() if isinstance(one.object, Address)]
    assert not [one for one in made if isinstance(one.object, Address)]
    made.put(("default", "a"), None, ())
    assert not [one for one in made.take() if isinstance(one.object, Address)]


# -- retries -------------------------------------------------------------------------------------


def failure(port: int, code: int = 5) -> Failed:
    change = Change(verb="add", netns="node", object=virtual("10.96.0.1", port))
    return Failed(change, KernelError(code))


def test_each_object_waits_twice_as_long_after_each_failure_up_to_a_minute() -> None:
    retries = Retries(lambda: 1.0)
    waits = []
    now = 0.0
    for _ in range(10):
        retries.note([], [failure(80)], now)
        at = retries.next()
        assert at is not None and not retries.due(at - 0.001) and retries.due(at)
        waits.append(at - now)
        now = at
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert Retries(lambda: 0.0).delay(1) == 0.25
    assert Retries(lambda: 1.0).delay(10_000) == MOST


def test_a_failure_is_news_once_and_gone_with_success() -> None:
    retries = Retries(lambda: 0.5)
    assert len(retries.note([], [failure(80), failure(81)], 0)) == 2
    assert retries.note([], [failure(80)], 1) == []
    assert len(retries.note([], [failure(80, 12)], 2)) == 1
    retries.note([failure(80).change], [], 3)
    assert [one.object for one in retries.refused.values()] == [virtual("10.96.0.1", 81)]


# -- pace ----------------------------------------------------------------------------------------


def test_an_event_after_a_quiet_time_is_followed_at_once_and_more_wait() -> None:
    pace = Pace(least=1.0, period=30.0)
    assert pace.is_full_due(0.0)
    pace.compared(100.0, lambda failures: 1.0, failed=False)
    pace.synced(100.0)
    assert pace.due(dirty=False, retry_at=None, check_at=None) == 130.0
    assert pace.due(dirty=True, retry_at=None, check_at=None) == 101.0
    assert pace.due(dirty=False, retry_at=100.2, check_at=None) == 101.0
    assert pace.due(dirty=False, retry_at=None, check_at=110.0) == 110.0


def test_what_could_not_be_compared_is_tried_again_sooner() -> None:
    pace = Pace(least=0.0, period=30.0)
    for failures in (1, 2, 3):
        pace.compared(0.0, lambda count: 20.0 * count, failed=True)
        assert pace.full_at == min(20.0 * failures, 30.0)


# -- tracker -------------------------------------------------------------------------------------


def test_events_mark_the_services_that_they_concern() -> None:
    tracker = Tracker()
    one = endpoint_slice("a", ["10.244.0.5"])
    tracker.on_service(("default", "a"), service("a"))
    tracker.on_slice(key(one), one)
    assert list(tracker.take_dirty()) == [("default", "a")]
    tracker.on_slice(key(one), endpoint_slice("a", ["10.244.0.5"]))
    assert not tracker.dirty, "the same again"
    moved = endpoint_slice("b", ["10.244.0.5"], name="a-1")
    tracker.on_slice(key(one), moved)
    assert list(tracker.take_dirty()) == [("default", "a"), ("default", "b")]
    assert tracker.slices(("default", "a")) == []
    tracker.adopt({}, {})
    assert list(tracker.take_dirty()) == [("default", "a"), ("default", "b")]
    assert not tracker.services and not tracker.slices(("default", "b"))


def test_slices_come_by_name() -> None:
    tracker = Tracker()
    for number in (3, 1, 2):
        one = endpoint_slice("a", ["10.244.0.5"], name=f"a-{number}")
        tracker.on_slice(key(one), one)
    names = [one.metadata.name for one in tracker.slices(("default", "a"))]
    assert names == ["a-1", "a-2", "a-3"]
