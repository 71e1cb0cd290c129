"""Talking to a World from the command line: one connection for each request."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hairpin.lab.session import ERROR, EVENT, REPLY, REQUEST, RESIZE, SIGNAL, STDIN, LabError
from hairpin.world import directory
from hairpin.world.protocol import FrameReader, ProtocolError, frame

_READ = 256 << 10  # bytes


class Client:
    """A World's front door.  Every call opens a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name

    def call(
        self,
        verb: str,
        on_event: Callable[[Any], None] | None = None,
        limit: float | None = None,
        **arguments: Any,
    ) -> Any:
        """Sends a request and returns its reply; ``on_event`` gets each event before it.

        Raises LabError: what the lab answered, or that there is none (any more); TimeoutError
        after ``limit`` seconds, if there is a limit.
        """
        deadline = None if limit is None else time.monotonic() + limit
        with self.stream(verb, **arguments) as stream:
            while not stream.over:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"the lab did not answer within {limit:g} seconds")
                for kind, payload in stream.wait(timeout=left)[0]:
                    if kind == EVENT and on_event:
                        on_event(json.loads(payload))
            return stream.reply

    def stream(self, verb: str, **arguments: Any) -> Conversation:
        """Sends a request that is answered by output, or wants more than itself.

        Raises LabError when the World is not there.
        """
        conversation = Conversation(_connect(self.path), self.path)
        conversation.send(REQUEST, json.dumps({"verb": verb, **arguments}).encode())
        return conversation

    def close(self) -> None:
        """Nothing is held between calls; for the symmetry of ``with``."""


def connect(name: str) -> Client:
    """The World of that name.  Raises LabError (exit code 2) when it is not running."""
    path = directory.path_of(name)
    if not path.exists() or not directory.alive(path):
        raise directory.none_such(name)
    return Client(path)


class Conversation:
    """One request under way.  Nothing here waits except ``wait`` and ``frames``."""

    def __init__(self, connection: socket.socket, path: Path) -> None:
        self.reply: Any = None
        """The reply, once ``over``."""
        self.over = False
        self._failure: LabError | None = None
        self._connection = connection
        self._path = path
        self._reader = FrameReader()
        self._out = bytearray()
        connection.setblocking(False)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pending(self) -> int:
        """Bytes that wait to be sent: send no more standard input while there are many."""
        return len(self._out)

    def fileno(self) -> int:
        """The connection, readable when ``wait(timeout=0)`` may have frames."""
        return self._connection.fileno()

    def close(self) -> None:
        """Hangs up; the lab ends what it was doing for this request."""
        self._connection.close()

    def send(self, kind: int, payload: bytes) -> None:
        """Sends a frame: what does not fit now goes out during ``wait``."""
        self._out += frame(kind, payload)
        self._flush()

    def send_stdin(self, data: bytes) -> None:
        """Standard input; b"" is its end."""
        self.send(STDIN, data)

    def signal(self, number: int) -> None:
        self.send(SIGNAL, json.dumps({"signal": number}).encode())

    def resize(self, rows: int, columns: int) -> None:
        self.send(RESIZE, json.dumps({"rows": rows, "cols": columns}).encode())

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Every frame up to the reply, which is then in ``reply``.

        Raises LabError for a failure that the lab reports, and when the World ends.
        """
        while not self.over:
            yield from self.wait()[0]

    def wait(
        self, readable: Sequence[int] = (), timeout: float | None = None
    ) -> tuple[list[tuple[int, bytes]], list[int]]:
        """Waits for frames, or for one of the descriptors; gives both, either may be empty.

        Sends what is pending meanwhile.  ``timeout``: seconds.  Raises as ``frames``.
        """
        if self.over:
            return [], []
        if self._failure:
            raise self._failure
        poll = select.poll()
        poll.register(self._connection, select.POLLIN | (select.POLLOUT if self._out else 0))
        for fd in readable:
            poll.register(fd, select.POLLIN)
        ready = dict(poll.poll(None if timeout is None else timeout * 1000))
        events = ready.pop(self._connection.fileno(), 0)
        if events & select.POLLOUT:
            self._flush()
        frames = self._receive() if events & ~select.POLLOUT else []
        return frames, list(ready)

    def _flush(self) -> None:
        while self._out:
            try:
                count = self._connection.send(memoryview(self._out)[:_READ])
            except BlockingIOError:
                return
            except OSError:
                self._out.clear()  # what the other end had to say is still to be read
                return
            del self._out[:count]

    def _receive(self) -> list[tuple[int, bytes]]:
        try:
            data = self._connection.recv(_READ)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            raise ended(self._path)
        frames = []
        try:
            for kind, payload in self._reader.feed(data):
                if kind == ERROR:
                    said = json.loads(payload)
                    self._failure = LabError(said["message"], said["remedy"], said["exit"])
                elif kind == REPLY:
                    self.reply = json.loads(payload)
                    self.over = True
                else:
                    frames.append((kind, payload))
        except ProtocolError as error:
            raise LabError(f"the lab does not speak this version's protocol: {error}") from None
        if self._failure and not frames:
            raise self._failure
        return frames  # what came before a failure is to be seen first


def ended(path: Path) -> LabError:
    """What to say when a World ended in the middle of a request: with its last words."""
    last = directory.tail(path)
    words = f"; its last words:\n{last}" if last else ""
    return LabError(
        f"the lab ended before it answered{words}",
        f"start a new one: hairpin up{directory.option(path.name)} -f FILE",
    )


def _connect(path: Path) -> socket.socket:
    try:
        return directory.connect(path)
    except OSError:
        raise directory.none_such(path.name) from None
