"""Parts of the keeper and of a World's folder, without a World."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hairpin.kernel.reactor import Reactor
from hairpin.lab.session import LabError
from hairpin.world import bytecode, directory
from hairpin.world.keeper import HangUps


def test_a_hang_up_is_seen_although_nobody_reads() -> None:
    errors: list[BaseException] = []
    seen: list[str] = []
    reactor = Reactor(errors.append)

    def gone() -> None:
        seen.append("gone")
        reactor.stop()

    hang_ups = HangUps(reactor)
    ours, theirs = socket.socketpair()
    with ours:
        hang_ups.watch(ours.fileno(), gone)
        theirs.send(b"not read")
        reactor.after(0.05, lambda: seen.append("still there"))
        reactor.after(0.1, theirs.close)
        reactor.after(5, reactor.stop)
        reactor.run()
        assert seen == ["still there", "gone"]
        assert errors == []
        hang_ups.forget(ours.fileno())


def test_the_folder_of_all_worlds_must_be_ones_own(tmp_path: Path) -> None:
    assert directory.base({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "hairpin"
    (tmp_path / "hairpin").chmod(0o777)
    with pytest.raises(LabError, match="not a folder of yours alone"):
        directory.base({"XDG_RUNTIME_DIR": str(tmp_path)})


@pytest.mark.parametrize("kind", ["with space", "missing"])
def test_a_runtime_folder_that_cannot_serve_is_passed_over(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / kind
    if kind != "missing":
        folder.mkdir()
    assert tmp_path not in directory.base({"XDG_RUNTIME_DIR": str(folder)}).parents


def test_a_world_is_alive_while_its_lock_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path, lock = directory.create("one")
    (path / "rest").mkdir()
    assert directory.alive(path)
    assert directory.all_alive() == ["one"]
    with pytest.raises(LabError, match="running already"):
        directory.create("one")
    os.close(lock)
    again, lock = directory.create("one")
    assert again == path
    assert not (path / "rest").exists()
    os.close(lock)
    assert directory.all_alive() == []
    assert list(path.parent.iterdir()) == []


def test_the_last_words_leave_out_what_every_boot_says(tmp_path: Path) -> None:
    text = "SELinux: is what it is\n\nmmapper_init - find_iomem failed\nKernel panic\n  at once\n"
    (tmp_path / directory.CONSOLE).write_text(text)
    assert directory.tail(tmp_path) == "Kernel panic\n  at once"


def test_new_and_changed_sources_are_compiled(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("x = = 1\n")
    bytecode.refresh([tmp_path])
    (compiled,) = (tmp_path / "__pycache__").iterdir()
    before = compiled.stat().st_ino
    bytecode.refresh([tmp_path])
    assert compiled.stat().st_ino == before, "what is current stays"
    source.write_text("x = 12\n")
    bytecode.refresh([tmp_path])
    assert compiled.stat().st_ino != before
