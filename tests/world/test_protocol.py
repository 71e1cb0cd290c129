"""Frames survive however the stream was cut."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.world.protocol import MAX_PAYLOAD, FrameReader, ProtocolError, frame

Frames = list[tuple[int, bytes]]


@given(
    frames=st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=200))),
    cuts=st.lists(st.integers(1, 50), min_size=1),
)
def test_frames_survive_any_cut(frames: Frames, cuts: list[int]) -> None:
    data = b"".join(frame(kind, payload) for kind, payload in frames)
    reader, got, turn = FrameReader(), [], 0
    while data:
        size = cuts[turn % len(cuts)]
        got += list(reader.feed(data[:size]))
        data, turn = data[size:], turn + 1
    assert got == frames


def test_the_bytes_on_the_wire() -> None:
    assert frame(5) == b"\x05\x00\x00\x00\x00"
    assert frame(6, b"hi") == b"\x06\x00\x00\x00\x02hi"


def test_a_frame_beyond_the_limit_is_refused() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        list(FrameReader().feed(struct.pack(">BI", 1, MAX_PAYLOAD + 1)))


def test_a_reader_left_early_keeps_the_rest() -> None:
    reader = FrameReader()
    first = next(iter(reader.feed(frame(1, b"a") + frame(2, b"b"))))
    assert first == (1, b"a")
    assert list(reader.feed(b"")) == [(2, b"b")]
