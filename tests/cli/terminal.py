"""A person at a terminal: the command as its foreground process, keys typed, a screen read."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from typing import NoReturn

from tests.cli.command import Hairpin

LIMIT = 30.0  # seconds for anything to be seen


class Terminal:
    """The command on a terminal of its own, which it controls."""

    def __init__(self, hairpin: Hairpin, *words: str, size: tuple[int, int] = (24, 80)) -> None:
        self.said = b""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            self._become(hairpin, words, size)
        self.modes = termios.tcgetattr(self._fd)

    @staticmethod
    def _become(hairpin: Hairpin, words: tuple[str, ...], size: tuple[int, int]) -> NoReturn:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        try:
            os.execve(hairpin.command[0], [*hairpin.command, *words], hairpin.env)
        finally:
            os._exit(127)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        """As a terminal's window does: the kernel tells the foreground process."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, text: str, seconds: float = LIMIT) -> str:
        """Reads on until ``text`` has come; gives what came, and forgets it."""
        deadline = time.monotonic() + seconds
        while text.encode() not in self.said:
            assert time.monotonic() < deadline, f"{text!r} did not come: {self.said!r}"
            if not self._more(0.2):
                raise AssertionError(f"ended without {text!r}: {self.said!r}")
        before, found, self.said = self.said.partition(text.encode())
        return (before + found).decode(errors="replace")

    def ended(self) -> int:
        """Reads the rest and gives the exit code."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline and self._more(0.2):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def raw(self) -> bool:
        """Whether the terminal hands every key on, as it does to a command in the lab."""
        return not termios.tcgetattr(self._fd)[3] & termios.ICANON

    def stopped(self) -> bool:
        """Whether the command has been suspended."""
        with open(f"/proc/{self.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def close(self) -> None:
        """Hangs the terminal up, and ends what is left of the command."""
        os.close(self._fd)
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass

    def hang_up(self) -> int:
        """Takes the terminal away, as closing its window does; the exit code."""
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _more(self, seconds: float) -> bool:
        """Reads what there is; False once the command has let the terminal go."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO
            return False
        self.said += data
        return bool(data)
