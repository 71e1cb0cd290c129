"""IPVS requests come back as they went out; pyroute2 reads the same in them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.generic.ipvs import ipvsmsg

from hairpin.model.address import ip
from hairpin.netlink import generic, ipvs, ipvs_seen
from hairpin.netlink import message as wire
from hairpin.netlink.ipvs_format import Verb
from hairpin.state.change import Change
from hairpin.state.ipvs import (
    Counters,
    Info,
    Persistence,
    Rates,
    RealServer,
    RealServerSeen,
    Timeouts,
    Tunnel,
    VirtualServer,
    VirtualServerSeen,
    by_mark,
)
from hairpin.state.sysctl import Sysctl
from tests.ipvs_values import real_servers, servers, virtual_server_of, virtual_servers

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
COUNTERS = st.tuples(U64, U64, U64, U64, U64)


@given(st.sampled_from(("add", "set")), servers)
def test_additions_and_changes_come_back(verb: Verb, server: VirtualServer | RealServer) -> None:
    assert ipvs_seen.parse_request(ipvs.request(30, verb, server).body) == (verb, server)


@given(servers)
def test_a_removal_names_the_same_server(server: VirtualServer | RealServer) -> None:
    verb, got = ipvs_seen.parse_request(ipvs.request(30, "remove", server).body)
    assert (verb, got.key) == ("remove", server.key)


@given(st.lists(st.tuples(st.sampled_from(("add", "set", "remove")), servers), max_size=40))
def test_a_batch_is_its_requests_one_after_the_other(
    wanted: list[tuple[Verb, VirtualServer | RealServer]],
) -> None:
    changes = [Change(verb=verb, netns="node", object=server) for verb, server in wanted]
    packed, count = ipvs.pack(30, changes, "node")
    assert count == len(changes)
    single = [ipvs.request(30, verb, server) for verb, server in wanted]
    assert packed == wire.batch(single, wire.FIRST_PACKED)


@given(real_servers(), st.integers(1, 4))
def test_a_batch_ends_where_others_begin(server: RealServer, count: int) -> None:
    own = Change(verb="add", netns="node", object=server)
    elsewhere = Change(verb="add", netns="foo", object=server)
    other = Change(verb="set", netns="node", object=Sysctl(name="a", value="1"))
    for foreign in (elsewhere, other):
        changes = [*[own] * count, foreign, own]
        assert ipvs.pack(30, changes, "node") == ipvs.pack(30, [own] * count, "node")
    most = ipvs.MOST_PACKED
    assert ipvs.pack(30, [own] * 1000, "node") == ipvs.pack(30, [own] * most, "node")
    assert ipvs.pack(30, [other], "node") == (b"", 0)


def stats(values: tuple[int, ...], rates: tuple[int, ...], wide: bool) -> bytes:
    """Counters as the kernel sends them: ip_vs_genl_fill_stats and its 64-bit twin."""
    sizes = (8,) * 10 if wide else (4, 4, 4, 8, 8, 4, 4, 4, 4, 4)
    return b"".join(
        wire.attribute(kind, (number % (1 << size * 8)).to_bytes(size, "little"))
        for kind, (number, size) in enumerate(zip((*values, *rates), sizes, strict=True), 1)
    )


def counters(values: tuple[int, ...]) -> Counters:
    return Counters(**dict(zip(Counters.__struct_fields__, values, strict=True)))


def rates(values: tuple[int, ...]) -> Rates:
    return Rates(**dict(zip(Rates.__struct_fields__, values, strict=True)))


@given(virtual_servers(), COUNTERS, COUNTERS)
def test_a_virtual_server_is_read_with_its_wide_counters(
    server: VirtualServer, values: tuple[int, ...], speeds: tuple[int, ...]
) -> None:
    body = ipvs.request(30, "add", server).body
    service = wire.attributes(body, 4)[1]
    service += wire.nested(10, stats(values, speeds, wide=False))
    service += wire.nested(12, stats(values, speeds, wide=True))
    seen = ipvs_seen.parse_virtual_server(body[:4] + wire.nested(1, service))
    assert seen == VirtualServerSeen(server=server, counters=counters(values), rates=rates(speeds))


@given(real_servers(), COUNTERS, COUNTERS, st.tuples(U32, U32, U32), st.integers(0, 2**29 - 1))
def test_a_real_server_is_read_with_connections_and_counters(
    server: RealServer,
    values: tuple[int, ...],
    speeds: tuple[int, ...],
    open_: tuple[int, int, int],
    other_bits: int,
) -> None:
    body = ipvs.request(30, "add", server).body
    dest = wire.attributes(body, 4)[2]
    method = wire.number(wire.attributes(dest)[3])
    for kind, number in enumerate(open_, 7):
        dest += wire.u32(kind, number)
    dest += wire.u32(3, other_bits << 3 | method)  # a connection's flags share the word
    dest += wire.nested(12, stats(values, speeds, wide=True))
    seen = ipvs_seen.parse_real_server(body[:4] + wire.nested(2, dest), virtual_server_of(server))
    assert seen == RealServerSeen(
        server=server,
        counters=counters(values),
        rates=rates(speeds),
        active=open_[0],
        inactive=open_[1],
        persistent=open_[2],
    )


def test_an_old_kernels_counters_and_families_are_read() -> None:
    of = VirtualServer(protocol="TCP", ip=ip("fd00::1"), port=80)
    dest = wire.attribute(1, ip("fd00::2").packed) + wire.attribute(2, b"\x1f\x90")
    old = stats((1, 2, 3, 4, 5), (6, 7, 8, 9, 10), wide=False)
    dest += wire.u32(3, 0) + wire.u32(4, 7) + wire.nested(10, old)
    seen = ipvs_seen.parse_real_server(bytes(4) + wire.nested(2, dest), of)
    assert (seen.server.ip, seen.server.port, seen.server.weight) == (ip("fd00::2"), 8080, 7)
    assert seen.counters == counters((1, 2, 3, 4, 5))
    assert seen.rates == rates((6, 7, 8, 9, 10))


def test_what_the_kernel_holds_without_using_it_is_not_seen() -> None:
    plain = VirtualServer(protocol="TCP", ip=ip("10.0.0.1"), port=80)
    service = wire.attributes(ipvs.request(30, "add", plain).body, 4)[1]
    service += wire.attribute(7, b"\x02\0\0\0\xff\xff\xff\xff")  # HASHED, every kernel's own
    service += wire.u32(8, 300) + wire.attribute(9, bytes(4))  # persistence that is not on
    seen = ipvs_seen.parse_virtual_server(bytes(4) + wire.nested(1, service))
    assert seen.server == plain
    real = RealServer(protocol="TCP", vip=plain.ip, vport=80, ip=ip("10.1.0.1"), port=80)
    dest = wire.attributes(ipvs.request(30, "add", real).body, 4)[2]
    dest += wire.u8(13, 1) + wire.attribute(14, b"\x12\x34") + wire.u16(15, 1)
    assert ipvs_seen.parse_real_server(bytes(4) + wire.nested(2, dest), plain).server == real


@given(st.builds(Timeouts, tcp=U32, tcp_fin=U32, udp=U32))
def test_timeouts_come_back(timeouts: Timeouts) -> None:
    assert ipvs_seen.parse_timeouts(ipvs.set_timeouts(30, timeouts).body) == timeouts


def test_the_version_is_read() -> None:
    body = bytes(4) + wire.u32(1, 0x010201) + wire.u32(2, 4096)
    assert ipvs_seen.parse_info(body) == Info(version=(1, 2, 1), connection_table_size=4096)


@given(virtual_servers())
def test_questions_name_the_same_virtual_server(server: VirtualServer) -> None:
    for question in (ipvs.dump_real_servers(30, server), ipvs.zero(30, server)):
        body = b"\x03" + question.body[1:]  # as if it were a removal
        assert ipvs_seen.parse_request(body)[1].key == server.key


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Persistence(timeout=1, mask=ip("ffff::1")), "no prefix"),
        (lambda: Persistence(timeout=1, mask=ip("::")), "no prefix"),
        (lambda: Tunnel(type="gue"), "needs a port"),
        (lambda: Tunnel(type="gre", port=1), "no port"),
        (lambda: Tunnel(type="gre", checksum="remote"), "no remote checksum"),
        (lambda: by_mark(0), "mark 0"),
        (lambda: VirtualServer(protocol="UDP", ip=ip("::"), port=0, fwmark=1), "no address"),
        (
            lambda: by_mark(1, persistence=Persistence(timeout=1, mask=ip("ffff::"))),
            "not of the family",
        ),
        (lambda: real(forwarding="route", tunnel=Tunnel(type="gre")), "no tunnel"),
        (lambda: real(ip=ip("fd00::1")), "only a tunnel"),
        (lambda: real(upper=1, lower=2), "lower threshold 2"),
        (lambda: real(fwmark=1), "no address"),
    ],
)
def test_what_no_kernel_can_hold_is_no_value(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def real(**more: Any) -> RealServer:
    given: dict[str, Any] = {
        "protocol": "TCP", "vip": ip("10.0.0.1"), "vport": 80, "ip": ip("10.1.0.1"), "port": 80,
    }  # fmt: skip
    return RealServer(**(given | more))


def test_a_mask_of_all_bits_is_none() -> None:
    for text in ("255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"):
        assert Persistence(timeout=3, mask=ip(text)) == Persistence(timeout=3)


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A request with some bytes changed, or its end cut off."""
    server = draw(servers)
    body = bytearray(ipvs.request(30, draw(st.sampled_from(("add", "remove"))), server).body)
    for _ in range(draw(st.integers(0, 3))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.integers(0, len(body)))])


