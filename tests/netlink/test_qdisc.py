"""netem on the wire: what is put is what is read, as tc shows it (tests/lab/test_impair.py)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.netlink import message as wire
from hairpin.netlink.qdisc import Netem, parse_qdisc, put_netem, remove_netem


@given(
    index=st.integers(1, 2**31 - 1),
    delay=st.floats(0, 60),
    jitter=st.floats(0, 60),
    loss=st.floats(0, 1),
)
def test_what_is_put_is_read_back(index: int, delay: float, jitter: float, loss: float) -> None:
    request = put_netem(index, Netem(delay=delay, jitter=jitter, loss=loss))
    where, seen = parse_qdisc(request.body)
    assert where == index and seen is not None
    assert seen.delay == pytest.approx(delay, abs=1e-6)
    assert seen.jitter == pytest.approx(jitter, abs=1e-6)
    assert seen.loss == pytest.approx(loss, abs=1e-9)


def test_a_delay_in_ticks_of_64_ns() -> None:
    body = put_netem(7, Netem(delay=0.05, loss=0.01)).body
    options = wire.attributes(body, 20)[2]
    assert struct.unpack("=6I", options) == (781_250, 10_000, 42_949_673, 0, 0, 0)


def test_another_queue_is_no_netem() -> None:
    body = remove_netem(3).body + wire.text(1, "noqueue")
    assert parse_qdisc(body) == (3, None)
    with pytest.raises(wire.WireError):
        parse_qdisc(body[:10])
