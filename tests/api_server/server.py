"""A small Kubernetes API server for tests: lists, pages, watches, over real HTTP or HTTPS.

It behaves as the recordings of the 1.36 API server do (tests/api_server/recorded), as far as a
client of Services, EndpointSlices and Nodes can see, and does wrong what ``Faults`` says.
"""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.api_server.store import PATHS, Raw, Store, line, watch_lines

_GZIP_FROM = 128 * 1024  # bytes, as recorded


class Faults:
    """What goes wrong from now on.  Each may be set at any time."""

    def __init__(self) -> None:
        self.service_cidrs = True  # False: a server before 1.33
        self.forbidden = ""  # what is in a path that the role does not allow
        self.streamed_lists = True  # False: a server before WatchList
        self.ignores_streamed = False  # one that does not even know what it is asked for
        self.answer: tuple[int, str, dict[str, str]] | None = None  # for every request
        self.cut_watch_after: float | None = None  # seconds; the connection is just closed
        self.end_watch_after: float | None = None  # seconds; ends as it should
        self.truncate_lists = 0  # so many answers to lists end in the middle
        self.truncate_event = False  # the next event ends in the middle
        self.gone_watches = 0  # so many watches begin with 410
        self.expire_pages = False  # the next page asked for is gone
        self.twice = False  # each event comes twice
        self.swapped = False  # of each two events the second comes first
        self.slow = 0.0  # seconds before each answer
        self.bookmarks = 5.0  # seconds between them
        self.token: str | None = None  # who has another one gets 401


