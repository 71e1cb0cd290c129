"""Which kernel, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from hairpin.lab.session import LabError
from hairpin.world import choice


def test_the_reason_names_what_the_host_lacks() -> None:
    if (picked := choice.choose("auto")).reason:
        assert "cannot build labs on it yet" in picked.reason


def test_host_is_refused_with_the_reason() -> None:
    with pytest.raises(LabError, match="on the host's kernel") as caught:
        choice.choose("host")
    assert caught.value.remedy == "use --kernel guest"
    assert caught.value.exit_code == 2


def test_without_the_package_both_reasons_and_the_command_are_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(choice, "_PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    for wanted in ("auto", "guest"):
        with pytest.raises(LabError, match=r"linux\.uml, is not installed") as caught:
            choice.choose(wanted)
        assert caught.value.remedy == "apt-get install user-mode-linux"
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
