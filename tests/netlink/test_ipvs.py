"""IPVS requests come back as they went out; pyroute2 reads the same in them."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.generic.ipvs import ipvsmsg

from hairpin.model.address import IP, ip
from hairpin.netlink import generic, ipvs
from hairpin.netlink import message as wire
from hairpin.state.ipvs import (
    SCHEDULERS,
    Counters,
    Forwarding,
    Protocol,
    RealServer,
    RealServerSeen,
    VirtualServer,
    VirtualServerSeen,
)

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
PORTS = st.integers(0, 65535)
PROTOCOLS: st.SearchStrategy[Protocol] = st.sampled_from(("TCP", "UDP", "SCTP"))
FORWARDING: st.SearchStrategy[Forwarding] = st.sampled_from(
    ("masquerade", "tunnel", "route", "local", "bypass")
)
IPS: st.SearchStrategy[IP] = st.one_of(
    st.builds(IPv4Address, U32), st.builds(IPv6Address, st.integers(0, 2**128 - 1))
)
virtual_servers = st.builds(
    VirtualServer,
    protocol=PROTOCOLS,
    ip=IPS,
    port=PORTS,
    scheduler=st.sampled_from(SCHEDULERS),
)
real_servers = st.builds(
    RealServer,
    protocol=PROTOCOLS,
    vip=IPS,
    vport=PORTS,
    ip=IPS,
    port=PORTS,
    weight=st.integers(0, 2**31 - 1),
    forwarding=FORWARDING,
)
counters = st.builds(
    Counters,
    connections=U64,
    packets_in=U64,
    packets_out=U64,
    bytes_in=U64,
    bytes_out=U64,
)


@given(st.sampled_from(("add", "set")), virtual_servers | real_servers)
def test_additions_and_changes_come_back(
    verb: ipvs.Verb, server: VirtualServer | RealServer
) -> None:
    assert ipvs.parse_request(ipvs.request(30, verb, server).body) == (verb, server)


@given(virtual_servers | real_servers)
def test_a_removal_names_the_same_server(server: VirtualServer | RealServer) -> None:
    verb, got = ipvs.parse_request(ipvs.request(30, "remove", server).body)
    assert (verb, got.key) == ("remove", server.key)


def stats(values: Counters, wide: bool) -> bytes:
    """Counters as the kernel sends them: ip_vs_genl_fill_stats and its 64-bit twin."""
    sizes = (8, 8, 8, 8, 8) if wide else (4, 4, 4, 8, 8)
    numbers = (
        values.connections,
        values.packets_in,
        values.packets_out,
        values.bytes_in,
        values.bytes_out,
    )
    return b"".join(
        wire.attribute(kind, (number % (1 << size * 8)).to_bytes(size, "little"))
        for kind, (number, size) in enumerate(zip(numbers, sizes, strict=True), 1)
    )


@given(virtual_servers, counters)
def test_a_virtual_server_is_read_with_its_wide_counters(
    server: VirtualServer, values: Counters
) -> None:
    body = ipvs.request(30, "add", server).body
    service = wire.attributes(body, 4)[1]
    service += wire.nested(10, stats(values, wide=False)) + wire.nested(
        12, stats(values, wide=True)
    )
    dumped = body[:4] + wire.nested(1, service)
    assert ipvs.parse_virtual_server(dumped) == VirtualServerSeen(server=server, counters=values)


@given(real_servers, counters, U32, U32, st.integers(0, 2**29 - 1))
def test_a_real_server_is_read_with_connections_and_counters(
    server: RealServer, values: Counters, active: int, inactive: int, other_bits: int
) -> None:
    of = VirtualServer(protocol=server.protocol, ip=server.vip, port=server.vport)
    body = ipvs.request(30, "add", server).body
    method = wire.number(wire.attributes(wire.attributes(body, 4)[2])[3])
    dest = wire.attributes(body, 4)[2]
    dest += wire.u32(7, active) + wire.u32(8, inactive)
    dest += wire.u32(3, other_bits << 3 | method)  # a connection's flags share the word
    dest += wire.nested(12, stats(values, wide=True))
    seen = ipvs.parse_real_server(body[:4] + wire.nested(2, dest), of)
    assert seen == RealServerSeen(server=server, counters=values, active=active, inactive=inactive)


def test_an_old_kernels_counters_and_families_are_read() -> None:
    of = VirtualServer(protocol="TCP", ip=ip("fd00::1"), port=80)
    values = Counters(connections=1, packets_in=2, packets_out=3, bytes_in=4, bytes_out=5)
    dest = wire.attribute(1, ip("fd00::2").packed) + wire.attribute(2, b"\x1f\x90")
    dest += wire.u32(3, 0) + wire.u32(4, 7) + wire.nested(10, stats(values, wide=False))
    seen = ipvs.parse_real_server(bytes(4) + wire.nested(2, dest), of)
    assert (seen.server.ip, seen.server.port, seen.server.weight) == (ip("fd00::2"), 8080, 7)
    assert seen.counters == values


def test_a_server_by_firewall_mark_is_left_out() -> None:
    service = wire.u16(1, 2) + wire.u32(5, 77) + wire.text(6, "rr")
    assert ipvs.parse_virtual_server(bytes(4) + wire.nested(1, service)) is None


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A request with some bytes changed, or its end cut off."""
    server = draw(virtual_servers | real_servers)
    body = bytearray(ipvs.request(30, draw(st.sampled_from(("add", "remove"))), server).body)
    for _ in range(draw(st.integers(0, 3))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body[: draw(st.integers(0, len(body)))])


@given(spoiled())
def test_spoiled_messages_give_values_or_wire_error(data: bytes) -> None:
    of = VirtualServer(protocol="TCP", ip=ip("10.0.0.1"), port=80)
    for read in (
        lambda: ipvs.parse_virtual_server(data),
        lambda: ipvs.parse_real_server(data, of),
        lambda: ipvs.parse_request(data),
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
def test_pyroute2_reads_our_real_server(verb: ipvs.Verb) -> None:
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
