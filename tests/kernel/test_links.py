"""Links, addresses and routes on the host's kernel, with ``ip`` as the witness."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.model.address import ip, network
from hairpin.netlink import link as wire
from hairpin.netlink.link import LinkMessage
from hairpin.state.change import Change
from hairpin.state.links import Address, Link, Netns, Route
from tests.kernel.host import Host

pytestmark = pytest.mark.host


def seed(host: Host) -> tuple[str, str, list[Change]]:
    """A node with a bridge and one Pod, as the lab builds it."""
    node, foo = host.name("node"), host.name("foo")
    return (
        node,
        foo,
        [
            host.add(Netns(name=node), ""),
            host.add(Netns(name=foo), ""),
            host.add(Link(name="cni0", type="bridge", promisc=True, mtu=1400), node),
            host.add(Address(link="cni0", ip=ip("172.22.0.1"), prefix=24), node),
            host.add(Address(link="cni0", ip=ip("fd00::1"), prefix=64), node),
            host.add(Link(name="eth0", type="veth", peer="foo", peer_netns=node), foo),
            host.add(Address(link="eth0", ip=ip("172.22.0.2"), prefix=24), foo),
            host.add(Address(link="eth0", ip=ip("fd00::2"), prefix=64), foo),
            host.add(Route(to=network("0.0.0.0/0"), via=ip("172.22.0.1")), foo),
            host.add(Route(to=network("::/0"), via=ip("fd00::1"), link="eth0"), foo),
            host.add(Route(to=network("10.9.0.0/16"), link="eth0"), foo),
            host.add(
                Link(
                    name="foo",
                    type="veth",
                    peer="eth0",
                    peer_netns=foo,
                    master="cni0",
                    hairpin=True,
                    mac="02:00:00:00:00:07",
                ),
                node,
            ),
        ],
    )


def only(found: list[Any]) -> dict[str, Any]:
    (one,) = found
    assert isinstance(one, dict)
    return one


def test_a_pod_is_built_as_ip_sees_it(host: Host) -> None:
    node, foo, changes = seed(host)
    host.must(*changes)
    host.must(*changes)  # what is so already is no error

    bridge = only(host.ip(node, "link", "show", "cni0"))
    assert {"PROMISC", "UP"} <= set(bridge["flags"])
    assert (bridge["mtu"], bridge["linkinfo"]["info_kind"]) == (1400, "bridge")
    port = only(host.ip(node, "link", "show", "foo"))
    assert (port["master"], port["address"]) == ("cni0", "02:00:00:00:00:07")
    assert port["linkinfo"]["info_slave_data"]["hairpin"] is True
    assert "UP" in port["flags"]
    assert port["link_netnsid"] == 0
    addresses = {
        (one["local"], one["prefixlen"], one.get("nodad", False))
        for one in only(host.ip(foo, "address", "show", "eth0"))["addr_info"]
        if one["scope"] == "global"
    }
    assert addresses == {("172.22.0.2", 24, False), ("fd00::2", 64, True)}
    routes = {(one["dst"], one.get("gateway"), one["dev"]) for one in host.ip(foo, "route")}
    assert routes == {
        ("default", "172.22.0.1", "eth0"),
        ("10.9.0.0/16", None, "eth0"),
        ("172.22.0.0/24", None, "eth0"),
    }
    default = [one for one in host.ip(foo, "-6", "route") if one["dst"] == "default"]
    assert only(default)["gateway"] == "fd00::1"


def test_what_was_built_is_observed(host: Host) -> None:
    node, foo, changes = seed(host)
    host.must(*changes)
    seen = {thing.key: thing for thing in host.kernel.observe(node)}
    seen_in_foo = {thing.key: thing for thing in host.kernel.observe(foo)}
    for change in changes:
        wanted = change.object
        there = seen if change.netns == node else seen_in_foo
        match wanted:
            case Netns():
                continue
            case Link():
                found = there[wanted.key]
                assert isinstance(found, Link)
                for field in ("type", "up", "master", "promisc", "hairpin", "peer", "peer_netns"):
                    assert getattr(found, field) == getattr(wanted, field), (wanted, found)
                assert wanted.mtu in (None, found.mtu)
                assert wanted.mac in (None, found.mac)
            case Route():
                found = there[wanted.key]
                assert isinstance(found, Route)
                assert (found.via, found.link) == (wanted.via, "eth0")
            case _:
                assert there[wanted.key] == wanted
    # What the kernel makes by itself is told only when asked for.
    derived = {thing.key for thing in host.kernel.observe(foo, derived=True)}
    extra = derived - set(seen_in_foo)
    loopback = Address(link="lo", ip=ip("127.0.0.1"), prefix=8)
    assert {("route", network("172.22.0.0/24")), loopback.key} <= extra
    assert ("link", "lo") in seen_in_foo


def test_a_veth_within_one_namespace(host: Host) -> None:
    (node,) = host.make("node")
    host.must(host.add(Link(name="a", type="veth", peer="b"), node))
    seen = {one.name: one for one in host.kernel.observe(node) if isinstance(one, Link)}
    assert (seen["a"].peer, seen["a"].peer_netns) == ("b", None)
    assert (seen["b"].peer, seen["b"].up) == ("a", False)


def test_a_set_sends_only_what_differs(host: Host) -> None:
    node, _, changes = seed(host)
    host.must(*changes)

    def port() -> Link:
        found = next(one for one in host.kernel.observe(node) if one.key == ("link", "foo"))
        assert isinstance(found, Link)
        return found

    before = port()
    # Somebody changes the MTU meanwhile: it is no part of the difference and stays.
    host.run(node, "ip", "link", "set", "foo", "mtu", "1300")
    after = Link(name="foo", type="veth", master="cni0", mtu=before.mtu, mac=before.mac)
    host.must(host.put(after, node, before))
    assert (port().hairpin, port().mtu, port().up) == (False, 1300, True)
    host.must(host.put(Link(name="foo", type="veth", up=False), node))
    assert (port().master, port().up, port().hairpin) == (None, False, False)
    host.must(host.put(Link(name="foo", type="veth", master="cni0", hairpin=True), node))
    assert (port().master, port().up, port().hairpin) == ("cni0", True, True)
    promiscuous = Link(name="cni0", type="bridge", promisc=True)
    host.must(host.put(Link(name="cni0", type="bridge"), node, promiscuous))
    assert "PROMISC" not in only(host.ip(node, "link", "show", "cni0"))["flags"]


def test_a_route_is_put_in_place_of_another(host: Host) -> None:
    _, foo, changes = seed(host)
    host.must(*changes)
    old = Route(to=network("10.9.0.0/16"), link="eth0")
    new = Route(to=network("10.9.0.0/16"), via=ip("172.22.0.1"), link="eth0")
    (failed,) = host.kernel.apply([host.add(new, foo)])
    assert failed.error.name == "EEXIST"
    assert "another route to 10.9.0.0/16" in failed.error.text
    host.must(host.put(new, foo, old))
    assert only(host.ip(foo, "route", "show", "10.9.0.0/16"))["gateway"] == "172.22.0.1"


def test_taking_everything_back_and_once_more(host: Host) -> None:
    node, foo, changes = seed(host)
    host.must(*changes)
    back = [change.undone() for change in reversed(changes) if change.netns]
    host.must(*back)
    host.must(*back)  # what is absent already is no error
    for name in (node, foo):
        assert [one["ifname"] for one in host.ip(name, "link")] == ["lo"]
        assert host.ip(name, "route") == []


def test_a_veth_goes_with_the_peers_namespace(host: Host) -> None:
    node, foo, changes = seed(host)
    host.must(*changes)
    host.must(host.remove(Netns(name=foo), ""))
    for _ in range(100):  # the kernel takes it apart a moment later
        if len(host.ip(node, "link")) == 2:
            break
        time.sleep(0.05)
    assert [one["ifname"] for one in host.ip(node, "link")] == ["lo", "cni0"]
    host.must(host.remove(Link(name="foo", type="veth"), node))


def test_each_error_goes_to_the_change_that_caused_it(host: Host) -> None:
    (node,) = host.make("node")
    good = [Link(name=f"br{number}", type="bridge", up=False) for number in range(20)]
    changes = [host.add(link, node) for link in good]
    wrong: dict[int, tuple[Change, str, str]] = {
        3: (host.add(Link(name="x" * 16, type="bridge"), node), "ERANGE", ""),
        7: (host.add(Link(name="m", type="dummy", master="nope"), node), "ENODEV", "no link nope"),
        9: (host.add(Address(link="nope", ip=ip("10.0.0.1"), prefix=8), node), "ENODEV", "nope"),
        11: (host.add(Link(name="v", type="veth", peer="w", peer_netns="gone"), node), "ENOENT",
             "no namespace gone"),
        13: (host.add(Route(to=network("10.0.0.0/8"), via=ip("9.9.9.9")), node), "ENETUNREACH",
             "Nexthop has invalid gateway"),
        14: (host.add(Route(to=network("10.0.0.0/8")), node), "EINVAL", "neither a gateway"),
        15: (host.add(Link(name="br0", type="veth"), node), "EEXIST", "of type bridge"),
        16: (host.add(Link(name="new", type="veth", peer="br1"), node), "EEXIST", "br1, the peer"),
        17: (host.add(Link(name="lo2", type="loopback"), node), "EINVAL", "cannot be made"),
    }  # fmt: skip
    for position, (change, _, _) in wrong.items():
        changes.insert(position, change)
    failed = {id(one.change): one.error for one in host.kernel.apply(changes)}
    assert len(failed) == len(wrong)
    for change, name, text in wrong.values():
        assert failed[id(change)].name == name, failed[id(change)]
        assert text in str(failed[id(change)])
    made = {one["ifname"] for one in host.ip(node, "link")}
    assert {link.name for link in good} <= made


def test_a_change_for_an_unknown_namespace_fails_and_the_others_do_not(host: Host) -> None:
    (node,) = host.make("node")
    bridge = Link(name="br", type="bridge")
    (failed,) = host.kernel.apply([host.add(bridge, "gone"), host.add(bridge, node)])
    assert failed.change.netns == "gone"
    assert "no namespace gone" in str(failed)
    assert host.ip(node, "link", "show", "br")


def test_a_batch_of_nothing_but_failures_loses_none(host: Host) -> None:
    (node,) = host.make("node")
    socket = NetlinkSocket(wire.NETLINK_ROUTE, host.kernel.namespaces[node])
    try:
        requests = [wire.remove_link("absent")] * 3000
        requests[1234] = wire.add_link(LinkMessage(name="br", type="bridge"))
        verdicts = socket.batch(requests)
        assert len(verdicts) == 3000
        assert verdicts[1234] is None
        names = {error.name for error in verdicts if error is not None}
        assert names == {"ENODEV"}
        assert sum(error is None for error in verdicts) == 1
    finally:
        socket.close()


def test_the_kernels_own_words_are_kept(host: Host) -> None:
    (node,) = host.make("node")
    socket = NetlinkSocket(wire.NETLINK_ROUTE, host.kernel.namespaces[node])
    try:
        (error,) = socket.batch([wire.add_link(LinkMessage(name="b", type="bridge", mtu=70000))])
        assert str(error) == "EINVAL (Invalid argument): mtu greater than device maximum"
    finally:
        socket.close()


def test_a_link_type_that_the_kernel_lacks_is_named(host: Host) -> None:
    (node,) = host.make("node")
    failed = host.kernel.apply([host.add(Link(name="d", type="dummy"), node)])
    if not failed:
        pytest.skip("this kernel has dummy links")
    assert "EOPNOTSUPP" in str(failed[0].error)
    assert "makes no dummy links" in str(failed[0].error)


def test_many_links_survive_a_dump(host: Host) -> None:
    node, foo = host.make("node", "foo")
    names = [f"v{number}" for number in range(300)]
    host.must(
        *(
            host.add(Link(name=name, type="veth", peer=f"p{name}", peer_netns=foo), node)
            for name in names
        )
    )
    seen = {one.name: one for one in host.kernel.observe(node) if isinstance(one, Link)}
    assert set(seen) == {"lo", *names}
    assert all(seen[name].peer == f"p{name}" for name in names)
    assert all(seen[name].peer_netns == foo for name in names)
