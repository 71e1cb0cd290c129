"""What a process of a Pod or a node sees: namespaces, files of its own, and how it is started.

A sandbox is made when its first process starts, so that a Pod that runs none stays cheap.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import sys
import termios
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NoReturn

from hairpin.kernel import syscalls
from hairpin.kernel.netns import Netns

NETNS_DIR = "/run/netns"
"""Where ``ip netns`` keeps its names (ip-netns(8))."""

HOME = "/run/lab"
"""Where shells start: of the World's own, whoever runs it and whatever the host has."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HIGHEST_FD = 4096  # descriptors that a child may have inherited; Python's own are close-on-exec
_FAILED = 70  # EX_SOFTWARE: the child could not be set up
_LOOKS = 20
"""How often processes are looked for that began while others were killed.  Those that are killed
already may be found again until they have let go of their namespaces."""


class Sandbox:
    """The mount and UTS namespaces that go with a network namespace.

    ``files`` are laid over the World's by bind mount: path → content.  A Pod (``isolated``) has
    its own /tmp, and what it mounts stays its own; a node shares the World's.
    """

    def __init__(
        self, netns: Netns, hostname: str, files: Mapping[str, str], *, isolated: bool
    ) -> None:
        self._netns = netns
        self._hostname = hostname
        self._files = dict(files)
        self._isolated = isolated
        self._mnt: int | None = None
        self._uts: int | None = None

    def close(self) -> None:
        """Lets the namespaces go; the processes in them are the caller's to end."""
        for fd in (self._mnt, self._uts):
            if fd is not None:
                os.close(fd)
        self._mnt = self._uts = None

    def end(self) -> None:
        """SIGKILL for every process that was started inside, and for what those started."""
        if self._mnt is None:
            return
        kill_in("mnt", {os.fstat(self._mnt).st_ino})

    def spawn(
        self,
        argv: Sequence[str],
        stdio: tuple[int, int, int],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        tty: bool = False,
    ) -> int:
        """Starts ``argv`` inside, as the leader of a session of its own; returns its pid.

        With ``tty``, ``stdio[0]`` is a terminal and becomes the controlling one.  A program that
        is not there is the process's own failure: exit code 127, said on its stderr.
        Raises OSError when the namespaces cannot be made.
        """
        if self._mnt is None:
            self._make()
        full = {"PATH": PATH, "HOME": HOME, "TERM": "dumb", "HOSTNAME": self._hostname}
        full.update(env or {})
        pid = os.fork()
        if pid == 0:
            self._become(argv, stdio, full, cwd, tty)
        return pid

    def _make(self) -> None:
        """Makes the namespaces in a child, and keeps them by their descriptors."""
        ends: list[int] = []
        pid = 0
        try:
            ends += os.pipe()
            ends += os.pipe()
            ready, tell, hold, release = ends
            pid = os.fork()
            if pid == 0:
                self._furnish(tell, hold, release)
            os.close(tell)
            os.close(hold)
            ends = [ready, release]
            said = os.read(ready, 4096)
            if said != b"ok":
                raise OSError(f"sandbox {self._hostname}: {said.decode(errors='replace')}")
            self._mnt = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            self._uts = os.open(f"/proc/{pid}/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            self.close()
            raise
        finally:
            for fd in ends:
                os.close(fd)
            if pid:
                os.waitpid(pid, 0)

    def _furnish(self, tell: int, hold: int, release: int) -> NoReturn:
        """In the child: new namespaces with their mounts; waits until they have been opened."""
        try:
            os.close(release)
            syscalls.setns(self._netns.fd, syscalls.CLONE_NEWNET)
            syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS)
            self._part_mounts()
            syscalls.sethostname(self._hostname)
            # Over the other one: a user namespace may mount none when it sees none.
            syscalls.mount("sysfs", "/sys", "sysfs")  # shows the links of this namespace
            if self._isolated:
                syscalls.mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777")
            for path, content in self._files.items():
                self._lay_over(path, content)
            os.write(tell, b"ok")
        except OSError as error:
            os.write(tell, str(error).encode())
        os.read(hold, 1)
        os._exit(0)

    def _part_mounts(self) -> None:
        """What is mounted here stays here; what the World mounts later still arrives.

        On a node the names for ``ip netns`` are shared both ways: what ``ip netns add`` makes in
        its shell is seen by the lab and by every other process of the node.
        """
        if self._isolated:
            syscalls.mount(None, "/", None, syscalls.MS_SLAVE | syscalls.MS_REC)
            return
        with open("/proc/self/mountinfo") as table:
            points = [row.split()[4] for row in table]
        for point in points:
            if not point.startswith(NETNS_DIR):
                syscalls.mount(None, point, None, syscalls.MS_SLAVE)

    def _lay_over(self, path: str, content: str) -> None:
        source = f"/run/.{self._hostname}.{os.getpid()}"
        with open(source, "w") as file:
            file.write(content)
        with open(path, "a"):  # there must be something to mount on
            pass
        syscalls.mount(source, path, None, syscalls.MS_BIND)
        os.unlink(source)

    def _become(
        self,
        argv: Sequence[str],
        stdio: tuple[int, int, int],
        env: Mapping[str, str],
        cwd: str,
        tty: bool,
    ) -> NoReturn:
        """In the child: enters the namespaces and turns into the program."""
        code = _FAILED
        try:
            for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            if tty:
                fcntl.ioctl(stdio[0], termios.TIOCSCTTY, 0)
            for target, fd in enumerate(_above_stdio(stdio)):
                os.dup2(fd, target)
            syscalls.setns(self._netns.fd, syscalls.CLONE_NEWNET)
            assert self._uts is not None and self._mnt is not None
            syscalls.setns(self._uts, syscalls.CLONE_NEWUTS)
            syscalls.setns(self._mnt, syscalls.CLONE_NEWNS)
            os.closerange(3, _HIGHEST_FD)
            os.chdir(cwd)
            os.execvpe(argv[0], list(argv), dict(env))
        except FileNotFoundError as error:
            code = 127
            missing = os.fsdecode(error.filename or argv[0])
            _say(f"hairpin: {missing}: no such program or directory\n")
        except PermissionError:
            code = 126
            _say(f"hairpin: {argv[0]}: not allowed to run this\n")
        except (OSError, ValueError) as error:  # ValueError: a zero byte in an argument
            _say(f"hairpin: {argv[0]}: {error}\n")
        finally:
            os._exit(code)


