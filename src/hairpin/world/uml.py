"""The guest's processes on the host: how linux.uml is started, and how all of it ends."""

from __future__ import annotations

import os
import select
import signal
import socket
from pathlib import Path
from typing import Any, NamedTuple

from hairpin.kernel import syscalls
from hairpin.world import directory
from hairpin.world.arq import WINDOW
from hairpin.world.link import FRAME_COST, MTU
from hairpin.world.session import report

MEMORY = 512 << 20
"""Bytes of the guest; what it does not use takes nothing from the host."""

_SO_SNDBUFFORCE = 32  # asm-generic/socket.h
_BUFFER = 4 << 20  # bytes
_END_WAIT = 5000  # milliseconds


class Guest(NamedTuple):
    """The started process; ``life_line``: closing it makes a guard end the guest, -1 for none."""

    pid: int
    life_line: int = -1

    def stop(self) -> None:
        """Ends all processes of the guest.

        Without a guard that is left to the PID namespace, which ends with the keeper.
        """
        if self.life_line < 0:
            return
        os.close(self.life_line)
        try:
            guard = os.pidfd_open(self.pid)
        except ProcessLookupError:
            pass  # it has ended and was reaped
        else:
            poll = select.poll()
            poll.register(guard, select.POLLIN)
            poll.poll(_END_WAIT)
        _kill_children()


def channel() -> tuple[socket.socket, socket.socket]:
    """The two ends of the channel, with all the buffer that this user may have."""
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in pair:
        try:
            end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER)
        except PermissionError:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    return pair


def window() -> int:
    """How many full frames may be under way: what the send buffer of a channel made here holds.

    The kernel doubles the size that was asked for, and for ordinary users caps it first at
    net.core.wmem_max (socket(7)).
    """
    ours, theirs = channel()
    with ours, theirs:
        room = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    return max(2, min(WINDOW, room // FRAME_COST - 1))


def start(path: Path, facts: dict[str, Any], channel: socket.socket) -> Guest:
    """Starts linux.uml with its console in the World's folder."""
    child = os.fork()
    if child:
        return Guest(child)
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        # One CPU: its helper processes hand over to each other at every system call, which costs
        # 2.6 times as much across CPUs.
        os.sched_setaffinity(0, {facts["cpu"]})
        console = os.open(path / directory.CONSOLE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(console, 1)
        os.dup2(console, 2)
        channel.set_inheritable(True)
        script = f"{path}/python/hairpin/world/bootstrap.py"
        arguments = [
            facts["linux"], *facts["arguments"],
            f"vec0:transport=fd,fd={channel.fileno()},mtu={MTU}",
            f"init={facts['python']}", "--", "-ISE", script, str(path), "guest",
        ]  # fmt: skip
        search = "/usr/sbin:/usr/bin:/sbin:/bin"
        os.execve(
            facts["linux"], arguments, {"PATH": search, "HOME": "/", "TMPDIR": facts["tmpdir"]}
        )
    except BaseException as error:
        report(error)
    finally:
        os._exit(127)


def start_guarded(path: Path, facts: dict[str, Any], channel: socket.socket) -> Guest:
    """The same below a guard, for where there is no PID namespace.

    The guard sees the keeper or the guest end, and ends what is left: linux.uml's helpers have no
    other parent once it is killed.  If the guard is killed, the keeper inherits them.  The guard
    ends with the guest's exit status.
    """
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child:
        os.close(read_end)
        return Guest(child, write_end)
    status = 1
    try:
        os.close(write_end)
        os.setsid()
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        guest = start(path, facts, channel).pid
        channel.close()
        poll = select.poll()
        poll.register(read_end, 0)
        poll.register(os.pidfd_open(guest), select.POLLIN)
        poll.poll()
        os.kill(guest, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(guest, 0)[1])
        status = code if code >= 0 else 128 - code
        _kill_children()
    except BaseException as error:
        report(error)
    finally:
        os._exit(status)


def _kill_children() -> None:
    """Kills and reaps what has been left to this process, a subreaper, until nothing is."""
    for _ in range(1000):
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        if not children:
            return
        for child in children:
            os.kill(int(child), signal.SIGKILL)
            os.waitpid(int(child), 0)
