"""Claims in several modes: the matrix of made-up verdicts, and the real thing on the host."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hairpin.claims import outcome, side_by_side
from hairpin.claims.base import Text
from hairpin.claims.catalogue import CLAIMS
from hairpin.claims.differences import NO_LOCALHOST
from hairpin.claims.document import markdown
from hairpin.claims.promises import Finding, Promise, Result, Verdict
from hairpin.claims.side_by_side import Run
from hairpin.claims.topics import Mode
from hairpin.claims.topics_table import BY_NAME

CLAIM = Promise(
    id="services.nodeport.test", says=Text("what is tried", "测试"), source="a test", steps=()
)


def _run(mode: Mode, result: Result) -> Run:
    differs = NO_LOCALHOST if result == "differs" else None
    seen = "timeout" if result == "failed" else "refused"
    finding = Finding(
        what="a try", held=result != "failed", differs=differs, expected="refused", seen=seen
    )
    verdict = Verdict(claim=CLAIM, mode=mode, result=result, findings=(finding,))
    return Run(mode=mode, kernel="Linux 6", seconds=1.0, verdicts=(verdict,))


RUNS = [_run("ipvs", "held"), _run("iptables", "failed"), _run("nftables", "differs")]


def test_the_matrix_in_words() -> None:
    told = side_by_side.text(RUNS, "en", colour=False)
    head, row = [line.split() for line in told.splitlines()[:2]]
    assert head == ["IPVS", "IPTABLES", "NFTABLES", "CLAIM", "SAYS"]
    assert row == ["held", "failed", "differs", "nodeport.test", "what", "is", "tried"]
    assert "iptables: Failed:\n  nodeport.test\n    ✗ a try: expected refused, saw timeout" in told
    assert (
        f"nftables: Differs as documented:\n  {NO_LOCALHOST.topic}: {NO_LOCALHOST.reason.en}"
        in told
    )
    assert "\033[31mfailed\033[0m" in side_by_side.text(RUNS, "en", colour=True)


def test_json_and_xml_carry_the_mode() -> None:
    told = side_by_side.structured(RUNS, "en", 3.0)
    expected = {"ipvs": "held", "iptables": "failed", "nftables": "differs"}
    assert told["matrix"] == [{"id": CLAIM.id, **expected}]
    assert [one["mode"] for one in told["modes"]] == list(expected)
    differs = told["modes"][2]["claims"][0]["findings"][0]["differs"]
    assert differs["topic"] == "localhost-node-port"
    root = ElementTree.fromstring(outcome.xml([one for run in RUNS for one in run.verdicts]))
    suites = [suite.get("name") for suite in root]
    assert suites == [f"{mode}.services.nodeport" for mode in expected]


def test_the_document_says_what_each_mode_does() -> None:
    page = markdown(RUNS)
    assert "| test | what is tried | held | failed | differs | a test |" in page
    topic = BY_NAME["localhost-node-port"]
    assert f"| [{topic.about.en}](#{topic.name}) | refused | answered | refused |" in page


@pytest.mark.host
@pytest.mark.timeout(400)
class TestOnTheHost:
    """iptables and nftables: what is quick, and each difference among it."""

    LONG = ("rollout", "proxy", "node", "graceful")

    def test_all_claims(self, tmp_path: Path) -> None:
        subjects = dict.fromkeys(claim.subject for claim in CLAIMS)
        words = [one for one in subjects if one not in self.LONG or "HAIRPIN_LONG" in os.environ]
        junit = tmp_path / "check.xml"
        command = [sys.executable, "-m", "hairpin", "check", *words, "-o", "json"]
        command += ["--mode", "iptables,nftables", "--kernel", "host", "--junit", str(junit)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=390, check=False)
        assert done.stdout, done.stderr
        told = json.loads(done.stdout)
        wrong = [
            (run["mode"], claim["id"], claim["why"], claim["findings"])
            for run in told["modes"]
            for claim in run["claims"]
            if claim["result"] not in ("held", "differs", "skipped")
        ]
        assert not wrong
        assert done.returncode == 0
        assert [run["mode"] for run in told["modes"]] == ["iptables", "nftables"]
        seen = {
            (run["mode"], finding["differs"]["topic"])
            for run in told["modes"]
            for claim in run["claims"]
            for finding in claim["findings"]
            if finding["differs"]
        }
        assert {topic for mode, topic in seen if mode == "iptables"} == {
            "cluster-ip-other-port", "external-no-endpoints",
        }  # fmt: skip
        assert {topic for mode, topic in seen if mode == "nftables"} == {
            "localhost-node-port", "loopback-source", "node-port-addresses",
            "cluster-ip-unallocated", "invalid-packets", "firewall-forward-outside",
            "firewall-health-check",
        }  # fmt: skip
        assert ElementTree.parse(junit).getroot().get("failures") == "0"