def _above_stdio(fds: tuple[int, int, int]) -> list[int]:
    """The same descriptors by numbers above 2, so that dup2 onto 0, 1, 2 cannot close one."""
    return [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in fds]


def _say(text: str) -> None:
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())


def kill_in(kind: Literal["mnt", "net"], wanted: Collection[int]) -> None:
    """SIGKILL for every process in the namespaces of that kind that have these inode numbers.

    One that forks all the time is looked for again, until nobody new is found.
    """
    killed: set[str] = set()
    for _ in range(_LOOKS):
        found = {entry for entry in os.listdir("/proc") if entry.isdigit()}
        found = {entry for entry in found if _kill_if_in(kind, wanted, entry)}
        if found <= killed:
            return
        killed |= found


def _kill_if_in(kind: str, wanted: Collection[int], entry: str) -> bool:
    try:
        if os.stat(f"/proc/{entry}/ns/{kind}").st_ino not in wanted:
            return False
        os.kill(int(entry), signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        # It ended meanwhile: EACCES too, where that was within the call
        # (fs/proc/namespaces.c, proc_ns_get_link).
        return False
    return True


def prepare_world() -> None:
    """Makes what all sandboxes stand on.

    ``NETNS_DIR`` becomes a mount of its own, whose mounts spread to all who share it.
    """
    os.makedirs(HOME, exist_ok=True)
    os.makedirs(NETNS_DIR, exist_ok=True)
    syscalls.mount(NETNS_DIR, NETNS_DIR, None, syscalls.MS_BIND)
    syscalls.mount(None, NETNS_DIR, None, syscalls.MS_SHARED)


def open_terminal(rows: int, columns: int) -> tuple[int, int]:
    """A pseudo-terminal of that size: the controlling end and the process's end."""
    ours, theirs = os.openpty()
    resize_terminal(ours, rows, columns)
    return ours, theirs


def resize_terminal(fd: int, rows: int, columns: int) -> None:
    """Tells the terminal its size; the kernel sends SIGWINCH to those in front of it."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
