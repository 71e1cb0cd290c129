"""``hairpin check --cluster``: the story's claims on recorded nodes of kube-proxy."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hairpin.cli.main import main
from tests.cli.test_audit import FACTS, MODES, cluster
from tests.cli.test_plan import Ran


@pytest.fixture(name="kubeconfig")
def _kubeconfig(tmp_path: Path) -> Iterator[Path]:
    with cluster(tmp_path) as file:
        yield file


def check(kubeconfig: Path, folder: Path, mode: str, *words: str) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    config = FACTS / "input" / f"kube-proxy-config.{mode}.yaml"
    given = ["--kubeconfig", str(kubeconfig), "--config", str(config), "--state", str(folder)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["check", "--cluster", *given, *words])
    return Ran(code, out.getvalue(), err.getvalue())


def results(ran: Ran) -> dict[str, str]:
    return {one["id"].removeprefix("seed."): one["result"] for one in json.loads(ran.out)["claims"]}


@pytest.mark.parametrize("mode", MODES)
def test_what_each_mode_bears_out(kubeconfig: Path, mode: str) -> None:
    ran = check(kubeconfig, FACTS / mode, mode, "-o", "json")
    found = results(ran)
    assert found["virtual-server"] == found["masquerade"] == "held"
    assert found["vip-local"] == ("held" if mode == "ipvs" else "differs")
    assert found["ipvs-conntrack"] == ("held" if mode == "ipvs" else "skipped")
    assert found["hairpin"] == "skipped"  # the recorded nodes have no bridge
    assert found["forwarding"] == ("held" if mode == "ipvs" else "failed")  # nobody set it there
    assert ran.code == (0 if mode == "ipvs" else 1)


def test_what_a_node_does_not_bear_out(kubeconfig: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FACTS / "ipvs", tmp_path / "d"))
    for name, old, new in (
        ("sysctl.txt", "vs.conntrack = 1", "vs.conntrack = 0"),
        ("ipvsadm-save.txt", "-A -t 10.96.1.1:80 -s rr\n", ""),
        ("iptables-save.txt", "-j MASQUERADE --random-fully", "-j RETURN"),
    ):
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))
    lines = (folder / "ipvsadm-save.txt").read_text().splitlines(keepends=True)
    kept = (line for line in lines if not line.startswith("-a -t 10.96.1.1:80"))
    (folder / "ipvsadm-save.txt").write_text("".join(kept))
    ports = [{"ifname": "veth1", "master": "cni0", "hairpin": False}]
    (folder / "bridge-link.json").write_text(json.dumps(ports))
    ran = check(kubeconfig, folder, "ipvs", "-o", "json")
    found = results(ran)
    failed = {name for name, result in found.items() if result == "failed"}
    assert failed == {"ipvs-conntrack", "virtual-server", "masquerade", "hairpin"}, found
    assert ran.code == 1
    said = check(kubeconfig, folder, "ipvs", "--lang", "zh").out
    assert "not so   seed.hairpin         网桥可以把帧从它进来的端口送回去" in said
    assert said.splitlines()[-1].startswith("node1, ipvs mode: 4 held, 4 not so; ")


def test_wrong_words(kubeconfig: Path) -> None:
    ran = check(kubeconfig, FACTS / "ipvs", "ipvs", "--connect")
    assert (ran.code, ran.out) == (2, "") and "--connect is for this node" in ran.err
    ran = check(kubeconfig, FACTS / "ipvs", "ipvs", "nodeport")
    assert (ran.code, ran.out) == (2, "") and "all of them" in ran.err
