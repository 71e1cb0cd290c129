"""Watching a World's processes from outside."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from hairpin.world import directory, lifecycle

LONG = bool(os.environ.get("HAIRPIN_LONG"))
"""Whether tests that take long when they are thorough shall be thorough."""

STARTER = """
import sys, time
from hairpin.world import lifecycle
client, owner = lifecycle.start(sys.argv[1], sys.argv[4], isolation=sys.argv[2])
if sys.argv[3] == "keep":
    owner.keep()
print("started", flush=True)
if sys.argv[3] == "hold":
    time.sleep(600)
"""


def starter(
    name: str, isolation: str = "auto", then: str = "hold", kernel: str = "guest"
) -> subprocess.Popen[str]:
    """A process that starts a World and then holds it, keeps it or leaves."""
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, name, isolation, then, kernel],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_of(folder: Path) -> dict[int, str]:
    """Processes that have the World's folder in their arguments or hold one of its files open.

    linux.uml's helpers have no arguments, but its console log open.
    """
    mark, found = str(folder), {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace")
            files = [str(fd.readlink()) for fd in (entry / "fd").iterdir()]
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and (mark in arguments or any(mark in file for file in files)):
            found[int(entry.name)] = arguments.replace("\0", " ")
    return found


def keeper_of(folder: Path) -> int:
    """The keeper's process id."""
    with directory.connect(folder) as connection:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", credentials)[0])


def kernel_of(folder: Path) -> int:
    """The process id of linux.uml itself: the oldest of those with its arguments."""
    return min(pid for pid, arguments in processes_of(folder).items() if "uml_dir=" in arguments)


def wait_for_start(process: subprocess.Popen[str]) -> None:
    """Waits until a ``starter`` has started its World."""
    assert process.stdout
    line = process.stdout.readline()
    assert line == "started\n", line + process.stdout.read()


def eventually_nothing(folder: Path, known: Iterable[int] = (), seconds: float = 10.0) -> None:
    """Waits until no process of that World is left, nor any of the ``known`` ones.

    One that is ending has no arguments and no files any more, but is still there.
    Raises AssertionError.
    """
    deadline = time.monotonic() + seconds
    while left := [*processes_of(folder), *(pid for pid in known if _runs_a_kernel(pid))]:
        assert time.monotonic() < deadline, f"left: {left}"
        time.sleep(0.02)


NETWORK = (
    ["ip", "-j", "link"], ["ip", "-j", "addr"], ["ip", "-j", "route", "show", "table", "all"],
    ["ip", "-j", "-6", "route", "show", "table", "all"], ["ip", "-j", "rule"],
    ["ip", "-j", "-6", "rule"], ["ip", "netns"], ["iptables-save"], ["ip6tables-save"],
    ["nft", "list", "ruleset"], ["sysctl", "-a", "-r", r"^net\."],
)  # fmt: skip


def host_network() -> dict[str, str]:
    """The host's network as its own tools print it, without what moves by itself."""
    found = {}
    for command in NETWORK:
        if not shutil.which(command[0]):
            continue
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found[" ".join(command)] = "\n".join(
            line
            for line in done.stdout.splitlines()
            # Time stamps, packet counters, and numbers that any traffic of the host changes.
            if not line.startswith(("#", ":")) and "nf_conntrack_count" not in line
        )
    return found


def eventually_not_running(name: str, seconds: float = 5.0) -> None:
    """Waits for the lock too: the kernel lets it go a moment after the last process is gone."""
    deadline = time.monotonic() + seconds
    while name in lifecycle.running():
        assert time.monotonic() < deadline, f"{name} is still held"
        time.sleep(0.02)


def _runs_a_kernel(pid: int) -> bool:
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return False
    return "linux.uml" in name and rest.split()[0] != "Z"
