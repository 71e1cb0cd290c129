"""Processes of a lab: those that serve in the background, and those that a session runs.

All are leaders of sessions of their own; ending one ends its whole process group.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hairpin.kernel.reactor import Reactor
from hairpin.lab import sandbox
from hairpin.lab.sandbox import Sandbox
from hairpin.lab.session import RESIZE, SIGNAL, STDERR, STDIN, STDOUT, Session

_CHUNK = 32 * 1024  # bytes read from a process at a time
_LOG_LIMIT = 1024 * 1024  # bytes of its latest output that a background process keeps
_GRACE = 2.0  # seconds between SIGTERM and SIGKILL


class Background:
    """A process that serves, with the latest of its output."""

    def __init__(
        self,
        reactor: Reactor,
        where: Sandbox,
        argv: Sequence[str],
        on_exit: Callable[[int], None],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
    ) -> None:
        """Raises OSError when the namespaces cannot be entered."""
        self._reactor = reactor
        self._log = bytearray()
        self.log_end = 0
        """Bytes of output so far; ``log`` has the latest of them."""
        self.on_output: Callable[[], None] = lambda: None
        """Called after output was read."""
        self.exit_code: int | None = None
        self._on_exit = on_exit
        output, theirs = os.pipe()
        only_here = [theirs]
        try:
            nothing = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            only_here.append(nothing)
            self.pid = where.spawn(argv, (nothing, theirs, theirs), env=env, cwd=cwd)
        except OSError:
            os.close(output)
            raise
        finally:
            for fd in only_here:
                os.close(fd)
        os.set_blocking(output, False)
        self._output = output
        reactor.on_readable(output, self._read)
        reactor.on_exit(self.pid, self._ended)

    def log(self) -> bytes:
        """Its output up to this moment, at most the last mebibyte of it."""
        self._read()
        return bytes(self._log)

    def log_since(self, position: int) -> tuple[bytes, int]:
        """The output from that byte on, as far as it is kept, and the position after it."""
        skip = max(0, len(self._log) - (self.log_end - position))
        return bytes(memoryview(self._log)[skip:]), self.log_end

    def terminate(self) -> None:
        """SIGTERM and nothing more: when it has to be over is the caller's to say."""
        if self.exit_code is None:
            _kill_group(self.pid, signal.SIGTERM)

    def end(self, *, at_once: bool = False) -> None:
        """SIGTERM, and SIGKILL if that does not do; with ``at_once`` only the latter."""
        if self.exit_code is not None:
            return
        _kill_group(self.pid, signal.SIGKILL if at_once else signal.SIGTERM)
        if not at_once:
            self._reactor.after(_GRACE, lambda: self.end(at_once=True))

    def _read(self) -> None:
        while self._output >= 0:
            try:
                data = os.read(self._output, _CHUNK)
            except BlockingIOError:
                return
            if not data:
                self._reactor.forget(self._output)
                os.close(self._output)
                self._output = -1
                return
            self._log += data
            self.log_end += len(data)
            del self._log[: max(0, len(self._log) - _LOG_LIMIT)]
            self.on_output()

    def _ended(self, status: int) -> None:
        try:
            self._read()
        finally:  # whatever comes of its last words: it has ended
            self.exit_code = os.waitstatus_to_exitcode(status)
            self._on_exit(self.exit_code)


