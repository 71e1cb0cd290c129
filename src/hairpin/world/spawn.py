"""Starting a keeper: a process of its own, in a session and, where allowed, PID namespace of its
own, that holds nothing of its parent's but the owner's socket and the lock."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import NoReturn

from hairpin.kernel import syscalls
from hairpin.world import directory

_OWNER, _LOCK = 3, 4  # descriptors in the keeper


def spawn(path: Path, python: str, lock: int, isolation: str) -> tuple[socket.socket, int]:
    """Starts the keeper of the World at ``path``; returns the owner's socket and its process id.

    ``isolation``: "pidns", "guard", or "auto" for the first that works; "root" is "pidns" with
    user 0 inside, who may make further namespaces.  Raises OSError.
    """
    ours, theirs = socket.socketpair()
    middle = os.fork()
    if not middle:
        _middle(path, python, theirs, lock, isolation)
    theirs.close()
    os.waitpid(middle, 0)
    line = ours.recv(64, socket.MSG_PEEK).partition(b"\n")[0]
    ours.recv(len(line) + 1)
    if not line.isdigit():
        ours.close()
        raise OSError(f"the keeper did not start: {directory.tail(path)}")
    return ours, int(line)


def _middle(path: Path, python: str, owner: socket.socket, lock: int, isolation: str) -> NoReturn:
    """Between parent and keeper: so that the keeper is nobody's child, and first in its PID
    namespace.  Tells the keeper's id as the parent sees it."""
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        log = os.open(path / directory.KEEPER_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        # First out of the way of 0 to 4, then to their places.
        high = [os.dup(fd) for fd in _above(null, log, owner.fileno(), lock)]
        for fd, place in zip([high[0], high[0], high[1], high[2], high[3]], range(5), strict=True):
            os.dup2(fd, place)
        os.closerange(5, os.sysconf("SC_OPEN_MAX"))
        isolation = _isolate(isolation)
        keeper = os.fork()
        if keeper:
            os.write(_OWNER, b"%d\n" % keeper)
        else:
            _become_keeper(path, python, isolation)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(0)


def _above(*fds: int) -> list[int]:
    """Each descriptor, or a copy of it, above those that will be replaced."""
    import fcntl

    return [fcntl.fcntl(fd, fcntl.F_DUPFD, 16) for fd in fds]


def _become_keeper(path: Path, python: str, isolation: str) -> NoReturn:
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                continue
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    script = f"{path}/python/hairpin/world/bootstrap.py"
    arguments = [python, "-ISE", script, str(path), "keeper", str(_OWNER), isolation]
    os.execve(python, arguments, {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"})


def _isolate(wanted: str) -> str:
    """Gives the next child a PID namespace if it may have one: "pidns", else "guard"."""
    if wanted == "guard":
        return wanted
    user, group = os.getuid(), os.getgid()
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
        return "pidns"
    except OSError as error:
        refused = error
    try:
        # Refused by LSMs and container runtimes in many ways, all of them OSError.
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWPID)
    except OSError:
        if wanted in ("pidns", "root"):
            raise refused from None
        return "guard"
    map_user(user, group, *((0, 0) if wanted == "root" else (user, group)))
    return "pidns"


def map_user(user: int, group: int, user_inside: int, group_inside: int) -> None:
    """Gives a new user namespace its one user: who the caller was before, by another number."""
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user_inside} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group_inside} {group} 1")
