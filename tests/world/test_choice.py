"""Which kernel, and what is said when there is none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hairpin.kernel import probe
from hairpin.kernel.errors import KernelError
from hairpin.lab.session import LabError
from hairpin.world import choice


def refuse(_: object) -> list[probe.Result]:
    raise KernelError(errno.EPERM, "unshare")


def results(*absent: str) -> list[probe.Result]:
    return [probe.Result(name, name not in absent, "no") for name in probe.FOR_LABS]


def test_auto_takes_the_host_where_it_has_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "attempt", lambda _: results())
    picked = choice.choose("auto")
    assert picked.guest is None
    assert picked.reason == "this machine's kernel (it has all that Services need)"
    assert picked.abilities.unserved is None


@pytest.mark.guest
@pytest.mark.parametrize(
    ("absent", "said"),
    [
        (["ipvs", "dummy"], "embedded kernel (this machine's has no IPVS, dummy links)"),
        (["br-netfilter"], "embedded kernel (this machine's has no br_netfilter)"),
    ],
)
def test_auto_says_what_the_host_lacks(
    monkeypatch: pytest.MonkeyPatch, absent: list[str], said: str
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(probe, "attempt", lambda _: results(*absent))
    picked = choice.choose("auto")
    assert picked.guest is not None
    assert picked.reason == said


def test_host_without_ipvs_is_taken_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "attempt", lambda _: results("ipvs", "iptables"))
    picked = choice.choose("host")
    assert picked.guest is None
    assert picked.abilities.unserved == "no"
    assert picked.abilities.legacy_iptables
    assert picked.abilities.iptables


@pytest.mark.parametrize("cause", ["namespaces", "no bridge"])
def test_host_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch, cause: str) -> None:
    attempt = refuse if cause == "namespaces" else lambda _: results("bridge")
    monkeypatch.setattr(probe, "attempt", attempt)
    with pytest.raises(LabError, match=f"on the host's kernel: .*{cause}") as caught:
        choice.choose("host")
    assert str(caught.value.remedy).startswith("use --kernel guest")
    assert caught.value.exit_code == 2


def test_without_the_package_both_reasons_and_the_command_are_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(choice, "_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for wanted in ("auto", "guest"):
        with pytest.raises(LabError, match=r"linux\.uml, is not installed") as caught:
            choice.choose(wanted)
        assert str(caught.value.remedy).startswith("apt-get install user-mode-linux")
        assert caught.value.exit_code == 2


def test_modules_of_another_kernel_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(choice, "_MODULES", tmp_path)
    with pytest.raises(LabError, match="modules are not in"):
        choice.find_guest()


def test_the_memory_s_folder_must_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match="is too small"):
        choice._temporary(1 << 60)
    monkeypatch.setattr(choice, "_TEMPORARY", ("/proc",))
    assert choice._temporary(1 << 20) != "/proc"
