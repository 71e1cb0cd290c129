"""What the kernel tells of packets, as passages of base chains and steps of a trace."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Literal

import pytest

from hairpin.kernel.rule_texts import does
from hairpin.state.nftables import Verdict
from hairpin.state.nftrace import LoggedRule, TraceEvent
from hairpin.trace.hooked import packet_of
from hairpin.trace.packet import Packet, read
from hairpin.trace.passages import of_log, of_nft, order
from tests.trace.test_packet import ONE, OTHER, ipv4, tcp

SYN = ipv4(ONE, OTHER, 6, tcp(40000, 80))[14:]


def event(chain: str, kind: str, handle: int = 0, head: bytes = b"", **more: object) -> TraceEvent:
    values = {"family": "ip", "table": "t", "packet": 7, **more}
    return TraceEvent(
        chain=chain,
        kind=kind,  # type: ignore[arg-type]
        handle=handle,
        network=head[:20],
        transport=head[20:40],
        **values,  # type: ignore[arg-type]
    )


def test_a_packet_in_two_base_chains() -> None:
    drop = Verdict("drop")
    runs = of_nft(
        [
            event("pre", "rule", 1, SYN, table="mine"),
            event("pre", "policy", table="mine", verdict=Verdict("accept")),
            event("base", "rule", 3, SYN, verdict=Verdict("jump", "inner")),
            event("inner", "return"),
            event("base", "rule", 4, verdict=Verdict("accept")),
            event("last", "return", 0, SYN),  # of a chain without rules, Linux 6.18
            event("last", "policy", verdict=drop),
        ],
        "mine",
    )
    assert [(one.chain, one.looking, one.hook, one.verdict) for one in runs] == [
        ("pre", True, "PREROUTING", "accept"),
        ("base", False, None, "accept"),
        ("last", False, None, "drop"),
    ]
    assert runs[1].keys == [("nft", "ip", "t", "base", 3), ("nft", "ip", "t", "base", 4)]
    assert runs[2].keys == [("nft", "ip", "t", "last", 0)]


def test_packets_side_by_side_are_kept_apart() -> None:
    runs = of_nft(
        [
            event("base", "rule", 1, SYN, packet=1),
            event("base", "rule", 1, SYN, packet=2),
            event("base", "rule", 2, packet=1, verdict=Verdict("drop")),
            event("base", "rule", 3, packet=2, verdict=Verdict("accept")),
            event("base", "rule", 9, packet=3),  # its beginning was lost
        ],
        "mine",
    )
    assert [(one.keys[-1][-1], one.verdict) for one in runs] == [(2, "drop"), (3, "accept")]


def logged(
    table: str, chain: str, kind: Literal["rule", "policy"], number: int, hook: int = 0
) -> LoggedRule:
    return LoggedRule(
        version=4, table=table, chain=chain, kind=kind, number=number, hook=hook, data=SYN
    )


def test_what_trace_logs_without_our_own_rules() -> None:
    runs = of_log(
        [
            logged("raw", "PREROUTING", "rule", 2),  # one of three of ours
            logged("raw", "PREROUTING", "rule", 4),
            logged("raw", "PREROUTING", "policy", 5),
            logged("nat", "PREROUTING", "rule", 1),
            logged("nat", "KUBE-SERVICES", "rule", 3),
            logged("filter", "INPUT", "policy", 1, hook=1),
        ],
        3,
    )
    assert [(one.table, one.hook, [key[3:] for key in one.keys]) for one in runs] == [
        ("raw", "PREROUTING", [("PREROUTING", 1), ("PREROUTING", 0)]),
        ("nat", "PREROUTING", [("PREROUTING", 1), ("KUBE-SERVICES", 3)]),
        ("filter", "INPUT", [("INPUT", 0)]),
    ]


def test_the_order_of_hooks() -> None:
    way = [
        order("INGRESS", "netdev", 0),
        order("PREROUTING", "bridge", 0),
        order("PREROUTING", "ip", -300),
        order("PREROUTING", "ip", -100),
        order("INPUT", "bridge", 0),
        order("FORWARD", "ip", 0),
        order("OUTPUT", "ip", 0),
        order("POSTROUTING", "ip", 100),
        order("POSTROUTING", "bridge", 0),
    ]
    moved = sorted(way)
    assert moved.index(way[4]) < moved.index(way[2])  # a bridge's input is before IP's hooks
    assert [one for one in moved if one != way[4]] == [one for one in way if one != way[4]]


def test_a_cut_packet_is_known_again() -> None:
    whole = read(bytes(12) + b"\x08\x00" + SYN + bytes(0))
    assert isinstance(whole, Packet)
    payload = ipv4(ONE, OTHER, 6, tcp(40000, 80) + b"GET /" * 40)[14:]
    full = read(bytes(12) + b"\x08\x00" + payload)
    cut = packet_of(payload[:40])
    assert isinstance(full, Packet)
    assert cut is not None
    assert cut.key == full.key
    assert cut.ends == full.ends
    assert packet_of(SYN[:19]) is None
    assert packet_of(
        ipv4(IPv4Address("10.0.0.9"), OTHER, 17, struct.pack("!HHHH", 1, 2, 8, 0))[14:]
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("tcp dport 80 drop", "DROP"),
        ("reject with tcp reset", "REJECT"),
        ("dnat ip to numgen random mod 1 map { 0 : 10.0.0.1 . 80 }", "DNAT"),
        ("meta mark set meta mark ^ 0x00004000 masquerade fully-random", "MASQUERADE"),
        ('ct state new jump drop-it comment "drops"', "drop-it"),
        ('oifname "accept" counter accept', "ACCEPT"),
        ('ip saddr 10.0.0.1 comment "we drop it elsewhere"', ""),
        ("ip daddr . meta l4proto . th dport vmap @service-ips", ""),
        ("meta l4proto vmap { tcp : drop, udp : accept }", ""),
    ],
)
def test_what_a_rule_does(text: str, what: str) -> None:
    assert does(text) == what
