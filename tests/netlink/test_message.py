"""Messages, attributes and verdicts come back as they went out."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.netlink import message as wire
from hairpin.netlink.conntrack import flush
from hairpin.netlink.generic import get_family, parse_family
from hairpin.netlink.message import Ack, Frame, Request

KINDS = st.integers(1, 0x3FFF)
requests = st.builds(
    Request, st.integers(16, 0xFFFF), st.sampled_from((0, wire.NLM_F_DUMP)), st.binary(max_size=70)
)


@given(st.lists(requests))
def test_frames_of_a_batch_come_back(sent: list[Request]) -> None:
    data = b"".join(wire.frame(request, number) for number, request in enumerate(sent))
    got = list(wire.frames(data, len(data)))
    assert [frame.sequence for frame in got] == list(range(len(sent)))
    assert [(frame.kind, frame.body) for frame in got] == [(one.kind, one.body) for one in sent]
    assert all(frame.flags & wire.NLM_F_REQUEST for frame in got)


@given(st.lists(requests), st.integers(1, 2**31))
def test_a_batch_is_its_frames_and_the_last_wants_an_ack(sent: list[Request], first: int) -> None:
    singly = [wire.frame(request, number) for number, request in enumerate(sent, first)]
    if sent:
        singly[-1] = wire.frame(sent[-1], first + len(sent) - 1, wire.NLM_F_ACK)
    assert wire.batch(sent, first) == b"".join(singly)


@given(st.dictionaries(KINDS, st.binary(max_size=40)))
def test_attributes_come_back(values: dict[int, bytes]) -> None:
    data = b"head" + b"".join(wire.attribute(kind, value) for kind, value in values.items())
    assert len(data) % 4 == 0
    assert wire.attributes(data, 4) == values


@given(KINDS, st.dictionaries(KINDS, st.binary(max_size=40)))
def test_nested_attributes_come_back(kind: int, values: dict[int, bytes]) -> None:
    data = wire.nested(kind, *(wire.attribute(*item) for item in values.items()))
    assert wire.attributes(wire.attributes(data)[kind]) == values


@given(st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF))
def test_numbers_come_back(one: int, two: int, four: int) -> None:
    data = wire.u8(1, one) + wire.u16(2, two) + wire.u32(3, four)
    found = wire.attributes(data)
    assert {kind: len(value) for kind, value in found.items()} == {1: 1, 2: 2, 3: 4}
    assert [wire.number(found[kind]) for kind in (1, 2, 3)] == [one, two, four]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_strings_come_back(value: str) -> None:
    assert wire.string(wire.attributes(wire.text(1, value))[1]) == value


@given(
    st.builds(
        Ack,
        st.integers(0, 0xFFFFFFFF),
        st.integers(0, 133),
        st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    )
)
def test_verdicts_come_back(ack: Ack) -> None:
    assert wire.parse_ack(wire.render_ack(ack)) == ack


@given(st.integers(0, 2**32 - 1), st.sampled_from((0, 1, 22)), st.sampled_from(("", "why")))
def test_consent_is_one_verdict_without_an_error_on_that_request(
    number: int, code: int, text: str
) -> None:
    frame = wire.render_ack(Ack(number, code, text))
    data = wire.frame(Request(frame.kind, frame.flags, frame.body), number)
    assert wire.is_consent(data, len(data), number) == (not code)
    assert not wire.is_consent(data, len(data), number ^ 1)
    assert not wire.is_consent(data + data, 2 * len(data), number), "there is more to read"
    assert not any(wire.is_consent(data, size, number) for size in range(len(data)))
    other = wire.frame(Request(16, frame.flags, frame.body), number)
    assert not wire.is_consent(other, len(other), number)


def test_a_verdict_that_quotes_the_whole_request_is_read_past_it() -> None:
    # Without NETLINK_CAP_ACK the request stands between the code and the explanation.
    quoted = wire.frame(Request(16, 0, b"abcde"), 7)
    body = (-22).to_bytes(4, "little", signed=True) + quoted + wire.text(1, "Invalid thing")
    frame = Frame(wire.NLMSG_ERROR, 0x200, 7, body)
    assert wire.parse_ack(frame) == Ack(7, 22, "Invalid thing")


def test_the_end_of_a_dump_may_carry_an_error_or_nothing() -> None:
    error = (-4).to_bytes(4, "little", signed=True)
    assert wire.parse_ack(Frame(wire.NLMSG_DONE, 2, 9, error)) == Ack(9, 4)
    assert wire.parse_ack(Frame(wire.NLMSG_DONE, 2, 9, b"")) == Ack(9, 0)


@given(st.binary(max_size=200))
def test_garbage_gives_values_or_wire_error(data: bytes) -> None:
    for read in (
        lambda: list(wire.frames(data, len(data))),
        lambda: wire.attributes(data),
        lambda: wire.parse_ack(Frame(wire.NLMSG_ERROR, 0x200, 1, data)),
    ):
        with suppress(wire.WireError):
            read()


@pytest.mark.parametrize("length", [0, 3, 9])
def test_an_attribute_that_lies_about_its_length_is_refused(length: int) -> None:
    data = length.to_bytes(2, "little") + b"\1\0" + b"abcd"
    with pytest.raises(wire.WireError, match=f"attribute of {length} bytes"):
        wire.attributes(data)


def test_family_names_come_back() -> None:
    assert parse_family(get_family("IPVS").body) == ("IPVS", None)


def test_flushing_conntrack_is_a_delete_that_names_nothing() -> None:
    assert flush() == Request(0x0102, 0, bytes(4))
