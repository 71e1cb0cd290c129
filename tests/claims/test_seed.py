"""The seed's story on a real kernel: every claim, by netlink and by the shell commands shown."""

import json
import subprocess
import sys
from typing import Any

import pytest

from hairpin.claims.seed import STEPS
from hairpin.tour.words import WHY

pytestmark = pytest.mark.guest

CLAIMS = [claim.id for step in STEPS for claim in step.claims]


def _tour(*more: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "hairpin", "tour", "-o", "json", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.stdout, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    told["exit"] = done.returncode
    return told


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return _tour()


@pytest.fixture(scope="module")
def told_by_hand() -> dict[str, Any]:
    return _tour("--by-hand")


def _claims(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {claim["id"]: claim for step in told["steps"] for claim in step["claims"]}


@pytest.mark.parametrize("claim", CLAIMS)
def test_claim_holds(told: dict[str, Any], claim: str) -> None:
    said = _claims(told)[claim]
    assert said["held"], f"expected {said['expected']}, seen {said['seen']}"


@pytest.mark.parametrize("claim", CLAIMS)
def test_claim_holds_when_the_shown_commands_are_typed(
    told_by_hand: dict[str, Any], claim: str
) -> None:
    said = _claims(told_by_hand)[claim]
    assert said["held"], f"expected {said['expected']}, seen {said['seen']}"


def test_the_json_counts_what_it_lists(told: dict[str, Any]) -> None:
    claims = _claims(told)
    held = sum(1 for claim in claims.values() if claim["held"])
    assert (told["held"], told["failed"]) == (held, len(claims) - held)
    assert [step["id"] for step in told["steps"]] == [step.id for step in STEPS]
    assert told["exit"] == (1 if told["failed"] else 0)


def test_every_step_is_told_in_both_languages() -> None:
    assert WHY.keys() == {step.id for step in STEPS}
    for step in STEPS:
        assert WHY[step.id].en.isascii() and not WHY[step.id].zh.isascii()


def test_a_claim_that_does_not_hold_is_seen() -> None:
    """The judge is no rubber stamp: without what the step stands on, its claims fail."""
    from hairpin.claims.runner import Stage, judge
    from hairpin.claims.seed import NODE
    from hairpin.world import lifecycle

    riddle = next(step for step in STEPS if step.id == "all-three").claims[0]
    with lifecycle.ephemeral("test") as lab:
        lab.call("bare", nodes=["node"])
        lab.call(
            "change",
            changes=[
                {"verb": "add", "netns": "", "object": {"kind": "netns", "name": "foo"}},
            ],
        )
        verdict = judge(Stage(lab, NODE), riddle)
    assert not verdict.held
    assert "no route" in verdict.seen.en
