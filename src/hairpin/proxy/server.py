"""Small HTTP servers for probes and metrics: many sockets, one thread, bounded in everything.

GET and HEAD, HTTP/1.0 and 1.1 with connections kept.  Slow or mad clients cost a socket for some
seconds and nothing else; the answers come from functions that must not wait.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")
_HEAD = 16 * 1024  # bytes of a request
_ASKING, _KEPT = 5.0, 30.0  # seconds that a request may take, that a silent connection is kept
_LINES = 100  # headers
_BODIES = (b"content-length", b"transfer-encoding")
_CLIENTS = 512  # at once, of all servers together
_EVERY = ("0.0.0.0", "::")
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


class Answer(msgspec.Struct, frozen=True):
    """What goes back.  ``headers`` are lines beside those that every answer has."""

    body: bytes
    code: int = 200
    kind: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class Request(msgspec.Struct, frozen=True):
    """``path`` is without its query, ``accept`` what the client would like to get."""

    path: str
    accept: str = ""


NOT_FOUND = Answer(b"404 page not found\n", 404)
Handler = Callable[[Request], Answer]
"""Runs in the servers' thread."""


class Servers:
    """All servers of a process, in a thread of their own from ``start`` to ``close``."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="servers", daemon=True)
        self._listening: dict[tuple[str, int], asyncio.Server] = {}
        self._clients = 0

    def start(self) -> Servers:
        self._thread.start()
        return self

    def listen(self, host: str, port: int, handler: Handler, *, every: bool = False) -> int:
        """Serves at an address from now on; gives the port, which may have been 0.

        An IPv6 address is IPv6 alone.  With ``every`` 0.0.0.0 and :: both mean every address of
        both families, as to Go's programs.  Raises OSError where it cannot be had.
        """
        listener = _listener(host, port, every=every)
        found: int = listener.getsockname()[1]
        self._do(self._serve(host, found, listener, handler))
        return found

    def unlisten(self, host: str, port: int) -> None:
        """Ends what ``listen`` began; what is not served is no error."""
        self._do(self._end(host, port))

    def close(self) -> None:
        for host, port in list(self._listening):
            self.unlisten(host, port)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _serve(self, host: str, port: int, listener: socket.socket, handler: Handler) -> None:
        async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._client(reader, writer, handler)

        server = await asyncio.start_server(client, sock=listener, limit=_HEAD)
        self._listening[(host, port)] = server

    async def _end(self, host: str, port: int) -> None:
        server = self._listening.pop((host, port), None)
        if server is not None:
            # What was accepted a moment ago must have its client begun, or nobody closes it.
            for listener in server.sockets:
                self._loop.remove_reader(listener.fileno())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            server.close()

    async def _client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler
    ) -> None:
        self._clients += 1
        try:
            if self._clients <= _CLIENTS:
                while await _exchange(reader, writer, handler):
                    pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # it went away, or was too slow or too long
        finally:
            self._clients -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler
) -> bool:
    """One request and its answer; whether another may follow."""
    first = await asyncio.wait_for(reader.readuntil(b"\n"), _KEPT)
    kept, accept = await asyncio.wait_for(_headers(reader), _ASKING)
    words = first.decode("latin-1").split()
    kept = kept and len(words) == 3 and words[2] == "HTTP/1.1"
    answer = _answer(words, accept, handler)
    writer.write(_written(answer, kept, head=words[:1] == ["HEAD"]))
    await asyncio.wait_for(writer.drain(), _ASKING)
    return kept


async def _headers(reader: asyncio.StreamReader) -> tuple[bool, str]:
    """Reads them to their end; whether the client wants to go on, and what it accepts."""
    kept, accept = True, ""
    for _ in range(_LINES):
        line = await reader.readuntil(b"\n")
        if line in (b"\r\n", b"\n"):
            return kept, accept
        name, _, value = line.lower().partition(b":")
        if name == b"accept":
            accept = value.decode("latin-1").strip()
        # A body is not read: what comes after it would be taken for a request.
        if (name == b"connection" and b"close" in value) or name in _BODIES:
            kept = False
    raise TimeoutError("too many headers")


def _answer(words: list[str], accept: str, handler: Handler) -> Answer:
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return Answer(b"400 Bad Request\n", 400)
    if words[0] not in ("GET", "HEAD"):
        return Answer(b"405 Method Not Allowed\n", 405)
    try:
        return handler(Request(words[1].partition("?")[0], accept))
    except Exception as error:  # one answer is lost, not the server
        return Answer(f"500 {type(error).__name__}: {error}\n".encode(), 500)


def _written(answer: Answer, kept: bool, *, head: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.code} {_REASONS.get(answer.code, 'Unknown')}",
        f"Content-Type: {answer.kind}",
        "X-Content-Type-Options: nosniff",
        f"Content-Length: {len(answer.body)}",
        *(f"{name}: {value}" for name, value in answer.headers),
        *(() if kept else ("Connection: close",)),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head else answer.body)


def _listener(host: str, port: int, *, every: bool) -> socket.socket:
    both = every and host in _EVERY and socket.has_dualstack_ipv6()
    host = "::" if both else host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
        listener.bind((host, port))
        listener.listen(128)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
