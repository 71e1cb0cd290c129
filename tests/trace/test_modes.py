"""The same in the host's own kernel, in the modes of nftables and iptables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hairpin.claims import faults, faults_runner
from hairpin.claims.tracing import Question, traced
from hairpin.world import lifecycle
from hairpin.world.client import Client

pytestmark = pytest.mark.host

FAULTS = ("no-hairpin", "both-iptables", "no-route-to-node", "source-ranges")


@pytest.fixture(params=["nftables", "iptables"], scope="module")
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
    assert dnat.by is not None and dnat.by.startswith("chain ")


@pytest.mark.parametrize("name", FAULTS)
def test_the_cause_is_named_and_mended(broken: Client, name: str) -> None:
    fault = faults.named(name)
    assert fault is not None
    found = faults_runner.try_fault(
        broken, fault, lambda line: (1, line), shell=name != "source-ranges"
    )
    assert found.right, found
    assert found.mended or name == "source-ranges", found
