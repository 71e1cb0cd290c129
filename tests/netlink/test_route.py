"""Links, addresses and routes come back as they went out; pyroute2 reads the same in them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from hairpin.model.address import ip, network
from hairpin.netlink import link, route
from hairpin.netlink import message as wire
from hairpin.netlink.link import LinkMessage, Peer
from hairpin.netlink.message import Request
from hairpin.netlink.route import AddressMessage, RouteMessage

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,14}", fullmatch=True)
U32 = st.integers(0, 2**32 - 1)
INDEX = st.integers(1, 2**31 - 1)
MACS = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
IPS = st.one_of(st.builds(IPv4Address, U32), st.builds(IPv6Address, st.integers(0, 2**128 - 1)))


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


networks = st.one_of(
    st.builds(lambda n, p: IPv4Network((n, p), strict=False), U32, st.integers(0, 32)),
    st.builds(
        lambda n, p: IPv6Network((n, p), strict=False),
        st.integers(0, 2**128 - 1),
        st.integers(0, 128),
    ),
)
peers = st.builds(Peer, name=NAMES, netns_fd=maybe(INDEX))
new_links = st.builds(
    LinkMessage,
    name=NAMES,
    type=st.sampled_from(("bridge", "dummy", "veth")),
    flags=U32,
    change=U32,
    master=maybe(INDEX),
    mtu=maybe(U32),
    mac=maybe(MACS),
) | st.builds(LinkMessage, name=NAMES, type=st.just("veth"), peer=peers)
link_changes = st.builds(
    LinkMessage,
    name=NAMES,
    flags=U32,
    change=U32,
    master=maybe(st.integers(0, 2**31 - 1)),
    hairpin=maybe(st.booleans()),
    mtu=maybe(U32),
    mac=maybe(MACS),
)
addresses = st.builds(
    AddressMessage,
    index=INDEX,
    ip=IPS,
    prefix=st.integers(0, 128),
    scope=st.integers(0, 255),
    made_by=st.integers(0, 3),
)
routes = st.builds(
    RouteMessage,
    to=networks,
    via=maybe(IPS),
    index=maybe(INDEX),
    table=st.integers(1, 2**32 - 1),
    made_by=st.integers(0, 255),
    type=st.integers(0, 11),
)


@given(new_links)
def test_a_new_link_comes_back(message: LinkMessage) -> None:
    assert link.parse_link(link.add_link(message).body) == message


@given(link_changes)
def test_a_changed_link_comes_back(message: LinkMessage) -> None:
    assert link.parse_link(link.set_link(message).body) == message


@given(NAMES)
def test_a_link_that_is_asked_for_or_removed_comes_back(name: str) -> None:
    for request in (link.get_link(name), link.remove_link(name)):
        assert link.parse_link(request.body) == LinkMessage(name=name)


@pytest.mark.parametrize("kind", ["loopback", "other"])
def test_only_links_that_can_be_made_are_rendered(kind: Any) -> None:
    with pytest.raises(ValueError, match="cannot be made"):
        link.add_link(LinkMessage(name="x", type=kind))


@given(addresses)
def test_an_address_comes_back(message: AddressMessage) -> None:
    for request in (route.add_address(message), route.remove_address(message)):
        assert route.parse_address(request.body) == message


@given(routes)
def test_a_route_comes_back(message: RouteMessage) -> None:
    for request in (route.add_route(message), route.set_route(message)):
        assert route.parse_route(request.body) == message
    nobody = msgspec.structs.replace(message, made_by=0)
    assert route.parse_route(route.remove_route(message).body) == nobody


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A request with some bytes changed, or its end cut off."""
    request = draw(
        new_links.map(link.add_link)
        | link_changes.map(link.set_link)
        | addresses.map(route.add_address)
        | routes.map(route.add_route)
    )
    body = bytearray(request.body)
    for _ in range(draw(st.integers(0, 3))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.integers(0, len(body)))])


@given(spoiled())
def test_spoiled_messages_give_values_or_wire_error(data: bytes) -> None:
    readers: list[Callable[[bytes], object]] = [
        link.parse_link,
        link.parse_netnsid,
        route.parse_address,
        route.parse_route,
    ]
    for read in readers:
        with suppress(wire.WireError):
            read(data)


def witness(kind: type, request: Request) -> Any:
    """The request as pyroute2 reads it."""
    message = kind(wire.frame(request, 1))
    message.decode()
    return message


def test_pyroute2_reads_our_veth() -> None:
    request = link.add_link(
        LinkMessage(
            name="eth0",
            type="veth",
            flags=1,
            change=1,
            mtu=1400,
            mac="02:00:00:00:00:01",
            peer=Peer(name="veth-foo", netns_fd=7),
        )
    )
    message = witness(ifinfmsg, request)
    assert (message["flags"], message["change"]) == (1, 1)
    assert message.get_attr("IFLA_IFNAME") == "eth0"
    assert message.get_attr("IFLA_MTU") == 1400
    assert message.get_attr("IFLA_ADDRESS") == "02:00:00:00:00:01"
    info = message.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert peer.get_attr("IFLA_IFNAME") == "veth-foo"
    assert peer.get_attr("IFLA_NET_NS_FD") == 7


def test_pyroute2_reads_our_port() -> None:
    message = witness(ifinfmsg, link.set_link(LinkMessage(name="p", master=3, hairpin=True)))
    assert message.get_attr("IFLA_MASTER") == 3
    info = message.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_SLAVE_KIND") == "bridge"
    assert info.get_attr("IFLA_INFO_SLAVE_DATA").get_attr("IFLA_BRPORT_MODE") == 1


def test_pyroute2_reads_our_addresses_and_routes() -> None:
    message = witness(
        ifaddrmsg, route.add_address(AddressMessage(index=4, ip=ip("172.22.0.1"), prefix=24))
    )
    assert (message["index"], message["prefixlen"], message["family"]) == (4, 24, 2)
    assert message.get_attr("IFA_LOCAL") == "172.22.0.1"
    assert message.get_attr("IFA_ADDRESS") == "172.22.0.1"
    message = witness(
        rtmsg,
        route.add_route(
            RouteMessage(to=network("fd00:1::/64"), via=ip("fd00::1"), index=4, table=1000)
        ),
    )
    assert (message["family"], message["dst_len"], message["proto"]) == (10, 64, 3)
    assert message.get_attr("RTA_DST") == "fd00:1::"
    assert message.get_attr("RTA_GATEWAY") == "fd00::1"
    assert message.get_attr("RTA_OIF") == 4
    assert message.get_attr("RTA_TABLE") == 1000


@pytest.mark.parametrize(
    "text", ["10.0.0.0/8 via 1.2.3.4", "0.0.0.0/0 via 172.22.0.1", "fd00::/16 via fe80::1"]
)
def test_we_read_pyroute2s_routes(text: str) -> None:
    to, _, via = text.split()
    theirs = rtmsg()
    theirs["family"] = 2 if network(to).version == 4 else 10
    theirs["dst_len"] = network(to).prefixlen
    theirs["table"] = 254
    theirs["proto"] = 3
    theirs["type"] = 1
    theirs["attrs"] = [["RTA_GATEWAY", via], ["RTA_OIF", 9]]
    if network(to).prefixlen:
        theirs["attrs"].append(["RTA_DST", str(network(to).network_address)])
    theirs.encode()
    (frame,) = wire.frames(theirs.data, len(theirs.data))
    assert route.parse_route(frame.body) == RouteMessage(to=network(to), via=ip(via), index=9)
