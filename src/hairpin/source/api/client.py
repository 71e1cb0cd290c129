"""Requests to one API server, by urllib3: whole answers, and streams that come line by line.

The TLS context is made anew when a certificate file changed or a plugin gave another one.  A peer
that is gone without a word is noticed by TCP in about half a minute: a watch may be silent for
minutes, so that no time limit on reading would do.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from threading import Lock
from typing import Any, NoReturn
from urllib.parse import unquote, urlencode, urlsplit

import urllib3
from urllib3 import HTTPHeaderDict
from urllib3.exceptions import HTTPError, InsecureRequestWarning, MaxRetryError

from hairpin.model.errors import ManifestError
from hairpin.source.api.credentials import Certificate, CredentialError, Credentials
from hairpin.source.api.kubeconfig import Access
from hairpin.source.api.objects import error_of
from hairpin.source.api.web_proxy import proxy_for

_CONNECT = 10.0  # seconds
_ANSWER = 60.0  # seconds between two pieces of a list
_MOST_LINE = 64 * 2**20  # bytes; etcd keeps objects of at most 1.5 MB
_MOST_LIST = 2**30  # bytes; 10 000 Services with 4 endpoints each are 33 MB
_PIECE = 1 << 16
_ALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),  # milliseconds
]
"""As client-go's HTTP/2 pings: 30 s without a sign of life end a connection."""

_HINTS = {
    401: "the server knows no such user: has the token or certificate run out?",
    403: "the cluster role system:node-proxier allows all that is asked for",
}
"""What to do about answers that no new try will mend."""

_PLACE = re.compile(r" *\(_ssl\.c:\d+\)?")  # in Python's own source

Count = Callable[[str, str, str, float], None]
"""Told the method, the code (``<error>`` for none) and the host of each request, and how many
seconds went until the answer began."""


class ApiError(Exception):
    """A request that did not give what was asked for.

    ``code`` is HTTP's, 0 where there was no answer; ``wait`` the seconds that the server asked
    to wait before the next try.
    """

    def __init__(self, text: str, code: int = 0, wait: float = 0.0) -> None:
        super().__init__(text)
        self.code = code
        self.wait = wait


