"""What TRACE logs comes back as it went out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hairpin.netlink import message as wire
from hairpin.netlink import nflog
from hairpin.netlink.message import Frame
from hairpin.state.nftrace import LoggedRule

NUMBERS = st.integers(0, 2**32 - 1)
RULES = st.builds(
    LoggedRule,
    version=st.sampled_from((4, 6)),
    table=st.sampled_from(("raw", "mangle", "nat", "filter", "security")),
    chain=st.from_regex(r"[A-Z][A-Z:-]{0,27}", fullmatch=True),
    kind=st.sampled_from(("rule", "return", "policy")),
    number=st.integers(1, 100_000),
    hook=st.integers(0, 4),
    data=st.binary(max_size=128),
    iif=NUMBERS,
    oif=NUMBERS,
    mark=NUMBERS,
)


@given(RULES)
def test_a_rule_comes_back(rule: LoggedRule) -> None:
    assert nflog.parse(nflog.render(rule)) == rule


@given(RULES, st.text("abc: ", max_size=20))
def test_what_others_log_is_no_rule(rule: LoggedRule, prefix: str) -> None:
    frame = nflog.render(rule)
    found = wire.attributes(frame.body, 4)
    body = frame.body[:4] + wire.attribute(1, found[1]) + wire.text(10, prefix)
    assert nflog.parse(Frame(frame.kind, 0, 0, body)) is None


def test_other_messages_are_none() -> None:
    assert nflog.parse(Frame(4 << 8 | 1, 0, 0, bytes(4))) is None
    assert nflog.parse(Frame(4 << 8, 0, 0, b"")) is None
