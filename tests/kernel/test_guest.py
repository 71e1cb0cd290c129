"""IPVS and what else only the embedded kernel has: boots it and runs checks there.

A guest of its own with a bare ``guest_init``, so that these tests need nothing above ``kernel``.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import msgspec
import pytest

import hairpin
from hairpin.kernel.errors import KernelError

HERE = Path(__file__).parent
PYTHON = "/usr/bin/python3"
CHECKS = ("guest_ipvs_check", "guest_ipvs_tables", "guest_ipvs_traffic")


def boot(
    modules: Path, checks: str, folder: str, *, limit: float = 90, words: tuple[str, ...] = ()
) -> str:
    """Everything that a guest prints until it ends, within ``limit`` seconds.

    ``words`` like NAME=VALUE are in the environment of the checks.
    """
    paths = [Path(hairpin.__file__).parents[1], HERE.parents[1], Path(msgspec.__file__).parents[1]]
    argv = [
        "linux.uml", "mem=256M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
        "quiet", "con=null", "con0=null,fd:1", "pty.legacy_count=0", "lpj=20000000",
        "initcall_blacklist=raid6_select_algo,ssl_init", *words, f"uml_dir={folder}",
        f"init={PYTHON}", "--", "-ISE", str(HERE / "guest_init.py"), ":".join(map(str, paths)),
        str(modules), checks,
    ]  # fmt: skip
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
        env={**os.environ, "TMPDIR": folder},
        start_new_session=True,
    ) as guest:
        try:
            return guest.communicate(timeout=limit)[0]
        except subprocess.TimeoutExpired:
            # linux.uml leads a process group of its own
            os.killpg(os.getpgid(guest.pid), signal.SIGKILL)
            raise


@pytest.mark.guest
def test_ipvs_in_the_guest() -> None:
    modules = next(Path("/usr/lib/uml/modules").glob("*"), None)
    if modules is None or shutil.which("linux.uml") is None:
        pytest.skip("user-mode-linux is not installed")
    if shutil.which("ipvsadm", path="/usr/sbin:/sbin") is None:
        pytest.skip("ipvsadm, the witness, is not installed")
    with tempfile.TemporaryDirectory() as folder:
        said = boot(modules, ":".join(f"tests.kernel.{name}" for name in CHECKS), folder)
    source = "".join((HERE / f"{name}.py").read_text() for name in CHECKS)
    wanted = set(re.findall(r"^def ((?:check|before)_\w+)", source, re.MULTILINE))
    held = set(re.findall(r"^ok (\w+)", said, re.MULTILINE))
    assert held == wanted, said
    assert "END" in said.split(), said


def test_errors_name_the_number_and_what_was_tried() -> None:
    assert str(KernelError(17, "link br0")) == "EEXIST (File exists): link br0"
    assert str(KernelError.of(OSError(2, "No such file"))).startswith("ENOENT")