class Foreground:
    """A process whose input, output, signals and end belong to a session.

    The session's reply is ``{"exit": code}``, 128 + n when signal n ended it.  When the client
    goes away, so does the process.
    """

    def __init__(
        self, reactor: Reactor, where: Sandbox, session: Session, request: Mapping[str, Any]
    ) -> None:
        """Raises OSError when the namespaces cannot be entered."""
        self._reactor = reactor
        self._session = session
        self._terminal = bool(request.get("tty"))
        self._outputs: dict[int, int] = {}  # descriptor to the kind of frame it feeds
        self._unsent = bytearray()
        self._input = -1
        self._input_ends = False
        self._exit: int | None = None
        argv = request["argv"]
        env = {str(k): str(v) for k, v in (request.get("env") or {}).items()}
        cwd = str(request.get("cwd") or "/")
        if self._terminal:
            size = (int(request.get("rows") or 24), int(request.get("cols") or 80))
            ours, theirs = _terminal(*size)
        else:
            ours, theirs = _pipes()
        try:
            stdio = (theirs[0], theirs[1], theirs[2])
            self.pid = where.spawn(argv, stdio, env=env, cwd=cwd, tty=self._terminal)
        except OSError:
            _close(ours)
            raise
        finally:
            _close(theirs)
        self._input = ours[0]
        for fd, kind in zip(ours[1:], (STDOUT, STDERR), strict=False):
            self._watch(fd, kind)
        os.set_blocking(self._input, False)
        session.on_frame = self._frame
        session.on_close = self._client_gone
        session.on_drain = self._resume
        reactor.on_exit(self.pid, self._ended)

    def _watch(self, fd: int, kind: int) -> None:
        os.set_blocking(fd, False)
        self._outputs[fd] = kind
        self._reactor.on_readable(fd, lambda: self._output(fd))

    def _output(self, fd: int) -> None:
        if self._session.blocked:
            # The client is slow: what it has not read stays with the process.
            for each in self._outputs:
                self._reactor.on_readable(each, None)
            return
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # EIO: the last process has closed the terminal
            data = b""
        if data:
            self._session.send(self._outputs[fd], data)
            return
        self._drop_output(fd)
        self._finish()

    def _resume(self) -> None:
        for fd in self._outputs:
            self._reactor.on_readable(fd, lambda fd=fd: self._output(fd))  # type: ignore[misc]

    def _drop_output(self, fd: int) -> None:
        del self._outputs[fd]
        self._reactor.forget(fd)
        os.close(fd)

    def _frame(self, kind: int, payload: bytes) -> None:
        if kind == STDIN:
            self._unsent += payload
            self._input_ends = self._input_ends or not payload
            self._feed()
        elif kind == SIGNAL and self._exit is None:  # else its number may be another's by now
            _kill_group(self.pid, int(json.loads(payload)["signal"]))
        elif kind == RESIZE and self._terminal and self._input >= 0:
            size = json.loads(payload)
            sandbox.resize_terminal(self._input, int(size["rows"]), int(size["cols"]))

    def _feed(self) -> None:
        if self._input < 0:
            return
        try:
            while self._unsent:
                del self._unsent[: os.write(self._input, self._unsent[:_CHUNK])]
        except BlockingIOError:
            self._session.pause()
            self._reactor.on_writable(self._input, self._feed)
            return
        except OSError:  # EPIPE: the process reads no more
            self._unsent.clear()
            self._input_ends = True
        self._reactor.on_writable(self._input, None)
        self._session.resume()
        if self._input_ends and not self._terminal:
            self._close_input()

    def _close_input(self) -> None:
        if self._input >= 0:
            self._reactor.forget(self._input)
            os.close(self._input)
            self._input = -1

    def _ended(self, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        self._exit = code if code >= 0 else 128 - code
        # Children that it left in the background may hold the output open: they are not waited
        # for longer than it takes to read what is there.
        self._reactor.after(0.2, self._give_up_output)
        self._finish()

    def _give_up_output(self) -> None:
        """Reads what is there, and lets go of the outputs that have nothing."""
        for fd in list(self._outputs):
            if self._session.blocked:
                break
            try:
                data = os.read(fd, _CHUNK)
            except OSError:
                data = b""
            if data:
                self._session.send(self._outputs[fd], data)
            else:
                self._drop_output(fd)
        if self._outputs:
            self._reactor.after(0.05, self._give_up_output)
        self._finish()

    def _finish(self) -> None:
        if self._exit is not None and not self._outputs:
            self._close_input()
            self._session.on_close = lambda: None
            self._session.reply({"exit": self._exit})

    def _client_gone(self) -> None:
        if self._exit is None:
            _kill_group(self.pid, signal.SIGHUP)
            self._reactor.after(_GRACE, self._insist)
        for fd in list(self._outputs):
            self._drop_output(fd)
        self._close_input()

    def _insist(self) -> None:
        if self._exit is None:
            _kill_group(self.pid, signal.SIGKILL)


def _terminal(rows: int, columns: int) -> tuple[list[int], list[int]]:
    """Our ends of a terminal, to write and to read, and the process's.  Raises OSError."""
    ours, theirs = sandbox.open_terminal(rows, columns)
    return [ours, os.dup(ours)], [theirs] * 3


def _pipes() -> tuple[list[int], list[int]]:
    """Our ends of a process's input, output and error output, and its own.  Raises OSError."""
    ours: list[int] = []
    theirs: list[int] = []
    try:
        for name in ("stdin", "stdout", "stderr"):
            read, write = os.pipe()
            ours.append(write if name == "stdin" else read)
            theirs.append(read if name == "stdin" else write)
    except OSError:
        _close(ours)
        _close(theirs)
        raise
    return ours, theirs


def _close(fds: Sequence[int]) -> None:
    for fd in set(fds):
        os.close(fd)


def _kill_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
