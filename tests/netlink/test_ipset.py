"""ipset requests and listings come back as they went out; pyroute2 reads the same in them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink.ipset import ipset_msg

from hairpin.model.address import ip, network
from hairpin.netlink import ipset, ipset_format, ipset_seen
from hairpin.netlink import message as wire
from hairpin.netlink.ipset_format import Verb
from hairpin.state.change import Change
from hairpin.state.ipset import IpSet, SetEntry, SetType
from hairpin.state.sysctl import Sysctl
from tests.ipvs_values import IPV4, IPV6, PORTS, PROTOCOLS

NAMES = st.from_regex(r"[A-Z0-9-]{1,31}", fullmatch=True)
TYPES: tuple[SetType, ...] = tuple(ipset_format.REVISIONS)


@st.composite
def sets(draw: st.DrawFn) -> IpSet:
    type = draw(st.sampled_from(TYPES))
    if type == "bitmap:port":
        return IpSet(name=draw(NAMES), type=type, maxelem=0)
    family = draw(st.sampled_from(("inet", "inet6")))
    maxelem = draw(st.just(65536) | st.integers(1, 2**32 - 1))
    return IpSet(name=draw(NAMES), type=type, family=family, maxelem=maxelem)  # type: ignore[arg-type]  # drawn


@st.composite
def entries(draw: st.DrawFn, of: IpSet | None = None) -> SetEntry:
    of = draw(sets()) if of is None else of
    if of.type == "bitmap:port":
        return SetEntry(set=of.name, port=draw(PORTS))
    addresses = IPV4 if of.family == "inet" else IPV6
    first = draw(addresses)
    if of.type == "hash:ip":
        return SetEntry(set=of.name, ip=first)
    second = draw(addresses)
    prefix = draw(st.integers(0, second.max_prefixlen))
    kind = IPv4Network if of.family == "inet" else IPv6Network
    return SetEntry(
        set=of.name,
        ip=first,
        protocol=draw(PROTOCOLS),
        port=draw(PORTS),
        ip2=second if of.type == "hash:ip,port,ip" else None,
        net=kind((int(second), prefix), strict=False) if of.type == "hash:ip,port,net" else None,
    )


@given(sets(), st.integers(0, 255))
def test_a_set_comes_back(one: IpSet, revision: int) -> None:
    assert ipset_seen.parse_set(ipset.create(one, revision).body) == (one, revision)


@given(st.sampled_from(("add", "remove")), entries())
def test_an_entry_comes_back(verb: Verb, entry: SetEntry) -> None:
    request = ipset.put_entry(verb, entry)
    assert ipset_seen.parse_entry(request.kind & 0xFF, request.body) == (verb, entry)


@given(st.lists(st.tuples(st.sampled_from(("add", "remove")), entries()), max_size=40))
def test_a_batch_is_its_requests_one_after_the_other(wanted: list[tuple[Verb, SetEntry]]) -> None:
    changes = [Change(verb=verb, netns="node", object=entry) for verb, entry in wanted]
    packed, count = ipset.pack(changes, "node")
    assert count == len(changes)
    single = [ipset.put_entry(verb, entry) for verb, entry in wanted]
    assert packed == wire.batch(single, wire.FIRST_PACKED)


def test_a_batch_ends_where_its_kind_ends() -> None:
    entry = SetEntry(set="A", port=1)
    own = Change(verb="add", netns="node", object=entry)
    others = (
        Change(verb="add", netns="other", object=entry),
        Change(verb="add", netns="node", object=Sysctl(name="net.x", value="1")),
    )
    for other in others:
        assert ipset.pack([own, own, other, own], "node")[1] == 2
    assert ipset.pack([own] * 600, "node")[1] == ipset.MOST_PACKED


def listing(one: IpSet, own: list[SetEntry], *extra: bytes) -> list[bytes]:
    """A dump of one set as the kernel makes it, in two messages."""
    head = ipset.create(one, 5).body
    blocks = []
    for entry in own:
        attributes = ipset.put_entry("add", entry).body[len(_start(one.name)) + 4 :]
        blocks.append(wire.nested(ipset_format.ATTR_DATA, attributes, *extra))
    half = len(blocks) // 2
    return [
        head + wire.nested(ipset_format.ATTR_ADT, *blocks[:half]),
        _start(one.name) + wire.nested(ipset_format.ATTR_ADT, *blocks[half:]),
    ]


def read_all(bodies: list[bytes], prefix: str = "") -> list[IpSet | SetEntry]:
    found: list[IpSet | SetEntry] = []
    read = ipset_seen.Listing(prefix)
    for body in bodies:
        read.take(body, found)
    return found


def _start(name: str) -> bytes:
    return (
        ipset_format.NFGENMSG
        + wire.u8(ipset_format.ATTR_PROTOCOL, 6)
        + wire.text(ipset_format.ATTR_SETNAME, name)
    )


@given(st.data())
def test_a_listing_is_read_whatever_stands_beside_entries(data: st.DataObject) -> None:
    one = data.draw(sets())
    own = data.draw(st.lists(entries(of=one), max_size=8))
    timeout = wire.attribute(6 | ipset_format.NET_BYTEORDER, (600).to_bytes(4, "big"))
    for extra in ((), (timeout,)):
        bodies = listing(one, own, *extra)
        assert read_all(bodies) == [one, *own]
        assert read_all(bodies, prefix="no such name") == []


@given(st.data())
def test_spoiled_messages_give_values_or_wire_error(data: st.DataObject) -> None:
    one = data.draw(sets())
    bodies = listing(one, data.draw(st.lists(entries(of=one), min_size=1, max_size=4)))
    for whole in bodies:
        body = bytearray(whole)
        for _ in range(data.draw(st.integers(0, 3))):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        cut = bytes(body[: data.draw(st.integers(0, len(body)))])
        readers: list[Callable[[bytes], object]] = [
            lambda data: read_all([bodies[0], data]),
            ipset_seen.parse_set,
            ipset_seen.parse_type,
        ]
        for reader in readers:
            with suppress(wire.WireError):
                reader(cut)


def witness(body: bytes, kind: int) -> Any:
    message = ipset_msg(wire.frame(wire.Request(kind, 0, body), 1))
    message.decode()
    return message


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (
            SetEntry(set="A", ip=ip("10.96.0.1"), protocol="UDP", port=53),
            {"IP_FROM": "10.96.0.1", "PORT_FROM": 53, "PROTO": 17},
        ),
        (
            SetEntry(set="A", ip=ip("fd00::1"), protocol="TCP", port=80, net=network("fd01::/48")),
            {"IP_FROM": "fd00::1", "PORT_FROM": 80, "PROTO": 6, "IP2": "fd01::", "CIDR2": 48},
        ),
        (SetEntry(set="A", port=30080), {"PORT_FROM": 30080}),
    ],
)
def test_pyroute2_reads_our_entries(entry: SetEntry, found: dict[str, object]) -> None:
    request = ipset.put_entry("add", entry)
    message = witness(request.body, request.kind)
    assert message.get_attr("IPSET_ATTR_SETNAME") == "A"
    data = message.get_attr("IPSET_ATTR_DATA")
    for name, value in found.items():
        got = data.get_attr(f"IPSET_ATTR_{name}")
        if name in ("IP_FROM", "IP2"):
            version = 4 if "." in str(value) else 6
            got = got.get_attr(f"IPSET_ATTR_IPADDR_IPV{version}")
        assert got == value, name


def test_an_entry_is_written_as_ipset_writes_it() -> None:
    address = {"set": "A", "ip": ip("192.0.2.6"), "protocol": "TCP", "port": 80}
    for prefix, text in ((8, "10.0.0.0/8"), (32, "10.0.0.0")):
        entry = SetEntry(**address, net=IPv4Network(("10.0.0.0", prefix)))  # type: ignore[arg-type]  # a test's shorthand
        assert str(entry) == f"192.0.2.6,tcp:80,{text}"
    assert str(SetEntry(set="A", port=30084)) == "30084"
    assert str(SetEntry(set="A", ip=ip("fd00::1"))) == "fd00::1"


LINUX_6_1 = bytes.fromhex(
    "02000000 05000100 06000000 08000200 666f6f00 11000300 68617368 3a69702c 706f7274 00000000"
    "05000500 02000000 05000400 05000000 2c000780 08001240 00004000 08001340 00010000"
    "08001940 00000000 08001a40 00154e60 08001840 0000c350 44000880"
    "20000780 0c000180 08000100 0a6032d1 06000440 00500000 05000700 06000000"
    "20000780 0c000180 08000100 0a607faf 06000440 00350000 05000700 11000000"
)
"""The beginning of a dump of ``foo``, with the two entries that it says it has."""


def test_what_linux_sends_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipset_seen, "_any_entries", None)  # not attribute by attribute
    first, second = (ip("10.96.50.209"), 80), (ip("10.96.127.175"), 53)
    assert read_all([LINUX_6_1]) == [
        IpSet(name="foo", type="hash:ip,port", family="inet"),
        SetEntry(set="foo", ip=first[0], protocol="TCP", port=first[1]),
        SetEntry(set="foo", ip=second[0], protocol="UDP", port=second[1]),
    ]
