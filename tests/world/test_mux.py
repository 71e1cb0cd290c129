"""Streams over one channel: nothing lost, nothing mixed, one that stalls stalls alone."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hairpin.world.mux import CREDIT, Mux, Stream

LIMIT = 1000


class Pair:
    """Two ends, the second echoing what happens on the streams that the first opens."""

    def __init__(self) -> None:
        self.near = Mux(LIMIT)
        self.far = Mux(LIMIT, self.opened)
        self.far_streams: list[Stream] = []
        self.log: dict[int, bytearray] = {}
        self.ended: list[int] = []
        self.reset: list[int] = []
        self.consume = True

    def opened(self, stream: Stream) -> None:
        self.far_streams.append(stream)
        self.log[stream.number] = bytearray()
        stream.on_data = lambda data: self.got(stream, data)
        stream.on_end = lambda: self.ended.append(stream.number)
        stream.on_reset = lambda: self.reset.append(stream.number)

    def got(self, stream: Stream, data: bytes | memoryview) -> None:
        self.log[stream.number] += data
        if self.consume:
            stream.consumed(len(data))

    def settle(self) -> None:
        for _ in range(10_000):
            there, back = self.near.supply(), self.far.supply()
            assert len(there) <= LIMIT
            assert len(back) <= LIMIT
            if not there and not back:
                return
            self.far.receive(there)
            self.near.receive(back)
        raise AssertionError("does not settle")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.binary(max_size=3000)), max_size=40))
def test_each_stream_gets_its_own_bytes(writes: list[tuple[int, bytes]]) -> None:
    pair = Pair()
    streams = [pair.near.open() for _ in range(5)]
    wanted = {stream.number: bytearray() for stream in streams}
    for which, data in writes:
        streams[which].write(data)
        wanted[streams[which].number] += data
    for stream in streams:
        stream.end()
    pair.settle()
    assert pair.log == wanted
    assert sorted(pair.ended) == sorted(wanted)


def test_both_ends_close_and_forget() -> None:
    pair = Pair()
    stream = pair.near.open()
    stream.end()
    pair.settle()
    pair.far_streams[0].write(b"answer")
    pair.far_streams[0].end()
    seen: list[Any] = []
    stream.on_data = lambda data: seen.append(bytes(data))
    stream.on_end = lambda: seen.append("end")
    pair.settle()
    assert seen == [b"answer", "end"]
    assert pair.near.streams == pair.far.streams == []


def test_a_stalled_reader_stalls_only_its_stream() -> None:
    pair = Pair()
    pair.consume = False
    slow, fast = pair.near.open(), pair.near.open()
    slow.write(bytes(3 * CREDIT))
    pair.settle()
    assert len(pair.log[slow.number]) == CREDIT
    assert slow.pending == 2 * CREDIT
    fast.write(b"hello")
    pair.settle()
    assert pair.log[fast.number] == b"hello"
    for _ in range(2):
        pair.far_streams[0].consumed(CREDIT)
        pair.settle()
    assert len(pair.log[slow.number]) == 3 * CREDIT


def test_streams_take_turns() -> None:
    pair = Pair()
    big, small = pair.near.open(), pair.near.open()
    big.write(bytes(100_000))
    small.write(b"first come, not last served")
    for _ in range(3):
        pair.far.receive(pair.near.supply())
    assert pair.log[small.number] == b"first come, not last served"
    assert len(pair.log[big.number]) < 5_000


def test_reset_drops_what_is_pending_and_tells_the_peer() -> None:
    pair = Pair()
    stream = pair.near.open()
    stream.write(bytes(10 * LIMIT))
    pair.far.receive(pair.near.supply())
    stream.reset()
    pair.settle()
    assert pair.reset == [stream.number]
    assert len(pair.log[stream.number]) < 2 * LIMIT
    assert pair.near.streams == pair.far.streams == []
    pair.far_streams[0].write(b"too late")
    pair.settle()


def test_drain_is_told() -> None:
    pair = Pair()
    stream = pair.near.open()
    left: list[int] = []
    stream.on_drain = lambda: left.append(stream.pending)
    stream.write(bytes(3 * LIMIT))
    pair.settle()
    assert left[-1] == 0
    assert left == sorted(left, reverse=True)
