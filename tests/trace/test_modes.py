"""The same in the host's own kernel, in the modes of nftables and iptables."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hairpin.claims import faults, faults_runner
from hairpin.claims.faults_base import Fault, Mode
from hairpin.claims.tracing import Question, traced
from hairpin.world import lifecycle
from hairpin.world.client import Client
from tests.trace.conftest import typed

pytestmark = pytest.mark.host

QUICK = (
    "no-hairpin",
    "both-iptables",
    "no-route-to-node",
    "source-ranges",
    "nft-inet-drop",
    "sidecar-redirect",
    "ports-isolated",
    "nft-endpoint-of-nobody",
    "nft-redirect-to-nobody",
    "nft-arp-drop",
    "mark-blackhole",
    "snat-ports-taken",
    "sep-to-nobody",
)
"""Those that are made in every run; HAIRPIN_LONG makes all."""

MODES: tuple[Mode, ...] = ("nftables", "iptables")
_MADE = [
    (mode, fault)
    for mode in MODES
    for fault in (*faults.FAULTS, *faults.PAIRS)
    if mode in fault.modes and (fault.id in QUICK or os.environ.get("HAIRPIN_LONG"))
]


@pytest.fixture(params=MODES, scope="module")
def broken(request: pytest.FixtureRequest, runtime_folder: str) -> Iterator[Client]:
    """A lab of the cast in that mode."""
    with lifecycle.ephemeral("faults", "host", mode=request.param) as lab:
        faults_runner.build(lab, request.param)
        yield lab


def test_the_rule_and_who_asked_for_it(broken: Client) -> None:
    trace = traced(broken, Question(source="client", to="svc/far:http"))
    assert trace.disposition == "delivered"
    steps = [step for leg in trace.legs for hop in leg.hops for step in hop.steps]
    (dnat,) = [step for step in steps if step.says.startswith("DNAT")]
    assert dnat.says == "DNAT to 10.244.2.10:8080"
    assert dnat.owner == "service default/far:http"
    assert dnat.seen == "hook"
    assert dnat.by is not None and "10.244.2.10" in dnat.by  # the rule itself


@pytest.mark.parametrize(
    ("broken", "fault"),
    _MADE,
    ids=[f"{mode}-{fault.id}" for mode, fault in _MADE],
    indirect=["broken"],
)
def test_the_cause_is_named_and_mended(broken: Client, fault: Fault) -> None:
    found = faults_runner.try_fault(
        broken, fault, lambda line: typed(line, HAIRPIN_LAB=broken.name)
    )
    assert not found.error
    assert found.right, found
    assert found.mended is not False, found
