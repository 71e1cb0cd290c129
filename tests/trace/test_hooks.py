"""What hooks tell of a real connection, and that telling leaves nothing and changes nothing."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hairpin.claims import faults_runner
from hairpin.claims.tracing import Question, observe, snapshot_of, traced
from hairpin.trace.follow import follow
from hairpin.trace.hooked import Hooked, packet_of
from hairpin.trace.packet import Packet
from hairpin.trace.values import Step, Trace
from hairpin.world import lifecycle
from hairpin.world.client import Client

WORLDS = (
    pytest.param(("guest", "ipvs"), marks=pytest.mark.guest, id="guest"),
    pytest.param(("host", "nftables"), marks=pytest.mark.host, id="nftables"),
    pytest.param(("host", "iptables"), marks=pytest.mark.host, id="iptables"),
)
NODE = "node_n1"
KILLS = 20 if os.environ.get("HAIRPIN_LONG") else 5
SYN = 0x02
OTHERS = """
import socket, time
while True:
    try:
        socket.create_connection(("10.96.0.103", 80), 1).close()
    except OSError:
        pass
    time.sleep(0.03)  # a World's servers are one process, and the guest has one CPU
"""
WEB = Question(source="client", to="svc/far:http", timeout=2.0)


class Lab:
    """A lab of the cast."""

    def __init__(self, client: Client, name: str, mode: str) -> None:
        self.client = client
        self.name = name
        self.mode = mode
        self.iptables = "iptables-legacy" if mode == "ipvs" else "iptables"

    def run(self, netns: str, line: str) -> str:
        done: dict[str, Any] = self.client.call("run", netns=netns, argv=["sh", "-c", line])
        return str(done["output"])

    def rules(self) -> list[str]:
        """All that a trace could leave: rules, tables, links, loggers; counters left out."""
        line = "iptables-legacy-save; ip6tables-legacy-save; ip -o link | cut -d: -f2; "
        if self.mode != "ipvs":
            line += "nft list tables; iptables-nft-save; "
        line += "cat /proc/sys/net/netfilter/nf_log/2"
        found = [one for netns in (NODE, "client") for one in self.run(netns, line).splitlines()]
        return [one for one in found if not one.startswith(("#", ":"))]


@pytest.fixture(params=WORLDS, scope="module")
def lab(request: pytest.FixtureRequest, runtime_folder: str) -> Iterator[Lab]:
    """A lab of the cast in each World and mode."""
    kernel, mode = request.param
    name = f"hooks-{os.getpid()}"
    client, owner = lifecycle.start(name, kernel, None, mode=mode)
    try:
        faults_runner.build(client, mode)
        yield Lab(client, name, mode)
    finally:
        owner.close()


def steps(trace: Trace, leg: str = "request") -> list[Step]:
    return [step for one in trace.legs if one.name == leg for hop in one.hops for step in hop.steps]


def test_each_rewriting_is_the_rule_s_that_did_it(lab: Lab) -> None:
    trace = traced(lab.client, Question(source="node/n1", to="svc/far:http", timeout=2.0))
    assert trace.disposition == "delivered"
    rewritten = [one for one in steps(trace) if one.kind in ("nat", "ipvs")]
    assert all(one.seen == "hook" for one in rewritten)
    first, last = rewritten[0], rewritten[-1]
    assert first.hook == ("LOCAL_OUT" if lab.mode == "ipvs" else "OUTPUT")
    assert first.owner == "service default/far:http"
    assert last.hook == "POSTROUTING"
    assert last.by is not None
    assert "asquerade" in last.by or "MASQUERADE" in last.by
    marked = [one for one in steps(trace) if one.kind == "rule" and "marked" in one.says]
    assert [one.hook for one in marked] == ["OUTPUT"]
    back = [one for one in steps(trace, "reply") if one.kind == "nat"]
    assert back[0].hook == "PREROUTING"
    assert back[0].seen == "hook"


def test_a_rule_by_hand_is_named_as_it_stands(lab: Lab) -> None:
    rule = "-p tcp -m tcp --dport 8080 -m comment --comment 'by hand' -j DROP"
    lab.run("node_n2", f"{lab.iptables} -t mangle -I FORWARD {rule}")
    try:
        trace = traced(lab.client, WEB)
    finally:
        lab.run("node_n2", f"{lab.iptables} -t mangle -D FORWARD {rule}")
    assert trace.disposition == "dropped"
    (drop,) = [one for one in steps(trace) if one.kind == "drop"]
    assert (drop.hook, drop.seen) == ("FORWARD", "hook")
    assert drop.by == f"iptables -t mangle -A FORWARD {rule}".replace("'", '"')
    assert trace.cause is not None
    assert trace.cause.object == drop.by
    assert traced(lab.client, WEB).cause is None


@pytest.mark.parametrize("lab", WORLDS[1:], indirect=True)  # the guest has no nf_tables for IP
def test_a_table_by_hand_too(lab: Lab) -> None:
    lab.run(
        NODE,
        "nft add table inet mine; nft 'add chain inet mine c { type filter hook forward "
        "priority 5; policy drop; }'; nft add rule inet mine c tcp dport 22 accept",
    )
    try:
        trace = traced(lab.client, WEB)
        assert trace.cause is not None
        lab.run(NODE, trace.cause.mend.shell)
        assert traced(lab.client, WEB).disposition == "delivered"
    finally:
        lab.run(NODE, "nft delete table inet mine")
    assert trace.ended.by == "nft chain inet mine c '{ policy drop ; }'"


def test_nothing_of_others_is_told(lab: Lab) -> None:
    """Beside the traced one, connections of others to the same Service all the time."""
    words = ["--lab", lab.name, "exec", "foo", "--", "python3", "-ISc", OTHERS]
    others = subprocess.Popen(
        [sys.executable, "-m", "hairpin", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        snapshot = snapshot_of(lab.client)
        strange: list[Packet] = []
        for _ in range(10):
            found = observe(lab.client, snapshot, WEB)
            assert found.tried.outcome == "answered"
            followed = follow(found)
            ours = Hooked(found, followed).passes
            ports = {one.ends.source_port for one in ours} | {
                one.ends.destination_port for one in ours
            }
            assert ports <= {80, 8080, found.tried.source_port}
            assert found.tried.source_port in ports
            # Of all the others' packets the kernel told of openings alone, and of few of those.
            strange += [
                packet
                for one in found.passages
                if (packet := packet_of(one.data)) is not None
                and found.tried.source_port
                not in (packet.ends.source_port, packet.ends.destination_port)
            ]
            assert not found.untold
            if strange:
                break
        assert strange  # else there was nobody else
        assert all(one.flags & SYN for one in strange)
    finally:
        others.kill()
        others.wait()


def killed(lab: Lab, wait: float) -> None:
    """A trace as a command of its own, killed after that many seconds."""
    words = ["--lab", lab.name, "trace", "client", "svc/far:http", "--timeout", "2s"]
    command = subprocess.Popen(
        [sys.executable, "-m", "hairpin", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(wait)
    command.kill()
    command.wait()


def settled(read: Callable[[], list[str]], wanted: list[str]) -> list[str]:
    """What is there, once it is as wanted or some seconds have gone by."""
    for _ in range(40):
        found = read()
        if found == wanted:
            break
        time.sleep(0.25)
    return found


def test_a_killed_trace_leaves_nothing(lab: Lab) -> None:
    traced(lab.client, WEB)
    before = lab.rules()
    chance = random.Random(7)
    for _ in range(KILLS):
        killed(lab, chance.uniform(0.1, 1.2))
    assert settled(lab.rules, before) == before
    assert traced(lab.client, WEB).disposition == "delivered"


@pytest.mark.parametrize("lab", WORLDS[:1], indirect=True)  # where rules belong to nobody
def test_what_another_s_trace_left_is_swept(lab: Lab) -> None:
    before = lab.rules()
    rule = "-p tcp --dport 80 -m comment --comment 'hairpin trace 1-1' -j TRACE"
    lab.run(NODE, f"iptables-legacy -t raw -I PREROUTING {rule}")
    assert lab.rules() != before
    traced(lab.client, WEB)
    assert lab.rules() == before
