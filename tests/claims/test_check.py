"""Claims about Services on a real kernel: the whole set, and that what is not so is seen."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from hairpin.claims import check
from hairpin.claims.base import Text
from hairpin.claims.cast import PORT, Cast
from hairpin.claims.catalogue import CLAIMS
from hairpin.claims.objects import CLIENT, SELECTOR, cluster_ip, deployment, pod, service, web
from hairpin.claims.promises import (
    REFUSED,
    TIMEOUT,
    Answered,
    Apply,
    Difference,
    Do,
    Expect,
    Promise,
    Step,
    Try,
    Verdict,
)
from hairpin.claims.scene import Scene
from hairpin.claims.services_rollout import during
from hairpin.world import lifecycle
from hairpin.world.client import Client

pytestmark = [pytest.mark.guest, pytest.mark.timeout(700)]


class Run:
    """The whole set, run once as a person would."""

    def __init__(self, folder: Path) -> None:
        self.junit = folder / "check.xml"
        command = [
            sys.executable,
            "-m",
            "hairpin",
            "check",
            "-o",
            "json",
            "--junit",
            str(self.junit),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=690, check=False)
        assert done.stdout, done.stderr
        self.code = done.returncode
        self.told: dict[str, Any] = json.loads(done.stdout)
        self.claims = {claim["id"]: claim for claim in self.told["claims"]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("check"))


@pytest.mark.parametrize("name", [claim.id for claim in CLAIMS])
def test_claim_is_so(run: Run, name: str) -> None:
    claim = run.claims[name]
    wrong = [one for one in claim["findings"] if not one["held"]]
    assert claim["result"] in ("held", "differs", "skipped"), claim["why"] or wrong


def test_the_run_as_a_whole(run: Run) -> None:
    told = run.told
    assert run.code == 0
    assert told["kernel"].startswith("Linux ")
    assert told["differs"] >= 10
    assert sum(told[name] for name in ("held", "differs", "skipped")) == len(CLAIMS)


def test_junit_tells_the_same(run: Run) -> None:
    root = ElementTree.parse(run.junit).getroot()
    assert root.get("tests") == str(len(CLAIMS))
    assert root.get("failures") == root.get("errors") == "0"
    assert root.get("skipped") == str(run.told["skipped"])


@pytest.fixture(scope="module")
def lab(runtime_folder: str) -> Iterator[tuple[Client, Cast]]:
    with lifecycle.ephemeral("test", "guest") as client:
        yield client, check.build(client)


def _claim(name: str, *steps: Step, **more: Any) -> Promise:
    says = Text("what the test says", "测试")
    return Promise(id=f"services.test.{name}", says=says, source="a test", steps=steps, **more)


def _judged(lab: tuple[Client, Cast], *claims: Promise) -> list[Verdict]:
    client, cast = lab
    return check.Check(client, cast, "ipvs").run(claims)


_HERE = Apply(web("n1-a"))
_OTHERWISE: dict[Expect, Difference] = {
    expect: Difference(expect=expect, reason=Text("so", "如此"), source="a test", topic="spread")
    for expect in (REFUSED, Answered(by=("n1-a",)))
}


@pytest.mark.parametrize(
    ("expect", "differs", "result"),
    [
        (Answered(by=("n1-a",)), None, "held"),
        (Answered(by=("n1-b",)), None, "failed"),
        (Answered(by=("n1-a", "n1-b")), None, "failed"),
        (Answered(by=("n1-a",), sees="node"), None, "failed"),
        (TIMEOUT, None, "failed"),
        (TIMEOUT, Answered(by=("n1-a",)), "differs"),
        (Answered(by=("n1-a",)), REFUSED, "failed"),  # a difference that is not seen
    ],
)
def test_a_verdict_is_what_was_seen(
    lab: tuple[Client, Cast], expect: Expect, differs: Expect | None, result: str
) -> None:
    found = {} if differs is None else {"ipvs": _OTHERWISE[differs]}
    tried = Try(client=CLIENT, to=cluster_ip(), expect=expect)
    claim = _claim("one", _HERE, msgspec.structs.replace(tried, differs=found))
    (verdict,) = _judged(lab, claim)
    assert verdict.result == result, verdict
    assert verdict.good is (result != "failed")


def test_claims_leave_nothing_behind(lab: tuple[Client, Cast]) -> None:
    def there() -> list[tuple[str, str]]:
        shown = [
            one
            for kind in ("services", "endpoints", "pods")
            for one in lab[0].call("get", kind=kind)
        ]
        return sorted((one["kind"], one["metadata"]["name"]) for one in shown)

    before = there()
    wrong = Try(client=CLIENT, to=cluster_ip(), expect=TIMEOUT)
    _judged(lab, _claim("one", _HERE, wrong), _claim("two", _HERE))
    assert there() == before


def test_a_roll_out_that_leaves_no_endpoint_is_seen(lab: tuple[Client, Cast]) -> None:
    """Of a Deployment that ends its Pods first, all of them, and whose new ones take a second."""
    probe = {"tcpSocket": {"port": PORT}, "initialDelaySeconds": 1}
    shape = deployment("web", 2, container={"readinessProbe": probe})
    shape["spec"]["strategy"] = {"type": "Recreate"}

    def restart(scene: Scene) -> None:
        scene.lab.call("restart", namespace=scene.namespace, names=["web"])
        scene.lab.call("rollout-status", namespace=scene.namespace, names=["web"], limit=20)

    act = during("while all Pods are replaced", CLIENT, cluster_ip(), restart)
    claim = _claim("gap", Apply((shape, service(selector=SELECTOR))), Do(act), alone=True)
    (verdict,) = _judged(lab, claim)
    assert verdict.result == "failed", verdict
    assert "refused" in verdict.findings[0].seen


def test_what_cannot_be_run_fails_alone(lab: tuple[Client, Cast]) -> None:
    right = Try(client=pod("n1-b"), to=cluster_ip(), expect=Answered(by=("n1-a",)))
    client, cast = lab
    verdicts = _judged(
        (client, msgspec.structs.replace(cast, has=cast.has - {"health"})),
        _claim("no-such-service", Try(client=CLIENT, to=cluster_ip(), expect=REFUSED)),
        _claim("bad-object", Apply(web("n1-a", clusterIP="198.18.0.1")), right),
        _claim("right", _HERE, right),
        _claim("lacking", _HERE, right, needs=frozenset({"health"})),
    )
    assert [one.result for one in verdicts] == ["error", "error", "held", "skipped"]
    assert "there is no Service test-no-such-service/web" in verdicts[0].why
    assert "198.18.0.1" in verdicts[1].why
