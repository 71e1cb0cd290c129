"""Frames are read, known again after NAT, and nothing that comes by makes reading fail."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.trace.packet import Arp, Packet, read
from hairpin.trace.values import Ends

MAC = bytes.fromhex("0a580a0a0001") + bytes.fromhex("0a580a0a0002")
ADDRESSES = st.ip_addresses(v=4)
PORTS = st.integers(1, 65535)
ONE, OTHER = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")


def ipv4(
    source: IPv4Address, to: IPv4Address, protocol: int, body: bytes, *, id_: int = 7
) -> bytes:
    """A frame with an IPv4 packet."""
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), id_, 0, 64, protocol, 0)
    return MAC + b"\x08\x00" + head + source.packed + to.packed + body


def tcp(sport: int, dport: int, sequence: int = 5, flags: int = 2, payload: bytes = b"") -> bytes:
    """A TCP segment; the checksum, which NAT changes, is of its ports here."""
    return struct.pack(
        "!HHIIBBHHH", sport, dport, sequence, 0, 5 << 4, flags, 1000, (sport ^ dport) & 0xFFFF, 0
    ) + payload  # fmt: skip


@given(ADDRESSES, ADDRESSES, PORTS, PORTS, st.integers(0, 2**32 - 1), st.binary(max_size=50))
def test_what_nat_changes_is_no_part_of_the_key(
    source: IPv4Address, to: IPv4Address, sport: int, dport: int, sequence: int, payload: bytes
) -> None:
    before = read(ipv4(ONE, OTHER, 6, tcp(1, 2, sequence, 0x18, payload)))
    after = read(ipv4(source, to, 6, tcp(sport, dport, sequence, 0x18, payload)))
    assert isinstance(before, Packet) and isinstance(after, Packet)
    assert before.key == after.key
    assert after.ends == Ends(source, sport, to, dport)
    assert after.payload == len(payload)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_other_segments_have_other_keys(one: int, other: int) -> None:
    first, second = (read(ipv4(ONE, OTHER, 6, tcp(1, 2, seq))) for seq in (one, other))
    assert isinstance(first, Packet) and isinstance(second, Packet)
    assert (first.key == second.key) == (one == other)


@given(st.binary(max_size=200))
def test_anything_can_come_by(data: bytes) -> None:
    for frame in (
        data,
        MAC + b"\x08\x00" + data,
        MAC + b"\x86\xdd" + data,
        MAC + b"\x08\x06" + data,
    ):
        read(frame)


def test_arp() -> None:
    body = struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + MAC[6:] + ONE.packed + bytes(6) + OTHER.packed
    found = read(MAC + b"\x08\x06" + body)
    assert found == Arp(asks=True, sender=ONE, mac="0a:58:0a:0a:00:02", target=OTHER)


def test_an_icmp_error_tells_what_it_is_about() -> None:
    lost = ipv4(OTHER, ONE, 6, tcp(4000, 80))[14:]
    found = read(ipv4(ONE, OTHER, 1, struct.pack("!BBHI", 3, 3, 0, 0) + lost))
    assert isinstance(found, Packet)
    assert found.error == "port unreachable"
    assert found.inner == Ends(OTHER, 4000, ONE, 80)


def test_two_errors_about_one_packet_are_two_packets() -> None:
    about = ipv4(ONE, OTHER, 6, tcp(1, 80))[14:]
    first, again, second = (
        read(ipv4(OTHER, ONE, 1, b"\x03\x03" + bytes(6) + about, id_=id_)) for id_ in (1, 1, 2)
    )
    assert isinstance(first, Packet) and isinstance(again, Packet) and isinstance(second, Packet)
    assert first.key == again.key != second.key


def test_too_big_says_how_big_it_may_be() -> None:
    lost = ipv4(OTHER, ONE, 6, tcp(4000, 80))[14:]
    found = read(ipv4(ONE, OTHER, 1, struct.pack("!BBHHH", 3, 4, 0, 0, 1400) + lost))
    assert isinstance(found, Packet)
    assert (found.error, found.mtu) == ("fragmentation needed", 1400)


@pytest.mark.parametrize("port", [8472, 4789])
def test_vxlan_is_looked_into(port: int) -> None:
    inside = ipv4(IPv4Address("10.244.0.2"), IPv4Address("10.244.1.2"), 6, tcp(1, 2))
    body = bytes(8) + inside
    outer = struct.pack("!HHHH", 555, port, 8 + len(body), 0) + body
    found = read(ipv4(ONE, OTHER, 17, outer))
    assert isinstance(found, Packet)
    assert str(found.ends) == "10.244.0.2:1 → 10.244.1.2:2"
    assert found.tunnel == Ends(ONE, 555, OTHER, port)


def test_ipv6() -> None:
    one, other = IPv6Address("fd00::1"), IPv6Address("fd00::2")
    segment = tcp(1, 2)
    head = struct.pack("!IHBB", 6 << 28, len(segment), 6, 64) + one.packed + other.packed
    found = read(MAC + b"\x86\xdd" + head + segment)
    assert isinstance(found, Packet)
    assert str(found.ends) == "[fd00::1]:1 → [fd00::2]:2"
    assert found.says == "TCP SYN"
