"""SCTP without the kernel's sockets: the packets, byte by byte; on the wire the claims try it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.lab import sctp

PORTS = st.integers(0, 0xFFFF)
TAGS = st.integers(1, 0xFFFFFFFF)


def test_the_checksum_is_crc32c() -> None:
    assert sctp.crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C (Castagnoli)


def _checksum_fits(packet: bytes) -> bool:
    (said,) = struct.unpack_from("<I", packet, 8)
    return bool(sctp.crc32c(packet[:8] + bytes(4) + packet[12:]) == said)


@given(PORTS, PORTS, TAGS)
def test_an_init(source: int, destination: int, tag: int) -> None:
    packet = sctp.init(source, destination, tag)
    read = sctp.Read(packet)
    assert (read.source, read.destination, read.to, read.tag) == (source, destination, 0, tag)
    assert read.kind == sctp.INIT
    assert len(packet) == 12 + 20  # the header, and a chunk without parameters
    assert _checksum_fits(packet)


@given(PORTS, PORTS, TAGS, TAGS, st.binary(max_size=300))
def test_an_answer(source: int, destination: int, peer: int, tag: int, cookie: bytes) -> None:
    packet = sctp.init_ack(source, destination, peer, tag, cookie)
    read = sctp.Read(packet)
    assert (read.kind, read.to, read.tag) == (sctp.INIT_ACK, peer, tag)
    assert read.cookie == cookie
    assert len(packet) % 4 == 0
    assert _checksum_fits(packet)


@given(st.binary(max_size=80))
def test_whatever_comes_is_read_or_refused(packet: bytes) -> None:
    try:
        sctp.Read(packet)
    except ValueError:
        return


@pytest.mark.parametrize("words", [5, 6, 15])
def test_the_ip_header_goes(words: int) -> None:
    header = bytes([0x40 | words]) + bytes(words * 4 - 1)
    assert sctp.without_ip(header + b"sctp") == b"sctp"
    assert sctp.without_ip(b"") == b""
