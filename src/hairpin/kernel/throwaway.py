"""Running a function in namespaces to throw away: what it does to them ends with it.

A forked child gets network and mount namespaces of its own, and for an ordinary user a user
namespace around them.  Nothing that it makes there can outlive it.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Callable

import msgspec

from hairpin.kernel import syscalls
from hairpin.kernel.errors import KernelError
from hairpin.kernel.netns import raise_lo

_MOST = 1 << 20  # bytes of an answer


def run(work: Callable[[], object], limit: float = 20.0) -> object:
    """What ``work`` returns, in builtin types, called in a child with namespaces of its own.

    ``limit``: seconds.  Raises KernelError: when the namespaces are refused, when the time is
    over (ETIMEDOUT), and when ``work`` raised (EIO, with what it raised).
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if not child:
        _child(work, write_end)
    os.close(write_end)
    try:
        said = _read(read_end, time.monotonic() + limit)
    finally:
        os.close(read_end)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if said is None:
        raise KernelError(errno.ETIMEDOUT, f"no answer after {limit:g} seconds")
    if not said:
        raise KernelError(errno.EIO, "the trial ended without an answer")
    outcome = msgspec.json.decode(said)
    if "refused" in outcome:
        raise KernelError(outcome["errno"], outcome["refused"])
    return outcome["result"]


def _child(work: Callable[[], object], answer: int) -> None:
    outcome: dict[str, object]
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        _enter()
        try:
            outcome = {"result": work()}
        except Exception as error:
            outcome = {"errno": errno.EIO, "refused": f"{type(error).__name__}: {error}"}
    except OSError as error:
        outcome = {"errno": error.errno or errno.EIO, "refused": str(error.args[-1])}
    try:
        data = memoryview(msgspec.json.encode(outcome))
        while data:
            data = data[os.write(answer, data) :]
    finally:
        os._exit(0)


def _enter() -> None:
    """Gives this process its namespaces.  Raises OSError."""
    flags = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS
    user, group = os.getuid(), os.getgid()
    try:
        syscalls.unshare(flags)
    except PermissionError:
        syscalls.unshare(flags | syscalls.CLONE_NEWUSER)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {user} 1"),
            ("gid_map", f"0 {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    raise_lo()


def _read(fd: int, deadline: float) -> bytes | None:
    """Everything up to the end; None when that did not come in time."""
    parts, size = [], 0
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while size < _MOST:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return None
        data = os.read(fd, 65536)
        if not data:
            break
        parts.append(data)
        size += len(data)
    return b"".join(parts)
