"""A real packet's way through chains, as the host's kernel tells it."""

from __future__ import annotations

import select
import socket
import time

import pytest

from hairpin.kernel.nftrace import TraceListener
from hairpin.model.address import ip
from hairpin.state.nftables import (
    Hook,
    Match,
    NftChain,
    NftObject,
    NftRule,
    NftTable,
    SetTrace,
    Verdict,
)
from hairpin.state.nftrace import TraceEvent
from tests.kernel.host import Host

T = "t"
UDP = Match(field="meta l4proto", value="UDP")


@pytest.mark.host
def test_a_packet_is_followed_from_rule_to_rule(host: Host) -> None:
    (node,) = host.make("node")
    hook = Hook(type="filter", hook="output", priority=0)
    objects: list[NftObject] = [
        NftTable(family="ip", name=T),
        NftChain(family="ip", table=T, name="inner", rules=(NftRule((UDP, Verdict("return"))),)),
        NftChain(
            family="ip",
            table=T,
            name="outer",
            hook=hook,
            rules=(
                NftRule((Match(field="ip daddr", value=ip("127.0.0.9")), SetTrace())),
                NftRule((UDP, Verdict("jump", "inner"))),
            ),
        ),
    ]
    host.must(*(host.add(one, node) for one in objects))
    handle = host.kernel.namespaces[node]
    listener = TraceListener(handle)
    with handle.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for address in ("127.0.0.8", "127.0.0.9"):  # the first one is nobody's concern
            client.sendto(b"hello", (address, 53))
        source = client.getsockname()[1]
    events: list[TraceEvent] = []
    end = time.monotonic() + 5
    while not (events and events[-1].kind == "policy") and time.monotonic() < end:
        select.select([listener], [], [], 0.1)
        events += listener.read()
    listener.close()
    rules = host.kernel.nft_rules(node, "ip", T)
    told = [(one.chain, one.kind, one.verdict) for one in events]
    assert told == [
        ("outer", "rule", None),
        ("outer", "rule", Verdict("jump", "inner")),
        ("inner", "rule", Verdict("return")),
        ("outer", "policy", Verdict("accept")),
    ]
    assert [rules[one.chain, one.handle].statements[-1] for one in events[:3]] == [
        SetTrace(),
        Verdict("jump", "inner"),
        Verdict("return"),
    ]
    assert len({one.packet for one in events}) == 1
    assert events[0].network[16:20] == ip("127.0.0.9").packed
    assert events[0].transport[:4] == source.to_bytes(2, "big") + (53).to_bytes(2, "big")
    assert not listener.lost
