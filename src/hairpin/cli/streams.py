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
    with (
        client.stream("exec", **request) as conversation,
        _wakeup() as wake,
        _raw() if tty else contextlib.nullcontext(),
        _signals(tty),
    ):
        _pump(conversation, wake, stdin=stdin)
    return int(conversation.reply["exit"])


def _pump(conversation: Conversation, wake: int, *, stdin: bool) -> None:
    source = sys.stdin.fileno() if stdin else -1
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
                if number == signal.SIGWINCH:
                    conversation.resize(*_size())
                elif number in _PASSED:
                    conversation.signal(number)
        if source in ready:
            data = os.read(source, _CHUNK)
            conversation.send_stdin(data)
            if not data:
                source = -1


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
    numbers = [*_PASSED, signal.SIGWINCH] if tty else list(_PASSED)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Every key goes to the command; the terminal is as before afterwards."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        terminal.setraw(fd, termios.TCSADRAIN)  # what was typed ahead is kept
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _size() -> tuple[int, int]:
    size = os.get_terminal_size(sys.stdin.fileno())
    return size.lines, size.columns
