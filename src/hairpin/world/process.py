"""The lab process: requests to the World itself are answered here, all others by the handler.

Here is also what PID 1 of every World does: ``reap_until`` and, in its only child, ``serve``.
"""

from __future__ import annotations

import os
import sys

from hairpin import __version__
from hairpin.kernel.reactor import Reactor
from hairpin.lab.session import STDIN, STDOUT, LabError
from hairpin.world.link import Link
from hairpin.world.protocol import FAILED
from hairpin.world.session import StreamSession, report

TYPE_CHECKING = False  # see lab.session
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn

    from hairpin.lab.session import Handler
    from hairpin.world.mux import Stream

    Request = dict[str, Any]

_MODPROBE = "/proc/sys/kernel/modprobe"

BLOCK = 64 << 10
"""Bytes of a frame of ``source``."""


DEAD_AFTER = 300.0
"""Seconds without a sign of the keeper after which a World ends itself: the last resort, for when
neither a PID namespace nor a guard has done it."""


def reap_until(child: int) -> int:
    """Waits for all processes that lost their parent, until the lab process itself ends.

    Returns its wait status, and says so on the log when it is not 0.
    """
    while True:
        pid, status = os.wait()
        if pid == child:
            if status:
                print(f"{FAILED} with wait status {status:#x}", file=sys.stderr)
            return status


def serve(
    open_channel: Callable[[], int],
    window: int,
    load: Callable[[Reactor], Handler],
    settle: Callable[[LabProcess], None],
) -> NoReturn:
    """Is the lab process: serves the channel, and ends with the status that ``reap_until`` gives.

    ``window`` is the most payloads under way.  ``load`` makes the handler.  ``settle`` is called
    when the first answer is out: it does what a lab and its users need, but no answer does.
    """
    status = 1
    try:
        os.setsid()
        reactor = Reactor(report)
        process = LabProcess(reactor, load, reactor.stop)
        Link(
            reactor,
            open_channel(),
            window=window,
            dead_after=DEAD_AFTER,
            on_dead=reactor.stop,
            on_open=process.serve,
        )
        # The keeper's question is on the channel already; its answer goes out before this runs.
        process.on_first = lambda: reactor.after(0, lambda: settle(process))
        reactor.run()
        status = 0
    except BaseException as error:
        report(error)
    finally:
        sys.stderr.flush()
        os._exit(status)


def block(number: int) -> bytes:
    """The content of a frame of ``source``: its number, over and over."""
    return number.to_bytes(8, "big") * (BLOCK // 8)


class LabProcess:
    """Serves streams.

    ``load`` makes the handler: it is called for the first request that needs it, or by
    ``prepare`` before.  ``end`` ends the World after "down" has been answered.
    """

    def __init__(
        self, reactor: Reactor, load: Callable[[Reactor], Handler], end: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._load = load
        self._end = end
        self._started = reactor.now()
        self._handler: Handler | None = None
        self.on_first: Callable[[], object] | None = None
        """Called once, when the first request has been answered or begun to be."""
        self._verbs: dict[str, Callable[[StreamSession, Request], None]] = {
            "ping": self._ping,
            "down": self._down,
            "abilities": _abilities,
            "sink": _sink,
            "source": _source,
        }

    def serve(self, stream: Stream) -> None:
        """Takes a new connection."""
        StreamSession(stream, self._request)

    def prepare(self) -> Handler:
        """Makes the handler, once."""
        if self._handler is None:
            self._handler = self._load(self._reactor)
        return self._handler

    def _request(self, session: StreamSession, request: Request) -> None:
        verb = self._verbs.get(request["verb"])
        if verb:
            verb(session, request)
        else:
            self.prepare().open(session, request)
        if self.on_first:
            first, self.on_first = self.on_first, None
            first()

    def _ping(self, session: StreamSession, request: Request) -> None:
        session.reply(
            {
                "version": __version__,
                "kernel": os.uname().release,
                "uptime": self._reactor.now() - self._started,
                "pid": os.getpid(),
            }
        )

    def _down(self, session: StreamSession, request: Request) -> None:
        session.reply({})
        # The answer is on its way after the callbacks that are due now; it is not waited for.
        self._reactor.after(0.05, self._end)


def _abilities(session: StreamSession, request: Request) -> None:
    """What this kernel can do, found by trying it in a namespace to throw away."""
    from hairpin.kernel import probe

    if not request.get("load"):
        session.reply(probe.report(probe.attempt()))
        return
    _load(probe.MODULES)
    before = _read_modprobe()
    try:
        _write_modprobe("")
        found = probe.report(probe.attempt())
    finally:
        _write_modprobe(before)
    session.reply(found)


def _read_modprobe() -> str:
    with open(_MODPROBE) as setting:
        return setting.read().strip()


def _write_modprobe(program: str) -> None:
    """Says what the kernel runs to have a module loaded; "" for nothing.

    It does so for all that it does not know, as for a scheduler that no module has, and again
    for each try: 0.1 to 0.4 s, half of what all trials take in the guest.  The setting is the
    whole kernel's, so that it is left alone anywhere else.
    """
    with open("/proc/cpuinfo") as cpus:
        if "User Mode Linux" in cpus.read():
            with open(_MODPROBE, "w") as setting:
                setting.write(program + "\n")


def _load(names: Iterable[str]) -> None:
    """Loads modules: a tenth of what it takes when the kernel runs modprobe for each.

    What is missing is passed over: the trial says so.  Even to be told that a module is loaded
    takes the kernel reading all of its file, so those are not tried.
    """
    from hairpin.kernel import modules

    folder = f"/lib/modules/{os.uname().release}"
    with open("/proc/modules") as table:
        loaded = {line.split(" ", 1)[0] for line in table}
    try:
        with open(f"{folder}/modules.dep") as file:
            dependencies = file.read()
    except FileNotFoundError:
        return
    known = modules.Modules(folder)
    for name in names:
        try:
            paths = modules.load_order(dependencies, [name])
            known.insert([path for path in paths if _module_name(path) not in loaded])
        except OSError:
            continue


def _module_name(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0].replace("-", "_")


def _count(request: Request) -> int:
    count = request.get("bytes")
    if not isinstance(count, int) or count < 0:
        raise LabError('"bytes" must be a number, 0 or more', exit_code=2)
    return count


def _sink(session: StreamSession, request: Request) -> None:
    """Receives that many bytes as STDIN; replies with their SHA-256."""
    import hashlib

    left, digest = _count(request), hashlib.sha256()

    def take(kind: int, payload: bytes) -> None:
        nonlocal left
        if kind == STDIN:
            left -= len(payload)
            digest.update(payload)
        if left <= 0:
            session.reply({"bytes": request["bytes"] - left, "sha256": digest.hexdigest()})

    session.on_frame = take
    if not left:
        take(0, b"")


def _source(session: StreamSession, request: Request) -> None:
    """Sends that many bytes as STDOUT; replies with their SHA-256."""
    import hashlib

    left, number, digest = _count(request), 0, hashlib.sha256()

    def give() -> None:
        nonlocal left, number
        while left and not session.blocked:
            data = block(number)[:left]
            session.send(STDOUT, data)
            digest.update(data)
            left -= len(data)
            number += 1
        if not left:
            session.reply({"bytes": request["bytes"], "sha256": digest.hexdigest()})

    session.on_drain = give
    give()
