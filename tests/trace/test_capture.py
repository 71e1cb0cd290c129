"""The filter of captures keeps what a connection needs; run here by the rules of bpf(4)."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest

from hairpin.kernel.capture import program
from tests.trace.test_packet import MAC, ONE, OTHER, ipv4, tcp

UDP = struct.pack("!HHHH", 53, 40000, 8, 0)
VXLAN = struct.pack("!HHHH", 40000, 8472, 8, 0)
ARP = MAC + b"\x08\x06" + bytes(28)


def keeps(code: bytes, frame: bytes) -> bool:
    """Runs classic BPF."""
    accumulator = index = at = 0
    for _ in range(1000):
        operation, yes, no, value = struct.unpack_from("=HBBI", code, at * 8)
        at += 1
        match operation:
            case 0x28:
                accumulator = int.from_bytes(frame[value : value + 2], "big")
            case 0x30:
                accumulator = frame[value]
            case 0x48:
                accumulator = int.from_bytes(frame[value + index : value + index + 2], "big")
            case 0xB1:
                index = (frame[value] & 15) * 4
            case 0x15:
                at += yes if accumulator == value else no
            case 0x06:
                return bool(value)
            case _:
                pytest.fail(f"operation {operation:#x}")
    pytest.fail("it does not end")


@pytest.mark.parametrize(
    ("frame", "kept"),
    [
        (ipv4(ONE, OTHER, 6, tcp(1, 80)), True),
        (ipv4(ONE, OTHER, 17, UDP), False),
        (ipv4(ONE, OTHER, 17, VXLAN), True),
        (ipv4(ONE, OTHER, 1, bytes(8)), True),
        (ipv4(ONE, IPv4Address("10.9.9.9"), 47, bytes(8)), False),
        (ARP, True),
        (MAC + b"\x88\xcc" + bytes(40), False),
    ],
)
def test_tcp_alone(frame: bytes, kept: bool) -> None:
    assert keeps(program(6), frame) is kept


@pytest.mark.parametrize(("ports", "kept"), [((80,), True), ((81, 82), False), ((1,), True)])
def test_by_ports(ports: tuple[int, ...], kept: bool) -> None:
    assert keeps(program(6, ports), ipv4(ONE, OTHER, 6, tcp(1, 80))) is kept
    six = struct.pack("!IHBB", 6 << 28, 20, 6, 64) + bytes(32) + tcp(1, 80)
    assert keeps(program(6, ports), MAC + b"\x86\xdd" + six) is kept


def test_many_ports_are_any() -> None:
    assert keeps(program(6, range(1000, 1100)), ipv4(ONE, OTHER, 6, tcp(1, 80)))
