"""Nodes that reach each other's Pods through a VXLAN, and what may be wrong with it."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

from hairpin.claims import faults_runner
from hairpin.claims.faults_base import Fault
from hairpin.claims.faults_cast import N1, N2, OBJECTS, ask
from hairpin.claims.faults_made import TO_FAR, by_hand
from hairpin.claims.tracing import traced
from hairpin.world import lifecycle
from hairpin.world.client import Client
from tests.trace.conftest import typed

pytestmark = pytest.mark.host

_ENTRY = "m=$(bridge fdb show dev vxlan0 | grep dst | head -1 | cut -d' ' -f1)"
_DROP = "INPUT -p udp --dport 8472 -j DROP"

FAULTS: tuple[Fault, ...] = (
    by_hand(
        "entry-gone", ("the tunnel does not know the other node", ""),
        [(N1, f"{_ENTRY}; bridge fdb del $m dev vxlan0")], TO_FAR, "tunnel-entry",
    ),
    by_hand(
        "entry-of-nobody", ("the tunnel leads to nobody", ""),
        [(N1, f"{_ENTRY}; bridge fdb replace $m dev vxlan0 dst 192.168.100.77")], TO_FAR,
        "tunnel-entry",
    ),
    by_hand(
        "packets-dropped", ("the other node drops the tunnel's packets", ""),
        [(N2, f"iptables -I {_DROP}")], TO_FAR, "tunnel-rule", undo=[(N2, f"iptables -D {_DROP}")],
    ),
    by_hand(
        "tunnel-down", ("the other end of the tunnel is down", ""),
        [(N2, "ip link set vxlan0 down")], TO_FAR, "link-down", mends=False,
        note="its routes went with it",
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def tunnelled(runtime_folder: str) -> Iterator[Client]:
    """The cast with an overlay."""
    objects = copy.deepcopy(list(OBJECTS))
    for one in objects:
        if one["kind"] == "Node":
            one["metadata"]["annotations"] = {"hairpin.dev/overlay": "vxlan"}
    with lifecycle.ephemeral("tunnel", "host", mode="nftables") as lab:
        faults_runner.apply(lab, objects, config={"mode": "nftables"})
        yield lab


def test_what_works_has_no_cause(tunnelled: Client) -> None:
    for asked in (TO_FAR, ask("client", "svc/far:http", ipv6=True), ask("far", "svc/foo:udp")):
        trace = traced(tunnelled, asked)
        assert (trace.disposition, trace.cause) == ("delivered", None)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: one.id)
def test_the_cause_is_named_and_mended(tunnelled: Client, fault: Fault) -> None:
    found = faults_runner.try_fault(
        tunnelled, fault, lambda line: typed(line, HAIRPIN_LAB=tunnelled.name)
    )
    assert not found.error
    assert found.right, found
    assert found.mended is not False, found
