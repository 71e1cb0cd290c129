"""Faults made in the embedded kernel: the cause is named, and the printed mend mends it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hairpin.claims.faults import FAULTS, PAIRS
from hairpin.claims.faults_base import Fault
from hairpin.claims.faults_runner import try_fault
from hairpin.claims.tracing import Question, observe, snapshot_of
from hairpin.trace.causes import TABLE
from hairpin.world.client import Client
from tests.cli.command import Hairpin
from tests.trace.conftest import typed

QUICK = (
    "no-hairpin",
    "ipvs-conntrack-by-hand",
    "selector-matches-nothing",
    "input-rule",
    "no-route-to-node",
    "mtu-too-small",
    "affinity-to-a-dead-endpoint",
    "sidecar-redirect-inward",
    "policy-blackhole",
    "wrong-neighbour-6",
    "cluster-ip-not-in-set",
)
"""Those that are made in every run, one for each kind of evidence; HAIRPIN_LONG makes all."""

_IPVS = [one for one in (*FAULTS, *PAIRS) if "ipvs" in one.modes]
_MADE = [one for one in _IPVS if one.id in QUICK or os.environ.get("HAIRPIN_LONG")]


@pytest.mark.parametrize("fault", _MADE, ids=lambda one: one.id)
@pytest.mark.guest
def test_the_cause_is_named_and_mended(cast: Hairpin, client: Client, fault: Fault) -> None:
    found = try_fault(client, fault, lambda line: typed(line, **cast.env))
    assert not found.error
    assert found.right, found
    assert found.mended is not False, found


@pytest.mark.guest
def test_looking_changes_nothing(cast: Hairpin, client: Client) -> None:
    """Neither rules nor links nor sockets are left, and none are there meanwhile but copies."""
    look = (
        "iptables-save | grep -v ^# | sed 's/ .[0-9]*:[0-9]*.$//'; ip -o link | "
        "sed 's/ qlen.*//'; cat /proc/net/packet | wc -l"
    )

    def state() -> str:
        words = ["sh", "-c", look]
        return str(client.call("run", netns="node_n1", argv=words)["output"])

    before = state()
    asked = Question(source="client", to="svc/bar:http")
    plain = client.call(
        "trace",
        netns="client",
        probe={"ip": "10.96.0.102", "port": 80},
        watch=False,
    )
    watched = observe(client, snapshot_of(client), asked)
    assert plain["tried"]["outcome"] == watched.tried.outcome == "answered"
    assert state() == before


@pytest.mark.guest
def test_only_its_own_packets_are_told(cast: Hairpin, client: Client) -> None:
    from hairpin.trace.follow import follow

    for _ in range(20):
        probe = {"ip": "10.96.0.102", "port": 80}
        client.call("probe", attempts=[{"netns": "client", "probe": probe}])
    found = observe(client, snapshot_of(client), Question(source="client", to="svc/bar:http"))
    ports = {
        port
        for flight in follow(found).flights
        for sight in flight.sights
        for port in (sight.packet.ends.source_port, sight.packet.ends.destination_port)
    }
    assert ports == {found.tried.source_port, 80, 8080}


def test_every_fault_can_be_named() -> None:
    known = {id_ for row in TABLE for id_ in row.ids}
    assert all(cause in known for fault in _IPVS for cause in fault.causes)
    ids = [fault.id for fault in (*FAULTS, *PAIRS)]
    assert len(ids) == len(set(ids))


def test_the_page_about_traces_has_every_cause() -> None:
    said = (Path(__file__).parents[2] / "docs" / "trace.md").read_text()
    assert all(f"`{id_}`" in said for row in TABLE for id_ in row.ids)
