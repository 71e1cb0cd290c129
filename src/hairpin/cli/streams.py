"""A command in the lab, joined to this terminal or these pipes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import tty as terminal
from collections.abc import Iterator
from typing import Any

from hairpin.lab.session import STDERR, STDOUT
from hairpin.world.client import Client, Conversation

_CHUNK = 64 * 1024
_ENOUGH = 1024 * 1024  # bytes of standard input on their way before more is read
_PASSED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1,
           signal.SIGUSR2)  # fmt: skip


def attach(client: Client, request: dict[str, Any], *, tty: bool, stdin: bool = True) -> int:
    """Runs ``exec`` with this process's input, output and signals; returns the exit code.

    Raises LabError when the command cannot be started or the lab ends.
    """
    if tty:
        rows, columns = _size()
        environment = {"TERM": os.environ.get("TERM", "xterm"), **request.get("env", {})}
        request = {**request, "tty": True, "rows": rows, "cols": columns, "env": environment}
    with client.stream("exec", **request) as conversation, _wakeup() as wake:
        screen = _Screen() if tty else None
        with screen or contextlib.nullcontext(), _signals(tty):
            _pump(conversation, wake, screen, stdin=stdin)
    return int(conversation.reply["exit"])


def _pump(conversation: Conversation, wake: int, screen: _Screen | None, *, stdin: bool) -> None:
    source = sys.stdin.fileno() if stdin and sys.stdin else -1
    if source < 0:
        conversation.send_stdin(b"")
    while not conversation.over:
        readable = [wake]
        if source >= 0 and conversation.pending < _ENOUGH:
            readable.append(source)
        frames, ready = conversation.wait(readable)
        for kind, payload in frames:
            if kind in (STDOUT, STDERR):
                _write(1 if kind == STDOUT else 2, payload)
        if wake in ready:
            for number in os.read(wake, 64):
                _pass_on(conversation, number, screen)
        if source in ready:
            data = _read(source)
            if not data and screen:  # the terminal is gone, and with it whoever used it
                conversation.signal(signal.SIGHUP)
            conversation.send_stdin(data)
            if not data:
                source = -1


def _pass_on(conversation: Conversation, number: int, screen: _Screen | None) -> None:
    """What a signal to this process means for the command in the lab."""
    if number in _PASSED:
        conversation.signal(number)
    elif number == signal.SIGTSTP and screen:
        screen.suspend()
        conversation.resize(*_size())  # it may have another size now
    elif number == signal.SIGWINCH and screen:
        conversation.resize(*_size())


def _read(source: int) -> bytes:
    try:
        return os.read(source, _CHUNK)
    except OSError:  # EIO: a terminal that has hung up
        return b""


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def _wakeup() -> Iterator[int]:
    """A descriptor that yields the number of each signal that arrives."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = signal.set_wakeup_fd(write)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(before)
        os.close(read)
        os.close(write)


@contextlib.contextmanager
def _signals(tty: bool) -> Iterator[None]:
    """Signals go to the command in the lab; with a terminal its keys do that by themselves."""
    numbers = [*_PASSED, signal.SIGWINCH, signal.SIGTSTP] if tty else list(_PASSED)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Screen:
    """This process's terminal, with every key going to the command.

    Outside of the block, and while this process is suspended, it is as it was before.
    """

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._before: list[Any] = []

    def __enter__(self) -> _Screen:
        self._before = termios.tcgetattr(self._fd)
        terminal.setraw(self._fd, termios.TCSADRAIN)  # what was typed ahead is kept
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(termios.error):  # it has hung up
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def suspend(self) -> None:
        """Stops this process, as its shell asked, and goes on when that continues it."""
        self.__exit__()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.__enter__()


def _size() -> tuple[int, int]:
    """Rows and columns; those of an old terminal where it does not say."""
    try:
        size = os.get_terminal_size(sys.stdin.fileno())
    except OSError:
        return 24, 80
    return size.lines or 24, size.columns or 80
