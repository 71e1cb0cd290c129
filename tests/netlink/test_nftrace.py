"""Trace events come back as they went out."""

from __future__ import annotations

from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from hairpin.netlink import nftrace
from hairpin.netlink.message import Frame
from hairpin.state.nftables import Verdict
from hairpin.state.nftrace import TraceEvent

NAMES = st.from_regex(r"[a-z][a-z0-9/._-]{0,60}", fullmatch=True)
NUMBERS = st.integers(0, 2**32 - 1)
POLICIES = st.sampled_from((Verdict("accept"), Verdict("drop")))
VERDICTS = POLICIES | st.just(Verdict("return")) | st.builds(Verdict, st.just("goto"), NAMES)


@st.composite
def events(draw: st.DrawFn) -> TraceEvent:
    kinds: tuple[Literal["rule", "return", "policy"], ...] = ("rule", "return", "policy")
    kind = draw(st.sampled_from(kinds))
    return TraceEvent(
        family=draw(st.sampled_from(("ip", "ip6", "inet"))),
        table=draw(NAMES),
        chain=draw(NAMES),
        kind=kind,
        packet=draw(NUMBERS),
        handle=draw(st.integers(1, 2**64 - 1)),
        verdict=draw(st.none() | (POLICIES if kind == "policy" else VERDICTS)),
        link=draw(st.binary(max_size=20)),
        network=draw(st.binary(max_size=60)),
        transport=draw(st.binary(max_size=20)),
        iif=draw(NUMBERS),
        oif=draw(NUMBERS),
        mark=draw(NUMBERS),
    )


@given(events())
def test_an_event_comes_back(event: TraceEvent) -> None:
    assert nftrace.parse(nftrace.render(event)) == event


def test_other_messages_are_no_events() -> None:
    assert nftrace.parse(Frame(2578, 0, 0, bytes(4))) is None
    assert nftrace.parse(Frame(0, 0, 0, b"")) is None
