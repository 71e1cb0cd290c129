"""Laws of the difference between two states."""

from hypothesis import given
from hypothesis import strategies as st

from hairpin.model.address import ip, network
from hairpin.plan.diff import diff
from hairpin.state.change import Change, KernelState, Object, Wanted
from hairpin.state.links import Address, Link, Netns, Route
from hairpin.state.netfilter import ChainPolicy, Rule
from hairpin.state.sysctl import Sysctl

LINKS = st.builds(
    Link,
    name=st.sampled_from(["cni0", "ipvs0", "dummy1"]),
    type=st.just("dummy"),
    up=st.booleans(),
    promisc=st.booleans(),
)
ADDRESSES = st.builds(
    Address,
    link=st.sampled_from(["cni0", "ipvs0"]),
    ip=st.sampled_from([ip("172.22.0.1"), ip("172.23.0.1")]),
    prefix=st.sampled_from([24, 32]),
)
ROUTES = st.builds(
    Route,
    to=st.just(network("0.0.0.0/0")),
    via=st.sampled_from([ip("172.22.0.1"), ip("172.22.0.254")]),
)
RULES = st.builds(
    Rule,
    table=st.sampled_from(["nat", "filter"]),
    chain=st.just("FORWARD"),
    spec=st.sampled_from([("-i", "cni0", "-j", "ACCEPT"), ("-j", "DROP")]),
)
SYSCTLS = st.builds(
    Sysctl, name=st.sampled_from(["net.a", "net.b"]), value=st.sampled_from(["0", "1"])
)
POLICIES = st.builds(
    ChainPolicy,
    table=st.just("filter"),
    chain=st.just("FORWARD"),
    target=st.sampled_from(["ACCEPT", "DROP"]),
)
OBJECTS = st.one_of(LINKS, ADDRESSES, ROUTES, RULES, SYSCTLS, POLICIES)


def _wanted(netns: str, thing: Object) -> Wanted:
    return Wanted(netns=netns, object=thing, owner="test", why="test")


def _state(things: list[tuple[str, Object]]) -> KernelState:
    by_key = {(netns, thing.key): _wanted(netns, thing) for netns, thing in things}
    return KernelState(by_key.values())


STATES = st.lists(st.tuples(st.sampled_from(["node", "foo"]), OBJECTS), max_size=12).map(_state)
Model = dict[tuple[str, tuple[object, ...]], Object]


def _model(state: KernelState) -> Model:
    return {(one.netns, one.object.key): one.object for one in state}


def _applied(model: Model, changes: list[Change]) -> Model:
    """What a kernel would hold; refuses what a kernel would refuse."""
    after = dict(model)
    for change in changes:
        place = (change.netns, change.object.key)
        match change.verb:
            case "add":
                assert place not in after, f"added twice: {change}"
                after[place] = change.object
            case "remove":
                assert after.pop(place) == change.object
            case "set":
                assert change.before is None or after[place] == change.before
                after[place] = change.object
    return after


@given(STATES)
def test_a_state_differs_in_nothing_from_itself(state: KernelState) -> None:
    assert diff(state, state) == []


@given(STATES, STATES)
def test_the_difference_applied_gives_the_wanted_state(
    wanted: KernelState, held: KernelState
) -> None:
    after = _applied(_model(held), diff(wanted, held))
    lasting = {
        place: thing
        for place, thing in after.items()
        if not isinstance(thing, Sysctl | ChainPolicy) or place in _model(wanted)
    }
    assert lasting == _model(wanted)


@given(STATES, STATES)
def test_additions_come_before_removals(wanted: KernelState, held: KernelState) -> None:
    verbs = [change.verb == "remove" for change in diff(wanted, held)]
    assert verbs == sorted(verbs)


def _veth() -> list[Wanted]:
    near = Link(name="eth0", type="veth", peer="veth_foo", peer_netns="node")
    far = Link(name="veth_foo", type="veth", master="cni0", peer="eth0", peer_netns="foo")
    return [
        _wanted("foo", Netns(name="foo")),
        _wanted("foo", near),
        _wanted("node", far),
        _wanted("foo", Route(to=network("0.0.0.0/0"), via=ip("172.22.0.1"))),
    ]


def test_the_second_end_of_a_veth_comes_with_the_first() -> None:
    changes = diff(KernelState(_veth()), KernelState())
    assert [(change.verb, type(change.object).__name__) for change in changes] == [
        ("add", "Netns"),
        ("add", "Link"),
        ("set", "Link"),
        ("add", "Route"),
    ]
    before = changes[2].before
    assert isinstance(before, Link)
    assert (before.up, before.master) == (False, None)


def test_a_namespace_takes_its_routes_along_but_its_veth_is_removed_first() -> None:
    changes = diff(KernelState(), KernelState(_veth()))
    assert [(change.verb, change.object.key) for change in changes] == [
        ("remove", ("link", "veth_foo")),
        ("remove", ("netns", "foo")),
    ]
