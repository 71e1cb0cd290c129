"""Recorded answers of the real API server, sent again byte by byte (tests/api_server/recorded)."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import suppress
from pathlib import Path

RECORDED = Path(__file__).parent / "recorded"
_BODIES = (".json", ".ndjson", ".txt")
_OF_TRANSPORT = ("transfer-encoding", "content-length")


def body_of(name: str) -> bytes:
    """The body of ``list/services`` and the like."""
    return next(
        path.read_bytes() for end in _BODIES if (path := RECORDED / f"{name}{end}").is_file()
    )


def exchange_of(name: str) -> tuple[str, int, list[str]]:
    """The request line, the status and the header lines of the answer."""
    text = (RECORDED / f"{name}.http").read_text()
    # HTTP/1.1 in answers; the request line is the first.
    request = text.splitlines()[0]
    match = re.search(r"^HTTP/1\.1 (\d+)[^\n]*\n((?:[^\n]+\n)*)", text, re.MULTILINE)
    assert match is not None, name
    return request, int(match[1]), match[2].splitlines()


class Replay:
    """Answers each connection's only request with the next of ``names``; then stays silent.

    A watch's lines come in chunks of their own and the stream stays open with ``hold``.
    """

    def __init__(self, names: list[str], *, hold: bool = False) -> None:
        self._names = list(names)
        self._hold = hold
        self.requests: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._open:
            one.close()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            with suppress(OSError):
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(65536)
        self.requests.append(head.split(b" ")[1].decode())
        if not self._names:
            return
        name = self._names.pop(0)
        _, status, headers = exchange_of(name)
        kept = [one for one in headers if not one.lower().startswith(_OF_TRANSPORT)]
        chunked = any(one.lower().startswith("transfer-encoding") for one in headers)
        body = body_of(name)
        pieces = body.splitlines(keepends=True) if chunked else [body]
        last = ["Transfer-Encoding: chunked"] if chunked else [f"Content-Length: {len(body)}"]
        lines = [f"HTTP/1.1 {status} X", *kept, *last, "Connection: close", "", ""]
        client.sendall("\r\n".join(lines).encode())
        for piece in pieces:
            client.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if self._hold:
            return
        if chunked:
            client.sendall(b"0\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