class Server:
    """Runs in threads of this process from ``start`` to ``stop``; then it can be started again."""

    def __init__(
        self, store: Store | None = None, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.store = store or Store()
        self._host = host
        self.faults = Faults()
        self.requests: list[str] = []
        self.tokens: list[str] = []
        self.heads: list[list[tuple[str, str]]] = []  # of each request
        self.port = 0
        self._tls = tls
        self._server: _Http | None = None

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def start(self) -> Server:
        kind = _Http6 if ":" in self._host else _Http
        self._server = server = kind((self._host, self.port), _Handler)
        server.owner = self
        server.tls = self._tls
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """As SIGKILL: every connection is closed in the middle of whatever it was doing."""
        if self._server is not None:
            self._server.ending = True
            self._server.shutdown()
            self._server.server_close()
            self._server.cut()
            self._server = None

    def cut(self) -> None:
        """Closes every connection that there is."""
        if self._server is not None:
            self._server.cut()

    def watches(self) -> int:
        return sum("watch=true" in one for one in self.requests)


class _Http(ThreadingHTTPServer):
    owner: Server
    tls: ssl.SSLContext | None = None
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    ending = False

    def __init__(self, *given: Any) -> None:
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(*given)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        if self.tls is not None:
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except OSError:
                return
            with self._lock:
                self._open.add(request)
        super().process_request_thread(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request, client_address  # clients go away; that is what is tested


class _Http6(_Http):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        del format, args

    def do_GET(self) -> None:
        owner, faults = self.server.owner, self.server.owner.faults
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query))
        owner.requests.append(self.path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        owner.tokens.append(token)
        owner.heads.append(self.headers.items())
        if faults.slow:
            time.sleep(faults.slow)
        if faults.answer is not None:
            code, text, headers = faults.answer
            self._error(code, text, headers=headers)
        elif faults.token is not None and token != faults.token:
            self._error(401, "Unauthorized")
        elif faults.forbidden and faults.forbidden in parts.path:
            self._error(403, f"{faults.forbidden} is forbidden")
        elif parts.path == "/version":
            self._body(200, json.dumps({"gitVersion": "v1.36.2"}).encode())
        elif parts.path not in PATHS or ("servicecidrs" in parts.path and not faults.service_cidrs):
            self._error(404, "the server could not find the requested resource")
        elif query.get("watch") == "true":
            self._watch(parts.path, query)
        else:
            self._list(parts.path, query)

    # -- lists ---------------------------------------------------------------------------------

    def _list(self, path: str, query: dict[str, str]) -> None:
        store, faults = self.server.owner.store, self.server.owner.faults
        collection, kind, api_version, _ = PATHS[path]
        version, found = store.listed(collection, query)
        begin = 0
        if token := query.get("continue", ""):
            begin, version = (int(part) for part in token.split("@"))
            if faults.expire_pages or version not in store.past:
                faults.expire_pages = False
                self._error(410, "The provided continue parameter is too old", "Expired")
                return
            found = _of(store.past[version], collection, query)
        limit = int(query.get("limit", "0"))
        meta: Raw = {"resourceVersion": str(version)}
        if limit and query.get("resourceVersion") != "0" and begin + limit < len(found):
            with store.changed:
                store.past.setdefault(version, dict(store.objects))
            meta["continue"] = f"{begin + limit}@{version}"
            meta["remainingItemCount"] = len(found) - begin - limit
            found = found[begin : begin + limit]
        else:
            found = found[begin:]
        items = [{k: v for k, v in one.items() if k not in _OF_EVENTS} for one in found]
        answer = {"kind": kind, "apiVersion": api_version, "metadata": meta, "items": items}
        self._body(200, json.dumps(answer, separators=(",", ":")).encode(), listed=True)

    def _body(
        self, code: int, data: bytes, *, listed: bool = False, headers: dict[str, str] | None = None
    ) -> None:
        faults = self.server.owner.faults
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "gzip" in self.headers.get("Accept-Encoding", "") and len(data) > _GZIP_FROM:
            data = gzip.compress(data, 1)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Vary", "Accept-Encoding")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if listed and faults.truncate_lists:
            faults.truncate_lists -= 1
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self.wfile.write(data)

    def _error(
        self, code: int, text: str, reason: str = "", *, headers: dict[str, str] | None = None
    ) -> None:
        self._body(code, json.dumps(_status(code, text, reason)).encode(), headers=headers)

    # -- watches -------------------------------------------------------------------------------

    def _watch(self, path: str, query: dict[str, str]) -> None:
        store, faults = self.server.owner.store, self.server.owner.faults
        collection = PATHS[path][0]
        initial = query.get("sendInitialEvents") == "true"
        if initial and not faults.streamed_lists:
            text = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch"
            self._error(422, text, "Invalid")
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        asked = int(query.get("resourceVersion") or 0)
        if not initial and (faults.gone_watches or store.is_gone(asked, collection)):
            faults.gone_watches = max(0, faults.gone_watches - 1)
            text = f"too old resource version: {asked} ({store.oldest})"
            self._chunk(line("ERROR", _status(410, text, "Expired")))
            self._end()
            return
        if initial:
            version, found = store.listed(collection, query)
            for one in found:
                self._chunk(line("ADDED", one))
            if not faults.ignores_streamed:
                self._chunk(_bookmark(path, version, ended=True))
        else:
            version = asked
        self._follow(path, query, version)

    def _follow(self, path: str, query: dict[str, str], version: int) -> None:
        store, faults = self.server.owner.store, self.server.owner.faults
        collection = PATHS[path][0]
        began = time.monotonic()
        last = float(query.get("timeoutSeconds", "1800"))
        marked = began
        while not self.server.ending:
            age = time.monotonic() - began
            if faults.cut_watch_after is not None and age >= faults.cut_watch_after:
                self.close_connection = True
                return
            if age >= last or (
                faults.end_watch_after is not None and age >= faults.end_watch_after
            ):
                self._end()
                return
            store.wait(version, 0.02)
            events, version = store.since(version, collection)
            self._send(list(watch_lines(events, query)))
            if time.monotonic() - marked >= faults.bookmarks:
                marked = time.monotonic()
                self._chunk(_bookmark(path, version))

    def _send(self, lines: list[bytes]) -> None:
        faults = self.server.owner.faults
        if faults.swapped:
            for at in range(0, len(lines) - 1, 2):
                lines[at], lines[at + 1] = lines[at + 1], lines[at]
        for one in lines:
            if faults.truncate_event:
                faults.truncate_event = False
                self._chunk(one[: len(one) // 2])
                self.close_connection = True
                raise ConnectionAbortedError
            self._chunk(one)
            if faults.twice:
                self._chunk(one)

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def _end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")


_OF_EVENTS = ("kind", "apiVersion")  # items of a list carry neither


def _of(objects: dict[Any, Raw], collection: str, query: dict[str, str]) -> list[Raw]:
    store = Store()
    store.objects = objects
    return store.listed(collection, query)[1]


def _bookmark(path: str, version: int, *, ended: bool = False) -> bytes:
    _, _, api_version, kind = PATHS[path]
    meta: Raw = {"resourceVersion": str(version)}
    if ended:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    return line("BOOKMARK", {"kind": kind, "apiVersion": api_version, "metadata": meta})


def _status(code: int, text: str, reason: str) -> Raw:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": text,
        "reason": reason,
        "code": code,
    }
