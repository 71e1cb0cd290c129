"""DNS messages: what is written can be read, and whatever arrives is read or refused."""

import struct
from ipaddress import IPv4Address

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.lab import dns_wire as wire
from hairpin.lab.dns_wire import Edns, Host, Message, Pointer, Question, Raw, Record, Soa, Srv

LABELS = st.binary(min_size=1, max_size=63)
NAMES = st.lists(LABELS, max_size=5).map(tuple).filter(lambda n: sum(map(len, n)) + len(n) < 255)
NUMBERS = st.integers(0, 65535)
DATA = st.one_of(
    st.builds(Host, st.ip_addresses()),
    st.builds(Pointer, st.sampled_from([wire.CNAME, wire.PTR, wire.NS]), NAMES),
    st.builds(Srv, NUMBERS, NUMBERS, NUMBERS, NAMES),
    st.builds(Soa, NAMES, NAMES, st.tuples(*[st.integers(0, 2**32 - 1)] * 5)),
    st.builds(Raw, st.sampled_from([wire.TXT, 15, 99, 65280]), st.binary(max_size=300)),
)
RECORDS = st.lists(st.builds(Record, NAMES, st.integers(0, 2**31), DATA), max_size=6).map(tuple)
OPTIONS = st.lists(st.tuples(NUMBERS, st.binary(max_size=30)), max_size=3).map(tuple)
EDNS = st.builds(Edns, NUMBERS, st.integers(0, 255), OPTIONS)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    edns = draw(st.none() | EDNS)
    flags = {
        name: draw(st.booleans())
        for name in (
            "response",
            "authoritative",
            "truncated",
            "recursion_desired",
            "recursion_available",
        )
    }
    return Message(
        id=draw(NUMBERS),
        question=draw(st.none() | st.builds(Question, NAMES, NUMBERS, NUMBERS)),
        opcode=draw(st.integers(0, 15)),
        code=draw(st.integers(0, 4095 if edns else 15)),
        answers=draw(RECORDS),
        authority=draw(RECORDS),
        additional=draw(RECORDS),
        edns=edns,
        **flags,
    )


@given(messages())
def test_what_is_written_is_read_again(message: Message) -> None:
    again = wire.parse(wire.render(message))
    assert wire.render(again) == wire.render(message)
    assert _small(again) == _small(message)


def _small(message: Message) -> Message:
    """In small letters: compression may give a name the spelling of another."""

    def record(one: Record) -> Record:
        data = one.data
        if isinstance(data, Pointer):
            data = Pointer(data.kind, wire.lower(data.name))
        elif isinstance(data, Soa):
            data = Soa(wire.lower(data.server), wire.lower(data.mailbox), data.times)
        return Record(wire.lower(one.name), one.ttl, data)

    sections = ("answers", "authority", "additional")
    kept = {name: tuple(map(record, getattr(message, name))) for name in sections}
    return msgspec.structs.replace(message, **kept)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    try:
        wire.parse(data)
    except wire.WireError as error:
        assert str(error)


@given(messages(), st.data())
def test_any_change_of_good_bytes(message: Message, data: st.DataObject) -> None:
    changed = bytearray(wire.render(message))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        wire.parse(bytes(changed[: data.draw(st.integers(0, len(changed)))]))
    except wire.WireError as error:
        assert str(error)


def test_a_name_that_points_to_itself_is_refused() -> None:
    head = struct.pack("!6H", 1, 0, 1, 0, 0, 0)
    with pytest.raises(wire.WireError, match="itself"):
        wire.parse(head + b"\xc0\x0c" + struct.pack("!2H", 1, 1))


def test_names_are_written_once() -> None:
    owner = wire.name("web.default.svc.cluster.local")
    records = tuple(Record(owner, 5, Host(IPv4Address(number))) for number in range(20))
    asked = Question(owner, wire.A)
    data = wire.render(Message(id=1, question=asked, response=True, answers=records))
    assert data.count(b"cluster") == 1
    assert len(data) == 12 + 31 + 4 + 20 * 16
    assert wire.parse(data).answers == records


def test_what_is_too_long_says_so_and_keeps_the_question() -> None:
    owner = wire.name("many.default.svc.cluster.local")
    records = tuple(Record(owner, 5, Host(IPv4Address(number))) for number in range(60))
    asked = Question(owner, wire.A)
    short = wire.parse(
        wire.render(Message(id=7, question=asked, response=True, answers=records), 512)
    )
    assert (short.id, short.question, short.truncated, short.answers) == (7, asked, True, ())
