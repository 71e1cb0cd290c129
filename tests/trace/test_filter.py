"""Rules that no hook tells of: which of them, as nft prints them, can have dropped a packet."""

from __future__ import annotations

import pytest

from hairpin.trace.causes_filter import fits, listed
from hairpin.trace.causes_rules import _goal
from hairpin.trace.rules import SavedRule

RULESET = """table bridge corp {
\tchain own { # handle 1
\t\ttype filter hook output priority filter; policy accept;
\t\tip daddr 10.0.0.1 drop # handle 2
\t\tip daddr 10.0.0.2 accept # handle 3
\t\tip daddr 10.0.0.3 drop # handle 4
\t}

\tchain other { # handle 5
\t\tiifname "veth_a" counter packets 3 bytes 252 drop # handle 6
\t}
}
table arp f {
\tchain in { # handle 1
\t\ttype filter hook input priority filter; policy accept;
\t\tdrop # handle 2
\t}
}
"""


def test_only_what_drops_is_listed_with_what_takes_it_away() -> None:
    found = list(listed(RULESET))
    assert [(one.undo, one.counted, one.first) for one in found] == [
        ("nft delete rule bridge corp own handle 2", None, True),
        ("nft delete rule bridge corp own handle 4", None, False),
        ("nft delete rule bridge corp other handle 6", 3, False),
        ("nft delete rule arp f in handle 2", None, True),
    ]


@pytest.mark.parametrize(
    ("says", "true"),
    [
        ("drop", True),
        ("ip daddr 10.0.0.1 drop", True),
        ("ip daddr 10.0.0.0/24 counter packets 1 bytes 60 drop", True),
        ("ip daddr 10.0.1.0/24 drop", False),
        ('iifname "veth_b" drop', False),
        ("ip daddr 10.0.0.1 limit rate 1/second drop", None),
        ("vlan id 20 drop", None),
    ],
)
def test_what_a_rule_asks_for(says: str, true: bool | None) -> None:
    assert fits(says, {"ip daddr": "10.0.0.1", "iifname": "veth_a"}) is true


@pytest.mark.parametrize(
    ("spec", "goal"),
    [
        ("-p tcp -j DNAT --to-destination 10.0.0.9:80", "10.0.0.9 80"),
        ("-p tcp -j DNAT --to-destination [fd00::9]:80", "fd00::9 80"),
        ("-j DNAT --to-destination 10.0.0.9", "10.0.0.9 0"),
        ("-p tcp -j REDIRECT --to-ports 15001", "None 15001"),
        ("tcp dport 80 redirect to :15001", "None 15001"),
        ("tcp dport 80 dnat to 10.0.0.9:81", "10.0.0.9 81"),
        ("-j DNAT --to-destination 10.0.0.1-10.0.0.9", ""),
        ("meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.0.0.1 . 80 }", ""),
    ],
)
def test_where_a_rule_sends_to(spec: str, goal: str) -> None:
    found = _goal(SavedRule(table="nat", chain="PREROUTING", spec=spec, packets=1))
    assert (f"{found[0]} {found[1]}" if found is not None else "") == goal
