"""Rules that counted packets between two outputs of iptables-save, and whether it can be ours."""

from __future__ import annotations

import pytest

from hairpin.model.address import ip
from hairpin.trace.rules import SavedRule, could_match, counted, parse
from hairpin.trace.values import Ends

BEFORE = """# Generated
*filter
:INPUT ACCEPT [10:600]
:FORWARD DROP [3:180]
:KUBE-FORWARD - [0:0]
[1:60] -A INPUT -p tcp -m tcp --dport 80 -j DROP
[5:300] -A INPUT -s 10.0.0.0/8 -j ACCEPT
[5:300] -A INPUT -s 10.0.0.0/8 -j ACCEPT
COMMIT
"""
AFTER = BEFORE.replace("[1:60]", "[2:120]").replace("DROP [3:180]", "DROP [4:240]")
OURS = [Ends(ip("10.244.0.2"), 40000, ip("10.96.0.1"), 80)]


def test_what_counted_is_told_with_how_many() -> None:
    found = counted(BEFORE, AFTER)
    assert [(one.chain, one.target, one.packets) for one in found] == [
        ("FORWARD", "DROP", 1),
        ("INPUT", "DROP", 1),
    ]


def test_equal_rules_are_told_apart_by_their_order() -> None:
    again = BEFORE[::-1].replace("[5:300]"[::-1], "[9:540]"[::-1], 1)[::-1]
    assert [one.packets for one in counted(BEFORE, again)] == [4]


def test_what_has_not_counted_is_not_told() -> None:
    assert counted(BEFORE, BEFORE) == []


def test_how_each_is_taken_away() -> None:
    policy, rule = counted(BEFORE, AFTER)
    assert policy.undo == "iptables -t filter -P FORWARD ACCEPT"
    assert rule.undo == "iptables -t filter -D INPUT -p tcp -m tcp --dport 80 -j DROP"


def test_policies_and_rules_are_read() -> None:
    assert [one.chain for one in parse(BEFORE)] == ["INPUT", "FORWARD", "INPUT", "INPUT", "INPUT"]


@pytest.mark.parametrize(
    ("spec", "ours"),
    [
        ("-p tcp -m tcp --dport 80 -j DROP", True),
        ("-p tcp -m tcp --sport 80 -j DROP", True),  # of the answer
        ("-p tcp -m tcp --dport 81 -j DROP", False),
        ("-p tcp -m tcp ! --dport 81 -j DROP", True),
        ("-p udp -m udp --dport 80 -j DROP", False),
        ("-s 10.244.0.0/16 -j DROP", True),
        ("-s 192.168.0.0/16 -j DROP", False),
        ("! -s 192.168.0.0/16 -j DROP", True),
        ("-d 10.96.0.1/32 -p tcp -m multiport --dports 80,81 -j REJECT", True),
        ("-m set --match-set KUBE-X dst -j DROP", True),  # nobody knows: it may be
    ],
)
def test_whether_it_can_have_been_ours(spec: str, ours: bool) -> None:
    rule = SavedRule(table="filter", chain="INPUT", spec=spec, packets=1)
    assert could_match(rule, OURS, "TCP") is ours