@given(spoiled())
def test_spoiled_messages_give_values_or_wire_error(data: bytes) -> None:
    of = VirtualServer(protocol="TCP", ip=ip("10.0.0.1"), port=80)
    for read in (
        lambda: ipvs_seen.parse_virtual_server(data),
        lambda: ipvs_seen.parse_real_server(data, of),
        lambda: ipvs_seen.parse_request(data),
        lambda: generic.parse_family(data),
    ):
        with suppress(wire.WireError):
            read()


def witness(request: wire.Request) -> Any:
    """The request as pyroute2 reads it."""
    message = ipvsmsg(wire.frame(request, 1))
    message.decode()
    return message


@pytest.mark.parametrize("address", ["10.96.0.1", "fd00::1"])
def test_pyroute2_reads_our_virtual_server(address: str) -> None:
    server = VirtualServer(protocol="UDP", ip=ip(address), port=53, scheduler="wlc")
    message = witness(ipvs.request(30, "add", server))
    assert (message["cmd"], message["version"]) == (1, 1)
    service = message.get_attr("IPVS_CMD_ATTR_SERVICE")
    assert service.get_attr("IPVS_SVC_ATTR_ADDR") == address
    assert service.get_attr("IPVS_SVC_ATTR_PROTOCOL") == 17
    assert service.get_attr("IPVS_SVC_ATTR_PORT") == 53
    assert service.get_attr("IPVS_SVC_ATTR_SCHED_NAME") == "wlc"
    assert service.get_attr("IPVS_SVC_ATTR_TIMEOUT") == 0
    if server.ip.version == 4:  # pyroute2 reads the IPv6 one, a number of bits, as an address
        assert service.get_attr("IPVS_SVC_ATTR_NETMASK") == "255.255.255.255"
    assert service.get_attr("IPVS_SVC_ATTR_FLAGS")["mask"] == 0xFFFFFFFF


@pytest.mark.parametrize("verb", ["add", "set", "remove"])
def test_pyroute2_reads_our_real_server(verb: Verb) -> None:
    server = RealServer(
        protocol="TCP",
        vip=ip("10.96.0.1"),
        vport=80,
        ip=ip("10.244.0.2"),
        port=8080,
        weight=300,
        forwarding="tunnel",
    )
    message = witness(ipvs.request(30, verb, server))
    assert message["cmd"] == {"add": 5, "set": 6, "remove": 7}[verb]
    service = message.get_attr("IPVS_CMD_ATTR_SERVICE")
    assert service.get_attr("IPVS_SVC_ATTR_ADDR") == "10.96.0.1"
    dest = message.get_attr("IPVS_CMD_ATTR_DEST")
    assert dest.get_attr("IPVS_DEST_ATTR_ADDR_FAMILY") == 2
    assert dest.get_attr("IPVS_DEST_ATTR_PORT") == 8080
    full = verb != "remove"
    assert dest.get_attr("IPVS_DEST_ATTR_WEIGHT") == (300 if full else None)
    assert dest.get_attr("IPVS_DEST_ATTR_FWD_METHOD") == (2 if full else None)
