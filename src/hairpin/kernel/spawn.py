"""Running a short program in a network namespace and waiting for it.

Its standard streams are files in memory, so that nothing can wait for a full pipe.  subprocess
would do, but costs its import and, in the embedded kernel, a fork of the whole interpreter.
"""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Sequence

import msgspec

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netns import Netns

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_LIMIT = 30.0  # seconds


class Ended(msgspec.Struct, frozen=True):
    """How a program ended: ``code`` is negative for a signal."""

    code: int
    out: str
    err: str


def find(names: Sequence[str]) -> str:
    """The path of the first of ``names`` that can be run.  Raises KernelError (ENOENT)."""
    folders = f"{os.environ.get('PATH', '')}:{_SBIN}".split(":")
    for name in names:
        for folder in folders:
            path = f"{folder}/{name}"
            if folder and os.access(path, os.X_OK):
                return path
    raise KernelError(errno.ENOENT, f"no program {' or '.join(names)}")


def run(netns: Netns, argv: Sequence[str], stdin: str = "", limit: float = _LIMIT) -> Ended:
    """Runs a program to its end.  Raises KernelError: ETIMEDOUT after ``limit`` seconds."""
    streams: list[int] = []
    try:
        for name in ("stdin", "stdout", "stderr"):
            streams.append(os.memfd_create(name))
        if stdin:
            _write(streams[0], stdin.encode())
        actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(streams)]
        try:
            with netns.entered():
                pid = os.posix_spawn(argv[0], list(argv), os.environ, file_actions=actions)
        except OSError as error:
            raise KernelError.of(error, " ".join(argv)) from None
        code = _wait(pid, argv, limit)
        return Ended(code, _text(streams[1]), _text(streams[2]))
    finally:
        for fd in streams:
            os.close(fd)


def _wait(pid: int, argv: Sequence[str], limit: float) -> int:
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        ended = poll.poll(limit * 1000)
        if not ended:
            os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    finally:
        os.close(pidfd)
    if not ended:
        raise KernelError(errno.ETIMEDOUT, f"{' '.join(argv)}: killed after {limit:g} seconds")
    return os.waitstatus_to_exitcode(status)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)


def _text(fd: int) -> str:
    parts = []
    os.lseek(fd, 0, os.SEEK_SET)
    while part := os.read(fd, 65536):
        parts.append(part)
    return b"".join(parts).decode(errors="replace")
