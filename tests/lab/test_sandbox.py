"""Processes that are to end with their namespaces, while others come and go."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from hairpin.lab.sandbox import kill_in

pytestmark = pytest.mark.host


def test_one_that_ends_while_it_is_looked_at_does_not_save_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel says EACCES of it, where it was still there when the path was looked up."""
    really = os.stat

    def stat(path: str) -> os.stat_result:
        if path == "/proc/1/ns/net":
            raise PermissionError(13, "Permission denied", path)
        return really(path)

    with subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; sleep 60"], stdout=-1) as inside:
        assert inside.stdout is not None and inside.stdout.readline()
        own = Path(f"/proc/{inside.pid}/ns/net").stat().st_ino
        assert own != Path("/proc/self/ns/net").stat().st_ino
        monkeypatch.setattr(os, "stat", stat)
        kill_in("net", {own})
        assert inside.wait(timeout=5) == -signal.SIGKILL
