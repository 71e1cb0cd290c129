"""The packets' file, read back by a reader of its own, and by tshark where it is installed."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from hairpin.present.pcapng import pcapng, said_length
from hairpin.trace.observation import Observation
from hairpin.trace.reason import reason
from hairpin.trace.values import Trace
from tests.trace.test_reason import recorded

COMMENT, NAME, DESCRIPTION, RESOLUTION, FLAGS = 1, 2, 3, 9, 2
SECTION, INTERFACE, PACKET = 0x0A0D0D0A, 1, 6


class Block(NamedTuple):
    kind: int
    fixed: bytes
    options: dict[int, bytes]


class Read(NamedTuple):
    """A packet as any reader sees it: its interface's name, nanoseconds, direction, comment."""

    link: str
    when: int
    flags: int
    comment: str
    length: int
    data: bytes


def blocks(file: bytes) -> Iterator[Block]:
    """By the words of draft-ietf-opsawg-pcapng, section 3."""
    at = 0
    while at < len(file):
        kind, size = struct.unpack_from("<II", file, at)
        assert size % 4 == 0
        assert struct.unpack_from("<I", file, at + size - 4)[0] == size
        body = file[at + 8 : at + size - 4]
        fixed = {SECTION: 16, INTERFACE: 8, PACKET: 20}[kind]
        if kind == PACKET:
            taken = struct.unpack_from("<I", body, 12)[0]
            fixed += taken + -taken % 4
        yield Block(kind, body[:fixed], _options(body[fixed:]))
        at += size
    assert at == len(file)


def _options(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while True:
        code, size = struct.unpack_from("<HH", data, at)
        if code == 0:
            assert (size, at + 4) == (0, len(data))
            return found
        found[code] = data[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4


def packets(file: bytes) -> list[Read]:
    """And that all that goes before packets is right."""
    some = list(blocks(file))
    assert some[0].kind == SECTION
    assert struct.unpack("<IHHq", some[0].fixed) == (0x1A2B3C4D, 1, 0, -1)
    links = [one for one in some if one.kind == INTERFACE]
    for one in links:
        assert struct.unpack("<HHI", one.fixed)[0] == 1  # Ethernet
        assert one.options[RESOLUTION] == b"\x09"
        assert b" of " in one.options[DESCRIPTION]
    found = []
    for one in some[1 + len(links) :]:
        assert one.kind == PACKET
        link, high, low, taken, length = struct.unpack_from("<IIIII", one.fixed)
        found.append(
            Read(
                link=links[link].options[NAME].decode(),
                when=high << 32 | low,
                flags=struct.unpack("<I", one.options[FLAGS])[0],
                comment=one.options.get(COMMENT, b"").decode(),
                length=length,
                data=one.fixed[20 : 20 + taken],
            )
        )
    return found


@pytest.fixture(params=["answered", "hairpin-off"])
def file(request: pytest.FixtureRequest) -> tuple[Observation, Trace, bytes]:
    found, snapshot = recorded(request.param)
    trace = reason(found, snapshot, "client", "svc/x")
    return found, trace, pcapng(found, trace)


def test_links_directions_and_times(file: tuple[Observation, Trace, bytes]) -> None:
    found, _, data = file
    some = packets(data)
    assert [one.when for one in some] == sorted(one.when for one in some)
    seen = {(f"{one.netns}/{one.link}", {"in": 1, "out": 2}[one.way], one.data)
            for one in found.sightings}  # fmt: skip
    assert {(one.link, one.flags, one.data) for one in some} <= seen
    assert all(
        one.length == said_length(one.data) for one in some if one.data[12:14] == b"\x08\x00"
    )


def test_rewritten_ones_have_a_comment_and_so_has_the_last(
    file: tuple[Observation, Trace, bytes],
) -> None:
    _, trace, data = file
    told = [one for one in packets(data) if one.comment]
    assert any("IPVS sends it to " in one.comment for one in told)
    ended = [one for one in told if "; because " in one.comment]
    assert len(ended) == (0 if trace.cause is None else 1)


def test_what_was_cut_off_has_its_whole_length() -> None:
    found, snapshot = recorded("answered")
    index, large = max(enumerate(found.sightings), key=lambda one: len(one[1].data))
    cut = msgspec.structs.replace(large, data=large.data[:60])
    some = (*found.sightings[:index], cut, *found.sightings[index + 1 :])
    found = msgspec.structs.replace(found, sightings=some)
    lengths = [one.length for one in packets(pcapng(found, reason(found, snapshot)))]
    assert len(large.data) in lengths
    assert said_length(b"") == said_length(bytes(14)) == 0


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_tshark_reads_the_same(file: tuple[Observation, Trace, bytes], tmp_path: Path) -> None:
    path = tmp_path / "it.pcapng"
    path.write_bytes(file[2])
    fields = ("interface_name", "packet_flags_direction", "comment", "len")
    words = [word for one in fields for word in ("-e", f"frame.{one}")]
    read = ["tshark", "-r", str(path), "-T", "fields", "-E", "separator=/t", *words]
    out = subprocess.run(read, capture_output=True, text=True, check=True).stdout
    ours = [f"{one.link}\t0x{one.flags:08x}\t{one.comment}\t{one.length}"
            for one in packets(file[2])]  # fmt: skip
    assert out.splitlines() == ours
    expert = ["tshark", "-r", str(path), "-q", "-z", "expert,error"]
    said = subprocess.run(expert, capture_output=True, text=True, check=True).stdout
    assert "Malformed" not in said and "exceeds" not in said, said
