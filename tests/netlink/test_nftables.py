"""nf_tables requests come back as they went out: rules, chains, sets and their elements."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.model.address import encode, from_packed, ip, network
from hairpin.netlink import message as wire
from hairpin.netlink import nftables, nftables_format, nftables_rules, nftables_seen
from hairpin.netlink.nftables_rules_seen import AnonymousSet, decode
from hairpin.state.change import Change, Object, decode_changes
from hairpin.state.nftables import (
    Chance,
    Counter,
    Dnat,
    Field,
    Hook,
    InSet,
    KeyType,
    Masquerade,
    Match,
    NftChain,
    NftElement,
    NftFamily,
    NftRule,
    NftSet,
    NftTable,
    OneOf,
    Opaque,
    RandomDnat,
    RandomVerdict,
    Reject,
    SetMark,
    SetTrace,
    Statement,
    Target,
    UpdateSet,
    Value,
    Verdict,
    VerdictMap,
)
from tests.ipvs_values import IPV4, IPV6, PORTS, PROTOCOLS

NAMES = st.from_regex(r"[a-z][a-z0-9/._-]{0,100}", fullmatch=True)
COMMENTS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=100)
BITS = st.integers(0, 2**32 - 1)
FAMILIES: st.SearchStrategy[NftFamily] = st.sampled_from(("ip", "ip6"))
LINKS = st.from_regex(r"[a-z][a-z0-9]{0,12}\*?", fullmatch=True)
VERDICTS = st.builds(Verdict, st.sampled_from(("accept", "drop", "return"))) | st.builds(
    Verdict, st.sampled_from(("jump", "goto")), NAMES
)


def networks(version: int) -> st.SearchStrategy[Any]:
    """More than one address each, which would be that address."""
    kind, size = (IPv4Network, 32) if version == 4 else (IPv6Network, 128)
    return st.builds(
        lambda number, prefix: kind((number, prefix), strict=False),
        st.integers(0, 2**size - 1),
        st.integers(0, size - 1),
    )


def addresses(family: NftFamily) -> st.SearchStrategy[Any]:
    return IPV4 if family == "ip" else IPV6


def address_fields(family: NftFamily) -> st.SearchStrategy[Field]:
    fields: tuple[Field, ...] = (
        ("ip saddr", "ip daddr") if family == "ip" else ("ip6 saddr", "ip6 daddr")
    )
    return st.sampled_from(fields)


def fields(family: NftFamily) -> st.SearchStrategy[tuple[Field, ...]]:
    others: tuple[Field, ...] = ("th sport", "th dport", "meta l4proto", "meta mark")
    return st.lists(address_fields(family) | st.sampled_from(others), min_size=1, max_size=4).map(
        tuple
    )


@st.composite
def matches(draw: st.DrawFn, family: NftFamily) -> Match:
    value: Any
    mask = None
    others: tuple[Field, ...] = (
        "th dport",
        "meta l4proto",
        "meta mark",
        "meta iifname",
        "ct state",
        "ct status",
        "fib saddr type",
    )
    field: Field = draw(address_fields(family) | st.sampled_from(others))
    match field:
        case "th dport":
            value = draw(PORTS)
        case "meta l4proto":
            value = draw(PROTOCOLS | st.sampled_from(("1", "58")))
        case "meta mark":
            value, mask = draw(BITS), draw(st.none() | BITS)
        case "meta iifname":
            value = draw(LINKS)
        case "ct state":
            value = draw(st.sampled_from(("new", "established,related", "invalid")))
        case "ct status":
            value = draw(st.sampled_from(("dnat", "snat,dnat")))
        case "fib saddr type":
            value = draw(st.sampled_from(("local", "unicast")))
        case _:
            value = draw(addresses(family) | networks(4 if family == "ip" else 6))
    return Match(field=field, value=value, negated=draw(st.booleans()), mask=mask)


@st.composite
def choices(draw: st.DrawFn, family: NftFamily) -> OneOf:
    some = draw(st.lists(networks(4 if family == "ip" else 6), min_size=1, max_size=5))
    values: list[Value] = [
        from_packed(one.network_address.packed) if one.num_addresses == 1 else one
        for one in collapse_addresses(some)
    ]
    return OneOf(
        field=draw(address_fields(family)), values=tuple(values), negated=draw(st.booleans())
    )


def statements(family: NftFamily) -> st.SearchStrategy[Statement]:
    target = st.builds(Target, addresses(family), PORTS)
    return st.one_of(
        VERDICTS,
        matches(family),
        choices(family),
        st.builds(InSet, fields=fields(family), set=NAMES, negated=st.booleans()),
        st.builds(VerdictMap, fields=fields(family), map=NAMES),
        st.builds(RandomVerdict, verdicts=st.lists(VERDICTS, min_size=1, max_size=9).map(tuple)),
        st.builds(Chance, of=st.integers(2, 2**31)),
        # No bits: all three operators do nothing.  All of them: ``|`` and ``&`` are nothing else.
        st.builds(SetMark, operator=st.sampled_from("|^"), bits=st.integers(1, 2**32 - 2)),
        st.builds(SetMark, operator=st.just("&"), bits=st.integers(1, 2**32 - 2)),
        st.just(Reject()),
        st.builds(Masquerade, fully_random=st.booleans()),
        st.builds(Dnat, ip=addresses(family), port=PORTS),
        st.builds(RandomDnat, targets=st.lists(target, min_size=1, max_size=9).map(tuple)),
        st.builds(UpdateSet, set=NAMES, field=address_fields(family)),
        st.just(Counter()),
        st.just(SetTrace()),
    )


def rules(family: NftFamily) -> st.SearchStrategy[NftRule]:
    return st.builds(NftRule, st.lists(statements(family), max_size=4).map(tuple), COMMENTS)


def made(inline: nftables_rules.Inline) -> AnonymousSet:
    """An anonymous set, read from the messages that make it."""
    first, *messages = nftables.add_inline("ip", "t", inline, 1)
    members = [one for message in messages for one in nftables_seen.parse_members(message.body)]
    return AnonymousSet(tuple(members), nftables_seen.parse_set(first.body).interval)


@given(st.data())
def test_a_rule_comes_back(data: st.DataObject) -> None:
    family = data.draw(FAMILIES)
    rule = data.draw(rules(family))
    expressions, inline = nftables_rules.encode(rule, family)
    sets = {one.name: made(one) for one in inline}
    assert sets == {one.name: nftables_seen.inline_set(one) for one in inline}
    assert decode(expressions, sets, rule.comment) == rule


@given(st.data())
def test_a_chain_comes_back(data: st.DataObject) -> None:
    family = data.draw(FAMILIES)
    hooks = st.builds(
        Hook,
        type=st.sampled_from(("filter", "nat", "route")),
        hook=st.sampled_from(("prerouting", "input", "forward", "output", "postrouting")),
        priority=st.integers(-(2**31), 2**31 - 1),
        policy=st.sampled_from(("accept", "drop")),
    )
    bare = NftChain(
        family=family,
        table=data.draw(NAMES),
        name=data.draw(NAMES),
        hook=data.draw(st.none() | hooks),
        comment=data.draw(COMMENTS),
    )
    assert nftables_seen.parse_chain(nftables.add_chain(bare).body) == bare
    table = NftTable(family=family, name=bare.table, comment=bare.comment)
    assert nftables_seen.parse_table(nftables.add_table(table).body) == table


SETS = st.builds(
    NftSet,
    family=FAMILIES,
    table=NAMES,
    name=NAMES,
    types=st.lists(st.sampled_from(tuple(nftables_format.TYPES)), min_size=1, max_size=4).map(
        tuple
    ),
    verdicts=st.booleans(),
    interval=st.booleans(),
    dynamic=st.booleans(),
    timeout=st.integers(0, 2**32),
    size=st.integers(0, 2**32 - 1),
    comment=COMMENTS,
)


@given(SETS)
def test_a_set_comes_back(one: NftSet) -> None:
    seen = nftables_seen.parse_set(nftables.add_set(one).body)
    assert (seen.known, seen.anonymous) == (one, False)


PARTS: dict[KeyType, st.SearchStrategy[Value]] = {
    "ipv4_addr": IPV4,
    "ipv6_addr": IPV6,
    "inet_proto": PROTOCOLS,
    "inet_service": PORTS,
}


@st.composite
def elements(draw: st.DrawFn) -> tuple[NftSet, list[NftElement]]:
    types = draw(st.lists(st.sampled_from(tuple(PARTS)), min_size=1, max_size=4).map(tuple))
    of = NftSet(family="ip", table="t", name=draw(NAMES), types=types, verdicts=draw(st.booleans()))
    keys = draw(st.lists(st.tuples(*(PARTS[type] for type in types)), min_size=1, unique=True))
    return of, [
        NftElement(
            family="ip",
            table="t",
            set=of.name,
            of=key,
            verdict=draw(VERDICTS) if of.verdicts else None,
            comment=draw(COMMENTS),
        )
        for key in keys
    ]


@given(elements())
def test_elements_come_back(some: tuple[NftSet, list[NftElement]]) -> None:
    of, wanted = some
    rows = nftables_seen.parse_rows(nftables.put_elements(wanted, add=True).body)
    assert list(nftables_seen.elements(of, rows)) == wanted


@given(st.lists(networks(4) | IPV4.map(IPv4Network), min_size=1, max_size=6))
def test_elements_of_an_interval_set_come_back(some: list[IPv4Network]) -> None:
    of = NftSet(family="ip", table="t", name="s", types=("ipv4_addr",), interval=True)
    wanted = [
        NftElement(family="ip", table="t", set="s", of=(one,), comment=str(at))
        for at, one in enumerate(collapse_addresses(some))
    ]
    rows = nftables_seen.parse_rows(nftables.put_elements(wanted, add=True).body)
    assert list(nftables_seen.elements(of, rows)) == wanted


@given(st.data())
def test_objects_come_back_from_json(data: st.DataObject) -> None:
    chain = NftChain(family="ip", table="t", name="c", rules=(data.draw(rules("ip")),))
    _, some = data.draw(elements())
    objects: list[Object] = [chain, *some]
    changes = [Change(verb="add", netns="node", object=one) for one in objects]
    assert decode_changes(encode(changes)) == changes


@given(st.binary(max_size=200))
def test_any_bytes_are_a_rule_or_a_wire_error(data: bytes) -> None:
    try:
        rule = decode(data, {})
    except wire.WireError:
        return
    assert all(isinstance(one, Opaque) for one in rule.statements)


def test_what_is_not_known_stays_as_it_is() -> None:
    raw = nftables_rules.expression("hash", wire.u32(1, 5)) + nftables_rules.expression("masq")
    rule = decode(raw, {})
    assert [one.name for one in rule.statements if isinstance(one, Opaque)] == ["hash", "masq"]
    assert nftables_rules.encode(rule, "ip")[0] == raw


@pytest.mark.parametrize(
    "statement",
    [
        Match(field="ip saddr", value=ip("fd00::1")),
        Match(field="ip saddr", value=network("fd00::/64")),
        Match(field="ct state", value="nonsense"),
        Match(field="th dport", value=70000),
        Match(field="th dport", value=80, mask=1),
        OneOf(field="ct state", values=("new",)),
        RandomDnat(targets=(Target(ip("10.0.0.1"), 1), Target(ip("fd00::1"), 1))),
    ],
)
def test_what_makes_no_sense_is_refused(statement: Statement) -> None:
    with pytest.raises(ValueError, match=r"."):
        nftables_rules.encode(NftRule((statement,)), "ip")
