"""``hairpin plan --mode nftables``: from files to the text of ``nft list ruleset``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hairpin.cli.main import main
from tests.plan.test_kube_proxy_nft import DUMPS, INPUT, blocks

EXAMPLES = Path(__file__).parents[2] / "examples"
CIDRS = """
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [%s, "fd00:96::/108"]}
"""


def test_the_recorded_services_give_the_recorded_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cidrs = tmp_path / "cidrs.yaml"
    cidrs.write_text(CIDRS % "10.96.0.0/12")
    config = str(INPUT / "kube-proxy-config.nftables.yaml")
    words = ["--mode", "nftables", "--config", config, "--state", str(DUMPS), "-o", "restore"]
    assert main(["plan", "-f", str(INPUT), "-f", str(cidrs), *words]) == 0
    out, err = capsys.readouterr()
    heading, _, text = out.partition("\n")
    assert heading == "### nft list ruleset"
    assert blocks(text) == blocks((DUMPS / "ruleset.nft").read_text())
    assert "ServiceCIDR" not in err


def test_a_node_s_own_ruleset_tells_the_service_cidrs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = str(INPUT / "kube-proxy-config.nftables.yaml")
    words = ["--config", config, "--state", str(DUMPS), "-o", "restore"]
    assert main(["plan", "-f", str(INPUT), *words]) == 0
    out, err = capsys.readouterr()
    assert blocks(out.partition("\n")[2]) == blocks((DUMPS / "ruleset.nft").read_text())
    assert "ServiceCIDR" not in err


def test_without_service_cidrs_of_a_cluster_it_says_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ip-addr.json").write_bytes((DUMPS / "ip-addr.json").read_bytes())
    words = ["--mode", "nftables", "--state", str(tmp_path), "-o", "restore"]
    assert main(["plan", "-f", str(INPUT), *words]) == 0
    out, err = capsys.readouterr()
    assert "unallocated" not in out
    assert "kubectl get servicecidrs" in err
    assert main(["plan", "-f", str(EXAMPLES / "web.yaml"), *words]) == 0
    out, err = capsys.readouterr()
    assert "ip daddr 10.96.0.0/16 drop" in out  # hairpin gave the address: it knows from where
    assert "servicecidrs" not in err


def test_a_wrong_service_cidr_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cidrs = tmp_path / "cidrs.yaml"
    cidrs.write_text(CIDRS % "everything")
    assert main(["plan", "-f", str(cidrs), "--mode", "nftables"]) == 2
    assert "ServiceCIDR kubernetes: spec.cidrs[0]: " in capsys.readouterr().err


def test_every_field_of_its_objects_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--mode", "nftables", "--state", str(DUMPS), "-o", "json"]
    assert main(["plan", "-f", str(INPUT), *words]) == 0
    shown = json.loads(capsys.readouterr().out)
    page = (EXAMPLES.parent / "docs" / "json.md").read_text()
    rows = page.split("### Kernel objects\n")[1].split("\n## ")[0]
    fields = {
        kind: set(re.findall(r"`([a-z_]+)`", row))
        for kind, row in re.findall(r"^\| (nft-[a-z]+) \| (.*) \|$", rows, re.MULTILINE)
    }
    seen = [each["object"] for each in shown["objects"] if each["object"]["kind"] in fields]
    assert {one["kind"] for one in seen} == fields.keys()
    for one in seen:
        assert one.keys() - {"kind"} == fields[one["kind"]] - {"op"}
