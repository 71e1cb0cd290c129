"""The host's side of a World: starts the guest, or PID 1 of namespaces of the host's own kernel;
relays connections, ends it all.

The keeper is PID 1 of a PID namespace where it may be: when it ends, however it ends, the kernel
takes the World's processes with it.  Where that is refused, a guard process stands between: it
sees either of them end, and ends the other.

What a command line sends is relayed as plain bytes.  The channel to the World is read at all
times, since a guest whose frames stay unread breaks down; what a slow client has not taken is
bounded by its stream's credit.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

from hairpin.kernel.reactor import Reactor
from hairpin.lab.session import ERROR, REPLY, REQUEST
from hairpin.world import directory, uml
from hairpin.world.link import Link
from hairpin.world.mux import Stream
from hairpin.world.protocol import FAILED, KEEP, FrameReader, frame
from hairpin.world.session import report

DEAD_AFTER = 300.0
"""Seconds of silence after which the World is given up; its lab process may be busy for long."""

_PAUSE = 0.1  # seconds without new clients where there are no descriptors left

_LOOK = 3.0  # seconds between looks at the guest's console
_BROKEN_AFTER = 12.0  # seconds of silence; it is asked after 5, and several times by then
_BROKEN = ("wait_stub_done : failed", "registers from stub", "userspace - ")
"""What user-mode Linux says when one of the processes that its own processes run in was killed
from outside (arch/um/os-Linux/skas).  Often that costs one process of the guest, sometimes all of
it stands still for ever."""

_MARK = 128 << 10  # bytes from a client that wait for the guest


def main(path: str, arguments: list[str]) -> NoReturn:
    """The keeper's process; ``arguments``: owner's socket, isolation ("pidns" or "guard")."""
    owner = socket.socket(fileno=int(arguments[0]))
    status = 1
    try:
        keeper = Keeper(Path(path), owner, guarded=arguments[1] == "guard")
        keeper.run()
        status = 0
    except BaseException as error:
        report(error)
        _tell(owner, {"error": f"the keeper failed: {type(error).__name__}: {error}"})
    finally:
        sys.stderr.flush()
        os._exit(status)
    raise AssertionError("the process has ended")


def _tell(owner: socket.socket | None, message: dict[str, Any]) -> None:
    if owner:
        # It may have gone away, which its socket also says.
        with contextlib.suppress(OSError):
            owner.sendall(json.dumps(message).encode() + b"\n")


class Keeper:
    """One World's keeper."""

    def __init__(self, path: Path, owner: socket.socket, guarded: bool) -> None:
        self._path = path
        self._owner: socket.socket | None = owner
        self._facts = json.loads((path / directory.FACTS).read_bytes())
        self._reactor = Reactor(report)
        self._hang_ups = HangUps(self._reactor)
        self._ended_well = False
        self._watch_signals()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        os.chdir(path)  # a socket's name may have 107 bytes, its folder's path more
        self._listener.bind(directory.SOCKET)
        self._listener.listen(64)
        self._listener.setblocking(False)
        ours, theirs = uml.channel()
        self._booted = self._reactor.now()
        self._what = "the guest" if self._facts["kernel"] == "guest" else "the lab process"
        self._guest = self._start(theirs, guarded)
        theirs.close()
        self._channel = ours
        self._reactor.on_exit(self._guest.pid, self._guest_ended)
        self._link = Link(
            self._reactor,
            ours.fileno(),
            window=self._facts["window"],
            dead_after=DEAD_AFTER,
            on_dead=self._guest_silent,
        )
        self._reactor.on_readable(owner.fileno(), self._owner_spoke)
        self._reactor.on_readable(self._listener.fileno(), self._accept)
        self._greet()
        if self._facts["kernel"] == "guest":
            self._looked_at = self._harmless = 0  # bytes of its console
            self._look_at_console()

    def run(self) -> None:
        """Until the World ends; then nothing of it is left, except after a failure its logs."""
        self._reactor.run()
        self._guest.stop()
        if self._ended_well:
            directory.remove(self._path)

    def _start(self, channel: socket.socket, guarded: bool) -> uml.Guest:
        if self._facts["kernel"] == "host":
            from hairpin.world import hosted

            return uml.Guest(hosted.start(self._path, self._facts, channel.fileno()))
        start = uml.start_guarded if guarded else uml.start
        return start(self._path, self._facts, channel)

    def _watch_signals(self) -> None:
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_end)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: None)
        self._reactor.on_readable(read_end, self._end)

    def _greet(self) -> None:
        """Asks the lab process for an answer, and tells the owner what it was."""
        stream, reader = self._link.mux.open(), FrameReader()

        def answered(data: bytes | memoryview) -> None:
            for kind, payload in reader.feed(data):
                if kind == REPLY:
                    took = self._reactor.now() - self._booted
                    _tell(self._owner, {"ready": json.loads(payload), "seconds": took})
                elif kind == ERROR:
                    _tell(self._owner, {"error": json.loads(payload)["message"]})
                stream.reset()

        stream.on_data = answered
        stream.write(frame(REQUEST, b'{"verb": "ping"}'))

    def _accept(self) -> None:
        try:
            connection = self._listener.accept()[0]
        except BlockingIOError:
            return
        except OSError:  # no descriptors left: those who wait get theirs when others have gone
            fd = self._listener.fileno()
            self._reactor.on_readable(fd, None)
            self._reactor.after(_PAUSE, lambda: self._reactor.on_readable(fd, self._accept))
            return
        Relay(self._reactor, self._hang_ups, connection, self._link.mux.open())

    def _owner_spoke(self) -> None:
        owner = self._owner
        assert owner
        try:
            said = owner.recv(64)
        except OSError:
            said = b""
        if said == KEEP:
            _tell(owner, {"kept": True})
            self._reactor.forget(owner.fileno())
            owner.close()
            self._owner = None
        else:
            self._end()

    def _end(self) -> None:
        self._ended_well = True
        self._reactor.stop()

    def _guest_ended(self, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        print(f"{self._what} ended with {code}", file=sys.stderr)
        # A power-off is an end in order, unless PID 1 says on the console what came before it.
        self._ended_well = code == 0 and FAILED not in directory.tail(self._path)
        _tell(self._owner, {"error": f"{self._what} ended (status {code})"})
        self._reactor.stop()

    def _look_at_console(self) -> None:
        """Gives up a guest that says it is broken and is not heard any more."""
        console = self._path / directory.CONSOLE
        said = console.read_bytes() if console.exists() else b""
        silent = self._link.silent()
        if silent < _LOOK:  # heard since the last look: what was there then has not broken it
            self._harmless = self._looked_at
        elif silent >= _BROKEN_AFTER:
            late = said[self._harmless :].decode(errors="replace")
            if any(words in late for words in _BROKEN):
                self._give_up(
                    "one of the guest's processes was killed from outside: it stands still"
                )
                return
        self._looked_at = len(said)
        self._reactor.after(_LOOK, self._look_at_console)

    def _guest_silent(self) -> None:
        self._give_up(f"{self._what} did not answer for {DEAD_AFTER:.0f} seconds")

    def _give_up(self, said: str) -> None:
        print(said, file=sys.stderr)
        # Where last words are looked for first.
        with contextlib.suppress(OSError), (self._path / directory.CONSOLE).open("a") as console:
            console.write(f"{said}\n")
        _tell(self._owner, {"error": said})
        self._reactor.stop()


class HangUps:
    """Watches connections that nobody reads for their peer's end.

    The reactor forgets a descriptor with no interest in it; epoll itself reports a hang-up even
    then, so such descriptors wait in an epoll of their own.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Any] = {}
        reactor.on_readable(self._epoll.fileno(), self._ready)

    def watch(self, fd: int, callback: Any) -> None:
        if fd not in self._callbacks:
            self._epoll.register(fd, 0)
        self._callbacks[fd] = callback

    def forget(self, fd: int) -> None:
        if self._callbacks.pop(fd, None):
            self._epoll.unregister(fd)

    def _ready(self) -> None:
        for fd, _ in self._epoll.poll(0):
            if callback := self._callbacks.get(fd):
                callback()


class Relay:
    """One client's connection and its stream."""

    def __init__(
        self, reactor: Reactor, hang_ups: HangUps, connection: socket.socket, stream: Stream
    ) -> None:
        self._reactor = reactor
        self._hang_ups = hang_ups
        self._connection = connection
        self._fd = connection.fileno()
        self._stream = stream
        self._out = bytearray()  # for the client; bounded by the stream's credit
        self._ending = False
        connection.setblocking(False)
        stream.on_data = self._from_guest
        stream.on_end = self._guest_is_done
        stream.on_reset = self._close
        stream.on_drain = self._drained
        reactor.on_readable(self._fd, self._from_client)

    def _from_client(self) -> None:
        try:
            data = self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._stream.reset()
            self._close()
            return
        self._stream.write(data)
        if self._stream.pending >= _MARK:
            self._reactor.on_readable(self._fd, None)
            self._hang_ups.watch(self._fd, self._client_gone)

    def _client_gone(self) -> None:
        self._stream.reset()
        self._close()

    def _drained(self) -> None:
        if self._stream.pending < _MARK and self._fd >= 0:
            self._hang_ups.forget(self._fd)
            self._reactor.on_readable(self._fd, self._from_client)

    def _from_guest(self, data: bytes | memoryview) -> None:
        if self._fd < 0:
            return
        self._out += data
        self._to_client()

    def _to_client(self) -> None:
        try:
            count = self._connection.send(self._out)
        except BlockingIOError:
            count = 0
        except OSError:
            self._client_gone()
            return
        del self._out[:count]
        self._stream.consumed(count)
        if self._ending and not self._out:
            self._close()
            return
        self._reactor.on_writable(self._fd, self._to_client if self._out else None)

    def _guest_is_done(self) -> None:
        self._ending = True
        self._stream.end()
        if not self._out:
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            self._reactor.forget(self._fd)
            self._hang_ups.forget(self._fd)
            self._fd = -1
            self._connection.close()
