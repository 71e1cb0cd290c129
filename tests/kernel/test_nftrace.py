"""A real packet's way through chains, as the host's kernel tells it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time

import pytest

from hairpin.kernel.nftrace import Observer, TraceListener
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
from hairpin.state.nftrace import Looked, TraceEvent
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


LOOKED = Looked(
    version=4,
    protocol=6,
    target=ip("10.96.0.1"),
    source=ip("10.0.0.1"),
    source_port=4000,
    ports=(80,),
    tracked=True,
)
OPENING = "tcp flags syn limit rate 100/second burst 100 packets meta nftrace set 1 accept"
ASKED = f"""
    ip saddr 10.0.0.1 tcp sport 4000 meta nftrace set 1 accept
    ip daddr 10.0.0.1 tcp dport 4000 meta nftrace set 1 accept
    tcp dport 80 {OPENING}
    tcp sport 80 {OPENING}
"""


@pytest.mark.host
def test_the_table_that_asks_is_read_by_nft_and_is_nobody_else_s(host: Host) -> None:
    (node,) = host.make("node")
    host.run(node, "nft", "add", "table", "netdev", "mine")
    before = host.run(node, "nft", "list", "ruleset")
    observer = Observer(host.kernel.namespaces[node], LOOKED, "asks")
    text = host.run(node, "nft", "list", "table", "ip", "asks")
    assert "flags owner" in text
    rules = [line.strip() for line in ASKED.strip().splitlines()]
    for chain in ("prerouting", "output"):
        _, _, after = text.partition(f"hook {chain} priority -500; policy accept;\n")
        assert [line.strip() for line in after.splitlines()[:4]] == rules
    tracked = "ct original proto-src 4000 ct original ip saddr 10.0.0.1 meta nftrace set 1 accept"
    assert text.count(tracked) == 2
    assert "table netdev asks" in host.run(node, "nft", "list", "tables")
    assert "table bridge asks" not in host.run(node, "nft", "list", "tables")
    with pytest.raises(subprocess.CalledProcessError):
        host.run(node, "nft", "delete", "table", "ip", "asks")
    observer.close()
    assert host.run(node, "nft", "list", "ruleset") == before


@pytest.mark.host
def test_it_goes_with_its_process(host: Host) -> None:
    (node,) = host.make("node")
    handle = host.kernel.namespaces[node]
    child = os.fork()
    if not child:
        try:
            held = Observer(handle, LOOKED, "asks")
            time.sleep(60)
            held.close()
        finally:
            os._exit(1)
    end = time.monotonic() + 10
    while "asks" not in host.run(node, "nft", "list", "tables") and time.monotonic() < end:
        time.sleep(0.02)
    assert "asks" in host.run(node, "nft", "list", "tables")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert host.run(node, "nft", "list", "tables") == ""
