"""Completion: what ``__complete`` offers, and bash itself with the script that we print."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.cli.complete import candidates, split
from hairpin.cli.main import VERBS
from tests.cli.command import Hairpin

ASK = r"""
source <(hairpin completion bash)
# As readline would, for a line that is typed up to its end; = and : part words.
COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=(hairpin) COMP_CWORD=0
compopt() { echo "option $2"; }
$(complete -p hairpin | sed -n 's/.*-F \([^ ]*\).*/\1/p')
printf '%s\n' "${COMPREPLY[@]}"
"""


def _offered(*words: str) -> list[str]:
    return [one.partition("\t")[0] for one in candidates(list(words))]


def _bash(tmp_path: Path, env: dict[str, str], line: str) -> list[str]:
    command = tmp_path / "hairpin"
    if not command.exists():
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m hairpin "$@"\n')
        command.chmod(0o755)
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK, "bash", line],
        capture_output=True,
        text=True,
        env={**env, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        timeout=30,
        check=True,
    )
    assert not done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hairpin ", ["hairpin", ""]),
        ("hairpin get  po", ["hairpin", "get", "po"]),
        ("a 'b c' d\\ e", ["a", "b c", "d e"]),
        ('a "b', ["a", "b"]),
        ("a '' ", ["a", "", ""]),
    ],
)
def test_a_line_that_is_being_typed(line: str, words: list[str]) -> None:
    assert split(line) == words


@given(
    st.lists(st.sampled_from([*VERBS, "--lab", "-n", "-o", "pods", "po/", "=", "", "a,b", "--"]))
)
def test_no_line_is_an_error(words: list[str]) -> None:
    for one in candidates(words or [""]):
        assert one


def test_options_kinds_and_settings() -> None:
    assert set(_offered("get", "--n")) == {"--namespace", "--no-headers"}
    assert _offered("get", "s") == ["services"]
    assert _offered("get", "vs") == ["virtualservers"]
    assert _offered("get", "pods,sv") == ["pods,services"]
    assert _offered("get", "pods", "-o", "") == ["wide", "json", "yaml", "name"]
    assert _offered("up", "--kernel=g") == ["--kernel=guest"]
    assert _offered("up", "-f", "ex") == [":file"]
    assert _offered("set", "masq") == [":nospace", "masquerade="]
    assert _offered("set", "hairpin=p") == ["hairpin=promisc", "hairpin=port"]
    assert _offered("help", "lo") == ["logs"]
    assert _offered("get", "ru") == ["rules"]
    assert _offered("set", "mo") == [":nospace", "mode="]
    assert _offered("set", "mode=n") == ["mode=nftables"]
    assert _offered("migrate", "ip") == ["ipvs", "iptables"]
    assert _offered("migrate", "ipvs", "i") == ["iptables"]
    assert _offered("migrate", "ipvs", "iptables", "") == []
    assert _offered("check", "--mode", "") == ["ipvs", "iptables", "nftables", "all"]
    assert _offered("check", "--mode", "ipvs,") == ["ipvs,iptables", "ipvs,nftables"]
    assert _offered("check", "--mode=ipvs,nft") == ["--mode=ipvs,nftables"]
    assert _offered("get", "rules", "--mode", "ip") == ["ipvs", "iptables"]
    assert _offered("exec", "foo", "--", "") == []
    assert "pods" not in _offered("describe", "virtual")


def test_verbs_are_completed_without_importing_what_is_heavy() -> None:
    script = (
        "import sys; from hairpin.cli.main import main; main(['__complete', 'ge']); "
        "print([m for m in ('argparse', 'msgspec', 'yaml', 'rich', 'socket', 'typing', 're') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-ISc", f"import sys; sys.path[:0] = {sys.path!r}; {script}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("get\t") and second == "[]"


def test_bash_completes_verbs_and_parts_of_words(tmp_path: Path) -> None:
    env = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    assert _bash(tmp_path, env, "hairpin desc") == ["describe"]
    assert _bash(tmp_path, env, "hairpin set masquerade=o") == ["on", "off"]
    assert _bash(tmp_path, env, "hairpin set br-n") == ["option nospace", "br-netfilter="]
    assert _bash(tmp_path, env, "hairpin up --kernel=h") == ["host"]
    assert _bash(tmp_path, env, "hairpin up -f ") == ["option default", ""]
    assert _bash(tmp_path, env, "hairpin get pods ") == [""]  # no lab runs


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_good_shell(shell: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    text = Hairpin(tmp_path).ok("completion", shell)
    subprocess.run([shell, "-n"], input=text, text=True, timeout=30, check=True)


@pytest.mark.guest
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hairpin exec c", ["client"]),
        ("hairpin exec node/", ["node/node"]),
        ("hairpin logs pod/web-", ["pod/web-0", "pod/web-1"]),
        ("hairpin get pods web-0 web-", ["web-1"]),
        ("hairpin delete svc/", ["svc/web"]),
        ("hairpin describe deploy ", ["web"]),
        ("hairpin get pods -n other ", ["far"]),
        ("hairpin -n other get pods ", ["far"]),
        ("hairpin get -n o", ["other"]),
        ("hairpin --lab ", ["default"]),
    ],
)
def test_bash_completes_what_the_lab_has(
    shared: Hairpin, tmp_path: Path, line: str, words: list[str]
) -> None:
    assert _bash(tmp_path, shared.env, line) == words
