"""A real cluster's objects in a lab: they come up, serve, and what is missing is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import ROOT, Hairpin

pytestmark = pytest.mark.guest

CLUSTER = (ROOT / "tests" / "source" / "cluster.yaml").read_text()


def test_a_cluster_is_rebuilt_with_echo_pods(tmp_path: Path) -> None:
    hairpin = Hairpin(tmp_path)
    try:
        ran = hairpin("up", "-f", "-", stdin=CLUSTER)
        assert ran.code == 0, ran.err
        assert all(line.startswith("warning: import: ") for line in ran.err.splitlines())
        pods = json.loads(hairpin.ok("get", "pods", "-A", "-o", "json"))["items"]
        assert {one["metadata"]["name"]: one["status"]["podIP"] for one in pods} == {
            "agent-a": "10.42.0.2",
            "coredns-7c-a": "10.42.1.2",
            "web-6d4b-x1": "10.42.0.5",
            "web-6d4b-x2": "10.42.1.7",
        }
        shop = ("exec", "-n", "shop", "web-6d4b-x1", "--")
        seen = {
            json.loads(hairpin.ok(*shop, "curl", "-sS", "--max-time", "5", "web"))["pod"]
            for _ in range(4)
        }
        assert len(seen) == 1, "it has session affinity"
        six = ("curl", "-gsS", "--max-time", "5", "[fd00:43::7]")
        said = json.loads(hairpin.ok(*shop, *six))
        assert (said["pod"], said["node"]) in {("web-6d4b-x1", "one"), ("web-6d4b-x2", "two")}
        web = ("get", "svc", "web", "-n", "shop", "-o", "json")
        shown = json.loads(hairpin.ok(*web))
        assert shown["spec"]["ports"][0]["nodePort"] == 30080
        assert "10.42.0.2" in hairpin.ok(*shop, "getent", "hosts", "agent.kube-system")
    finally:
        hairpin("down")
