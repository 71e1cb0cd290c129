"""nf_tables objects in the words of nft(8)."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from hairpin.model.address import ip, network
from hairpin.present.diff_text import diff_lines
from hairpin.present.nft import hook_text, listing, time_text
from hairpin.present.nft_json import parse
from hairpin.present.nft_statement import statement_text
from hairpin.present.shell import commands
from hairpin.state.change import Change
from hairpin.state.nftables import (
    Counter,
    Hook,
    InSet,
    Match,
    NftChain,
    NftElement,
    NftObject,
    NftRule,
    NftSet,
    NftTable,
    OneOf,
    Opaque,
    SetMark,
    SetTrace,
    Statement,
    Verdict,
)

HOME: dict[str, Any] = {"family": "ip", "table": "t"}
CHAIN = NftChain(name="c", rules=(NftRule((Counter(), Verdict("accept")), "all"),), **HOME)
SET = NftSet(name="s", types=("ipv4_addr",), comment="who", **HOME)
MAP = NftSet(name="m", types=("inet_proto", "inet_service"), verdicts=True, **HOME)


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (Verdict("return"), "return"),
        (Match(field="ct state", value="established,related"), "ct state established,related"),
        (Match(field="ip saddr", value=network("10.0.0.0/8")), "ip saddr 10.0.0.0/8"),
        (Match(field="meta oifname", value="eth*", negated=True), 'oifname != "eth*"'),
        (Match(field="meta mark", value=1), "meta mark 0x00000001"),
        (
            Match(field="meta mark", value=0, mask=0x4000, negated=True),
            "meta mark & 0x00004000 != 0x00000000",
        ),
        (
            Match(field="meta mark", value=0x40000000, mask=0xC0000000),
            "meta mark 0x40000000/2",
        ),
        (
            InSet(fields=("ip saddr", "th dport"), set="s", negated=True),
            "ip saddr . th dport != @s",
        ),
        (
            OneOf(
                field="ip saddr", values=(network("10.0.0.0/24"), ip("10.0.1.0"), ip("10.9.0.1"))
            ),
            "ip saddr { 10.0.0.0-10.0.1.0, 10.9.0.1 }",
        ),
        (OneOf(field="th dport", values=(80, 81)), "th dport { 80, 81 }"),
        (SetMark(operator="^", bits=0x80000000), "meta mark set meta mark ^ 0x80000000"),
        (SetTrace(), "meta nftrace set 1"),
        (Opaque(name="limit", data=b""), "(limit)"),
    ],
)
def test_statements(one: Statement, text: str) -> None:
    assert statement_text(one) == text


@pytest.mark.parametrize(
    ("hook", "priority", "text"),
    [
        ("prerouting", -100, "dstnat"),
        ("prerouting", -95, "dstnat + 5"),
        ("output", -100, "-100"),
        ("postrouting", 90, "srcnat - 10"),
        ("postrouting", 89, "89"),
        ("input", 0, "filter"),
        ("input", -150, "mangle"),
    ],
)
def test_priorities(hook: Any, priority: int, text: str) -> None:
    said = hook_text(Hook(type="filter", hook=hook, priority=priority, policy="drop"))
    assert said == f"type filter hook {hook} priority {text}; policy drop;"


def test_times() -> None:
    assert [time_text(one) for one in (0, 59, 90, 3600, 86400, 90061)] == [
        "0s", "59s", "1m30s", "1h", "1d", "1d1h1m1s",
    ]  # fmt: skip


def test_what_is_in_no_table_is_not_listed() -> None:
    assert listing([CHAIN, SET]) == ""
    assert listing([NftTable(family="ip", name="t")]) == "table ip t {\n}\n"


def test_a_changed_chain_shows_the_rules_that_differ() -> None:
    after = NftChain(name="c", rules=(NftRule((Verdict("drop"),)),), **HOME)
    change = Change(verb="set", netns="", object=after, before=CHAIN, reason="why")
    assert list(diff_lines([(change, "service default/web")])) == [
        "~ chain ip c, 1 rule  (service default/web: why)",
        '    - counter accept comment "all"',
        "    + drop",
    ]


def test_elements_and_sets_in_a_few_words() -> None:
    to = NftElement(set="m", of=("TCP", 80), verdict=Verdict("goto", "c"), **HOME)
    plain = NftElement(set="s", of=(ip("10.0.0.1"),), **HOME)
    changes = [Change(verb="add", netns="", object=one) for one in (MAP, to, plain)]
    assert list(diff_lines((one, "") for one in changes)) == [
        "+ map ip m",
        "+ element tcp . 80 of m, goto c",
        "+ element 10.0.0.1 of s",
    ]


@pytest.mark.host
def test_commands_for_a_shell_do_what_they_say() -> None:
    """Every kind added, changed and removed by nft itself, in a namespace of its own."""
    hooked = NftChain(name="h", hook=Hook(type="nat", hook="output", priority=-100), **HOME)
    moved = NftChain(name="h", hook=Hook(type="nat", hook="output", priority=7), **HOME)
    noted = NftChain(name="r", comment="a note", rules=(NftRule((Verdict("drop"),)),), **HOME)
    one = NftElement(set="m", of=("SCTP", 9), verdict=Verdict("goto", "c"), comment="x:y", **HOME)
    other = NftElement(set="m", of=("SCTP", 9), verdict=Verdict("drop"), **HOME)
    member = NftElement(set="s", of=(ip("10.0.0.1"),), **HOME)
    sticky = NftSet(name="a", types=("ipv4_addr",), dynamic=True, timeout=90, size=9, **HOME)
    longer = NftSet(name="a", types=("ipv4_addr",), dynamic=True, timeout=7200, size=9, **HOME)
    table = NftTable(family="ip", name="t", comment="a table")
    first = _adding(table, SET, MAP, sticky, CHAIN, hooked, noted, one, member)
    assert _listed(first) == listing([table, SET, MAP, sticky, CHAIN, hooked, noted, one, member])
    then = [
        Change(verb="set", netns="", object=other, before=one),
        Change(verb="set", netns="", object=moved, before=hooked),
        Change(verb="set", netns="", object=longer, before=sticky),
        *(Change(verb="remove", netns="", object=gone) for gone in (member, SET, noted)),
    ]
    seen = _listed([*first, *then])
    assert sorted(seen.splitlines()) == sorted(
        listing([table, MAP, longer, CHAIN, moved, other]).splitlines()
    )
    assert _listed([*first, Change(verb="remove", netns="", object=table)]) == ""


def _adding(*objects: NftObject) -> list[Change]:
    return [Change(verb="add", netns="", object=one) for one in objects]


def _listed(changes: list[Change]) -> str:
    lines = [line for one in changes for line in commands(one, "")]
    return subprocess.run(
        ["unshare", "-n", "sh", "-e"],
        input="\n".join([*lines, "nft -s list ruleset"]),
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_a_mask_of_the_first_bits_is_a_prefix_in_json_too() -> None:
    """As nft 1.0.6 prints ``meta mark & 0x80000000 != 0``."""
    match = {
        "op": "!=",
        "left": {"meta": {"key": "mark"}},
        "right": {"prefix": {"addr": 0, "len": 1}},
    }
    rows = [
        {"table": {"family": "ip", "name": "t"}},
        {"chain": {"family": "ip", "table": "t", "name": "c"}},
        {"rule": {"family": "ip", "table": "t", "chain": "c", "expr": [{"match": match}]}},
    ]
    (_, chain) = parse(json.dumps({"nftables": rows}), "t")
    wanted = Match(field="meta mark", value=0, mask=1 << 31, negated=True)
    assert chain == NftChain(name="c", rules=(NftRule((wanted,)),), **HOME)
