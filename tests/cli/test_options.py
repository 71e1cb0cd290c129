"""Options that mean nothing together, and values out of bounds: told at once, with what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hairpin.cli.impairment import settings
from hairpin.lab.session import LabError
from tests.cli.command import WEB, Hairpin

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: a, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: a, user: {token: abc}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
current-context: a
"""


@pytest.mark.parametrize(
    "words", [("--connect",), ("--kubeconfig", "x"), ("--state", "x"), ("--config", "x")]
)
def test_a_cluster_s_options_want_a_cluster(tmp_path: Path, words: tuple[str, ...]) -> None:
    ran = Hairpin(tmp_path)("check", "clusterip.basic", *words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines() == [
        f"hairpin: {words[0]} is for a node of a real cluster",
        f"  hairpin check --cluster {words[0]} ...",
    ]


def test_a_file_that_is_not_there_is_told_before_the_kernel_is_read(tmp_path: Path) -> None:
    ran = Hairpin(tmp_path)("audit", "-f", str(tmp_path / "none.yaml"))
    assert ran.code == 2
    assert ran.err == f"hairpin: {tmp_path}/none.yaml: No such file or directory\n"


def test_an_api_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG)
    ran = Hairpin(tmp_path)("diff", "--kubeconfig", str(file), "--hostname-override", "n")
    assert ran.code == 2
    assert ran.err.startswith(f"hairpin: {file}, http://127.0.0.1:1: ")


@pytest.mark.parametrize("value", ["1", "70000", "x", ""])
def test_an_mtu_is_within_bounds(value: str) -> None:
    with pytest.raises(LabError, match=r"not from 68 to 65535 bytes"):
        settings([f"mtu={value}"])
    assert settings(["mtu=68"]) == {"mtu": 68}


@pytest.mark.host
@pytest.mark.parametrize("verb", ["diff", "plan"])
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path, verb: str) -> None:
    """``| head``: what was read is enough, and nothing is said."""
    alone = ["unshare", "-n", *Hairpin(tmp_path).command]  # in a namespace without anything
    words = [verb, "-f", WEB, "--mode", "nftables", "-o", "json"]
    with subprocess.Popen([*alone, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ran:
        assert ran.stdout is not None and ran.stderr is not None
        ran.stdout.close()
        said = ran.stderr.read()
    assert (ran.returncode, said) == (0, b"")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_the_characters_gets_question_marks(
    tmp_path: Path, encoding: str
) -> None:
    hairpin = Hairpin(tmp_path)
    hairpin.env["PYTHONIOENCODING"] = encoding
    ran = hairpin("check", "--list", "nodeport.basic", "--lang", "zh")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1].startswith("nodeport.basic   ???")
