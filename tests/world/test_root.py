"""The root of a World on the host's kernel, where the kernel refuses overlays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hairpin.kernel import syscalls, throwaway
from hairpin.world import root

pytestmark = pytest.mark.host


def mount_without_overlays(
    source: str | None, target: str, fstype: str | None, flags: int = 0, data: str | None = None
) -> None:
    if fstype == "overlay":
        raise OSError(errno.ENODEV, "no overlay")
    syscalls.mount(source, target, fstype, flags, data)


def refused(path: str) -> str:
    """The name of the error that writing there gives, or nothing."""
    try:
        Path(path).write_text("x")
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def look() -> dict[str, object]:
    pytest.MonkeyPatch().setattr(root, "mount", mount_without_overlays)  # in a child that ends
    root.enter(["/usr/bin"], alone=False)
    return {
        "programs": os.access("/usr/bin/env", os.X_OK),
        "refused": [refused(f"{path}/hairpin-test-mine") for path in ("/usr", "/var", "/root")],
        "written": [refused(f"{path}/hairpin-test-mine") for path in ("", "/etc", "/run", "/tmp")],
        "hosts": Path("/etc/hosts").read_text(),
        "stage": Path("/.host").exists(),
    }


def test_without_overlays_folders_are_read_only_and_etc_is_a_copy() -> None:
    """Run in namespaces to throw away: nothing of it can reach the machine."""
    mounts = Path("/proc/self/mountinfo").read_text()
    assert throwaway.run(look) == {
        "programs": True,
        "refused": ["EROFS"] * 3,
        "written": [""] * 4,
        "hosts": Path("/etc/hosts").read_text(),
        "stage": False,
    }
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert not Path("/etc/hairpin-test-mine").exists()
