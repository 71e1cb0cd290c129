"""Which kernel a World gets: the host's own, or the guest; found by trying, not by versions."""

from __future__ import annotations

import mmap
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from hairpin.lab.session import LabError

INSTALL = "apt-get install user-mode-linux"
MEMORY = 512 << 20
"""Bytes of the guest; what it does not use takes nothing from the host."""

_PATH = "/usr/local/bin:/usr/bin:/usr/local/sbin:/usr/sbin"
_MODULES = Path("/usr/lib/uml/modules")
_TEMPORARY = ("/dev/shm", "/tmp", "/var/tmp")  # memory-backed ones first


class Guest(NamedTuple):
    """What is needed to boot a guest here."""

    linux: str
    modules: Path
    python: str
    tmpdir: str


class Choice(NamedTuple):
    """The kernel of a World, and why it is that one."""

    guest: Guest
    reason: str


def choose(wanted: str) -> Choice:
    """The kernel for "auto", "host" or "guest".  Raises LabError when it cannot be had."""
    lacking = host_lacks()
    if wanted == "host":
        raise LabError(
            f"labs cannot be built on the host's kernel: {lacking}",
            "use --kernel guest",
            exit_code=2,
        )
    try:
        guest = find_guest()
    except LabError as error:
        raise LabError(
            f"no kernel to build a lab on: {error.message}; and on the host's own, {lacking}",
            error.remedy,
            exit_code=2,
        ) from None
    reason = lacking if wanted == "auto" else "as asked for"
    return Choice(guest, f"embedded kernel ({reason})")


def host_lacks() -> str:
    """Why a lab cannot be built on the host's kernel."""
    from hairpin.kernel.errors import KernelError
    from hairpin.kernel.netlink_socket import NetlinkSocket
    from hairpin.netlink.generic import NETLINK_GENERIC, get_family

    reasons = []
    try:
        asking = NetlinkSocket(NETLINK_GENERIC)
        if isinstance(asking.ask([get_family("IPVS")])[0], KernelError):
            reasons.append("it has no IPVS (ip_vs is not loaded)")
        asking.close()
    except OSError as error:
        reasons.append(f"its generic netlink cannot be asked ({error.strerror})")
    if os.getuid() != 0:
        reasons.append("it lets only root use IPVS")
    reasons.append("hairpin cannot build labs on it yet")
    return ", ".join(reasons)


def find_guest() -> Guest:
    """Raises LabError with what is missing."""
    linux = next((p for p in _candidates("linux.uml") if os.access(p, os.X_OK)), None)
    if not linux:
        raise LabError("the embedded kernel, linux.uml, is not installed", INSTALL)
    return Guest(linux, _modules(linux), _python(), _temporary(MEMORY))


def _candidates(command: str) -> list[str]:
    folders = os.environ.get("PATH", "").split(":") + _PATH.split(":")
    return [f"{folder}/{command}" for folder in folders if folder.startswith("/")]


def _modules(linux: str) -> Path:
    found = [path.parent for path in _MODULES.glob("*/modules.dep")]
    if len(found) > 1:
        release = os.popen(f"'{linux}' --version").read().strip()
        found = [path for path in found if path.name == release]
    if not found:
        raise LabError(f"the embedded kernel's modules are not in {_MODULES}", INSTALL)
    return found[0]


def _python() -> str:
    """The interpreter below any virtual environment: its own folder has what it needs."""
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    if re.search(r"\s", python):
        raise LabError(f"the interpreter's path has white space: {python}", "use another Python")
    if not os.access(python, os.R_OK | os.X_OK):
        raise LabError(f"the interpreter {python} cannot be read", "use another Python")
    return python


def _temporary(size: int) -> str:
    """A folder for the guest's memory, which the kernel maps executable."""
    refused = []
    for folder in (*_TEMPORARY, tempfile.gettempdir()):
        try:
            free = os.statvfs(folder)
            if free.f_bavail * free.f_frsize < size:
                refused.append(f"{folder} is too small")
                continue
            with tempfile.TemporaryFile(dir=folder) as file:
                file.truncate(mmap.PAGESIZE)
                mmap.mmap(
                    file.fileno(), mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_EXEC
                ).close()
            return folder
        except OSError as error:
            refused.append(f"{folder}: {error.strerror}")
    raise LabError(
        f"no folder for the guest's memory ({size >> 20} MB, executable): {', '.join(refused)}",
        "set TMPDIR to a folder that allows it",
    )