class Client:
    """One API server as one user.  Used by several threads.

    Raises ManifestError where TLS cannot be made from what ``access`` says.
    """

    def __init__(
        self,
        access: Access,
        *,
        credentials: Credentials | None = None,
        environment: Mapping[str, str] | None = None,
        agent: str = "hairpin",
        count: Count | None = None,
    ) -> None:
        self.server = access.server
        self._access = access
        self._credentials = credentials or Credentials(access)
        self._environment = os.environ if environment is None else environment
        self._agent = agent
        self._count = count or (lambda method, code, host, seconds: None)
        parts = _split(access)
        self._host = parts.netloc
        self._proxy = access.proxy or proxy_for(parts, self._environment)
        self._lock = Lock()
        self._pool: urllib3.PoolManager | None = None
        self._made_of: object = None
        with suppress(CredentialError):  # it may be there later; what cannot be is said now
            self._pools()

    def get(self, path: str, query: Mapping[str, str]) -> bytes:
        """The whole answer.  Raises ApiError; also for one that ends too early."""
        with _errors():
            answer = self._request(path, query, _ANSWER)
            try:
                data = bytes(answer.data)
            finally:
                answer.release_conn()
        if len(data) > _MOST_LIST:
            raise ApiError(f"an answer of {len(data)} bytes")
        return data

    def lines(self, path: str, query: Mapping[str, str], limit: float) -> Stream:
        """The lines of an answer as they come.  ``limit`` is the longest silence, in seconds.

        Raises ApiError.
        """
        with _errors():
            return Stream(self._request(path, query, limit))

    def _request(
        self, path: str, query: Mapping[str, str], limit: float
    ) -> urllib3.BaseHTTPResponse:
        """Asks once, and once more with fresh credentials after a 401.  Raises ApiError."""
        answer = self._ask(path, query, limit)
        if answer.status == 401:
            answer.drain_conn()
            self._credentials.refused()
            answer = self._ask(path, query, limit)
        if answer.status == 200:
            return answer
        try:
            code, text = error_of(bytes(answer.data))
        finally:
            answer.release_conn()
        wait = answer.headers.get("Retry-After", "")
        said = f"{answer.status} {answer.reason}: {text}".rstrip(": ")
        hint = _HINTS.get(answer.status)
        raise ApiError(
            f"{said} ({hint})" if hint else said,
            answer.status or code,
            float(wait) if wait.isdecimal() else 0.0,
        )

    def _ask(self, path: str, query: Mapping[str, str], limit: float) -> urllib3.BaseHTTPResponse:
        headers = HTTPHeaderDict({"Accept": "application/json", "User-Agent": self._agent})
        if self._access.compressed:
            headers["Accept-Encoding"] = "gzip"
        for name, value in self._access.impersonated:
            headers.add(name, value)
        try:
            authorization = self._credentials.authorization()
            if authorization:
                headers["Authorization"] = authorization
            pool = self._pools()
        except (CredentialError, ManifestError) as error:
            # Files that were good at the start may be half written now, and whole in a moment.
            raise ApiError(str(error)) from None
        code, began = "<error>", time.monotonic()
        try:
            answer = pool.request(
                "GET",
                f"{self.server}{path}?{urlencode(query)}",
                headers=headers,
                preload_content=False,
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=_CONNECT, read=limit),
            )
            code = str(answer.status)
        finally:
            self._count("GET", code, self._host, time.monotonic() - began)
        return answer

    def _pools(self) -> urllib3.PoolManager:
        """Connections with the TLS context that fits now.  Raises CredentialError."""
        access = self._access
        certificate = self._credentials.certificate()
        with self._lock:
            made_of = (certificate, _stamp(access.authority_file))
            if self._pool is None or made_of != self._made_of:
                self._pool = self._new_pool(certificate)
                self._made_of = made_of
            return self._pool

    def _new_pool(self, certificate: Certificate | None) -> urllib3.PoolManager:
        options: dict[str, Any] = {"maxsize": 4, "socket_options": _ALIVE}
        access = self._access
        if access.server.startswith("https:"):
            options["ssl_context"] = _context(access, certificate)
            if access.server_name:
                options["server_hostname"] = options["assert_hostname"] = access.server_name
            if access.insecure:
                options["assert_hostname"] = False
                urllib3.disable_warnings(InsecureRequestWarning)  # it is what was asked for
        if not self._proxy:
            return urllib3.PoolManager(**options)
        try:
            user = urllib3.util.parse_url(self._proxy).auth
            if user:
                options["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=unquote(user))
            return urllib3.ProxyManager(self._proxy, **options)
        except (ValueError, HTTPError) as error:
            said = f"proxy {self._proxy}: {error}"
            raise ManifestError(
                said, where=access.where, remedy="http:// and https:// go"
            ) from None


class Stream:
    """An answer that comes piece by piece.  ``close`` may be called by another thread."""

    def __init__(self, answer: urllib3.BaseHTTPResponse) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        """Whole lines.  Raises ApiError where the answer breaks off."""
        rest = b""
        with _errors():
            for piece in self._pieces():
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > _MOST_LINE:
                    raise ApiError(f"a line of more than {_MOST_LINE} bytes")
                for line in lines:
                    if line.strip():
                        yield line
        if rest.strip():
            raise ApiError("the stream ended in the middle of a line")

    def _pieces(self) -> Iterator[bytes]:
        """Each as soon as it is there."""
        if getattr(self._answer, "chunked", False):
            yield from self._answer.stream(_PIECE)
        else:  # a proxy in between may have undone the chunks
            while piece := self._answer.read1(_PIECE):
                yield piece

    def close(self) -> None:
        """Ends it; who waits for a line gets an error or the end."""
        with suppress(Exception):  # whatever state it is in, it is not needed any longer
            self._answer.shutdown()
        with suppress(Exception):
            self._answer.close()


class _errors:  # noqa: N801  # reads as what it does: with _errors():
    """Makes an ApiError of everything that can happen to a connection."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MaxRetryError) and error.reason is not None:
            _raise(error.reason)
        if isinstance(error, HTTPError | OSError | ValueError):
            _raise(error)


def _raise(error: BaseException) -> NoReturn:
    inner = next((one for one in error.args if isinstance(one, OSError)), None)
    if inner is not None and inner.strerror:  # urllib3 says what became of it, and this is why
        raise ApiError(inner.strerror) from error
    text = _PLACE.sub("", str(error)) or type(error).__name__
    raise ApiError(text.removeprefix("<").split(": ", 1)[-1].rstrip(")'")) from error


def _split(access: Access) -> Any:
    try:
        parts = urlsplit(access.server)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        message = f"{access.server} is no server like https://10.0.0.1:6443"
        raise ManifestError(message, where=access.where, field="clusters: server")
    return parts


def _context(access: Access, certificate: Certificate | None) -> ssl.SSLContext:
    """Raises ManifestError for certificates that are none."""
    context = ssl.create_default_context()
    data = access.authority
    try:
        if data is not None:
            context = ssl.create_default_context(cadata=data.decode("ascii"))
        elif access.authority_file:
            context = ssl.create_default_context(cafile=access.authority_file)
    except (OSError, ValueError) as error:
        place = access.authority_file or "certificate-authority-data"
        said = getattr(error, "strerror", None) or str(error)
        raise ManifestError(
            f"{place}: no certificate authority: {said}", where=access.where
        ) from None
    # Python 3.13 began to ask for extensions that many clusters' authorities do not have.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if access.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        _load(context, certificate, access.where)
    return context


def _load(context: ssl.SSLContext, certificate: Certificate, where: str) -> None:
    """ssl reads certificates from files alone: here from memory that has a file's name."""
    fd = os.memfd_create("client-certificate")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(certificate.certificate + b"\n" + certificate.key)
        context.load_cert_chain(f"/proc/self/fd/{fd}", password=lambda: b"")
    except (OSError, ValueError) as error:
        said = getattr(error, "reason", None) or str(error)
        raise ManifestError(f"no client certificate with its key: {said}", where=where) from None
    finally:
        os.close(fd)


def _stamp(path: str) -> object:
    """Changes when the file does."""
    if not path:
        return None
    try:
        seen = os.stat(path)  # noqa: PTH116  # one call a request
    except OSError:
        return None
    return (seen.st_ino, seen.st_mtime_ns, seen.st_size)
