"""Two ends of a link that loses, repeats and reorders: what goes in comes out."""

from __future__ import annotations

import random
from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from hairpin.world.arq import HEADER_SIZE, WINDOW, Arq

STEP = 0.01


class End:
    """An Arq with payloads to send and payloads received."""

    def __init__(self, payloads: list[bytes], dead_after: float = 60.0) -> None:
        self.arq = Arq(0.0, dead_after=dead_after)
        self.todo = deque(payloads)
        self.got: list[bytes] = []
        self.largest_flight = 0

    def supply(self) -> bytes:
        return self.todo.popleft() if self.todo else b""

    def transmit(self, now: float) -> list[bytes]:
        frames = self.arq.transmit(now, self.supply)
        self.largest_flight = max(self.largest_flight, self.arq.unacknowledged)
        return frames

    def receive(self, frame: bytes, now: float) -> None:
        self.got += [bytes(payload) for payload in self.arq.receive(frame, now)]


class Way:
    """One direction of a link with faults; frames arrive in a later step."""

    def __init__(self, chance: random.Random, loss: float, twice: float, late: float) -> None:
        self.chance, self.loss, self.twice, self.late = chance, loss, twice, late
        self.on_way: list[tuple[int, bytes]] = []

    def put(self, frame: bytes, step: int) -> None:
        for _ in range(1 + (self.chance.random() < self.twice)):
            if self.chance.random() >= self.loss:
                delay = self.chance.randint(2, 60) if self.chance.random() < self.late else 1
                self.on_way.append((step + delay, frame))

    def take(self, step: int) -> list[bytes]:
        ready = [frame for due, frame in self.on_way if due <= step]
        self.on_way = [(due, frame) for due, frame in self.on_way if due > step]
        return ready


def numbered(count: int, prefix: bytes) -> list[bytes]:
    return [prefix + str(number).encode() for number in range(count)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    counts=st.tuples(st.integers(0, 200), st.integers(0, 200)),
    loss=st.sampled_from([0.0, 0.02, 0.3]),
    twice=st.sampled_from([0.0, 0.3]),
    late=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_everything_arrives_once_and_in_order(
    seed: int, counts: tuple[int, int], loss: float, twice: float, late: float
) -> None:
    chance = random.Random(seed)
    sent = [numbered(counts[0], b"a"), numbered(counts[1], b"b")]
    ends = [End(sent[0]), End(sent[1])]
    ways = [Way(chance, loss, twice, late), Way(chance, loss, twice, late)]
    for step in range(40_000):
        now = step * STEP
        for here, there in ((0, 1), (1, 0)):
            for frame in ways[there].take(step):
                ends[here].receive(frame, now)
            for frame in ends[here].transmit(now):
                ways[here].put(frame, step)
        if [ends[1].got, ends[0].got] == sent and not any(e.arq.unacknowledged for e in ends):
            break
    assert ends[1].got == sent[0]
    assert ends[0].got == sent[1]
    assert max(end.largest_flight for end in ends) <= WINDOW


def test_a_loss_free_link_carries_each_payload_once() -> None:
    sender, receiver = End(numbered(500, b"x")), End([])
    carried = 0
    for step in range(200):
        now = step * 0.0001
        for frame in sender.transmit(now):
            carried += len(frame) > HEADER_SIZE
            receiver.receive(frame, now)
        for frame in receiver.transmit(now):
            sender.receive(frame, now)
    assert len(receiver.got) == 500
    assert carried == 500


def test_a_lost_payload_is_sent_again_although_the_peer_keeps_sending() -> None:
    """The peer's own payloads carry acknowledgements too: they must not hide the loss."""
    sender, peer = End([b"lost"]), End(numbered(100_000, b"y"))
    sender.transmit(0.0)
    for step in range(1, 100):
        now = step * STEP
        for frame in peer.transmit(now)[:4]:
            sender.receive(frame, now)
        for frame in sender.transmit(now):
            peer.receive(frame, now)
    assert peer.got == [b"lost"]


def test_a_frozen_peer_is_never_flooded() -> None:
    """An hour of silence: the window, then small questions only, ever more rarely."""
    sender = End(numbered(10_000, b"z" * 5000), dead_after=1e9)
    now, frames = 0.0, []
    while now < 60.0:
        frames += sender.transmit(now)
        now += STEP
    assert sum(len(frame) > HEADER_SIZE for frame in frames) == WINDOW
    assert len(frames) <= WINDOW + 20


def test_dead_is_who_left_questions_unanswered() -> None:
    asking = End([], dead_after=30.0)
    assert not asking.arq.dead(1000.0), "slept itself: must ask first"
    now = 0.0
    while not asking.arq.dead(now) and now < 100:
        asking.transmit(now)
        now += STEP
    assert 30.0 <= now < 31.0


def test_an_idle_link_stays_alive_on_few_frames() -> None:
    ends = [End([], dead_after=10.0), End([], dead_after=10.0)]
    frames = 0
    for step in range(6_000):
        now = step * STEP
        for here, there in ((0, 1), (1, 0)):
            assert not ends[here].arq.dead(now)
            for frame in ends[here].transmit(now):
                frames += 1
                ends[there].receive(frame, now)
    assert frames < 50


@given(st.binary(max_size=60))
def test_rubbish_is_ignored(frame: bytes) -> None:
    end = End([])
    end.receive(frame, 0.0)
    end.transmit(0.0)
