"""The channel between the keeper and the guest: streams over ARQ over Ethernet frames.

Both ends are the same: the keeper's is a SEQPACKET socket, the guest's a packet socket on the
vector network device, and a read or write of either is one Ethernet frame.
"""

from __future__ import annotations

import os

from hairpin.kernel.reactor import Reactor, Timer
from hairpin.world.arq import HEADER_SIZE, Arq
from hairpin.world.mux import Mux, Stream

TYPE_CHECKING = False  # see lab.session
if TYPE_CHECKING:
    from collections.abc import Callable

ETHERTYPE = 0x88B5
"""IEEE 802: for local experiments.  Whatever else the guest sends on the device is ignored."""

MTU = 15_800
"""Bytes after the Ethernet header: with the kernel's own 320 a frame still fits 16 KiB, so that
a socket buffer holds as many bytes as it can."""

FRAME_COST = 17 << 10
"""What one full frame takes of a socket's send buffer: 16 KiB, the sk_buff, and some room."""

_ETHERNET = b"\xff" * 6 + b"\x02hairp" + ETHERTYPE.to_bytes(2, "big")
_TYPE = slice(12, 14)
_READ_MOST = 64  # frames at a time, then others have their turn
_NO_ROOM = (BlockingIOError, InterruptedError)


class Link:
    """One end of the channel.

    ``window`` is the most payloads under way.  ``on_open`` is called for streams that the peer
    opens, ``on_dead`` once when the peer is given up.
    """

    def __init__(
        self,
        reactor: Reactor,
        fd: int,
        *,
        window: int,
        dead_after: float,
        on_dead: Callable[[], None],
        on_open: Callable[[Stream], None] = lambda stream: None,
    ) -> None:
        self.mux = Mux(MTU - HEADER_SIZE, on_open, self._wake)
        self._reactor = reactor
        self._fd = fd
        self._arq = Arq(reactor.now(), window=window, dead_after=dead_after)
        self._on_dead = on_dead
        self._awake = False
        self._timer: Timer | None = None
        self._timer_due = 0.0
        os.set_blocking(fd, False)
        reactor.on_readable(fd, self._read)
        self._transmit()

    def silent(self) -> float:
        """Seconds since the peer was heard; an idle one is asked every few."""
        return self._arq.silent(self._reactor.now())

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._reactor.after(0, self._transmit)

    def _read(self) -> None:
        arq, receive = self._arq, self.mux.receive
        for _ in range(_READ_MOST):
            try:
                frame = os.read(self._fd, 65536)
            except _NO_ROOM:
                break
            except ConnectionError:  # it ended with frames unread
                frame = b""
            if not frame:  # the peer's end is closed: whoever watches its process will act
                self._reactor.on_readable(self._fd, None)
                return
            if frame[_TYPE] == _ETHERNET[_TYPE]:
                for payload in arq.receive(memoryview(frame)[14:], self._reactor.now()):
                    receive(payload)
                if arq.urgent:
                    self._transmit()
        self._transmit()

    def _transmit(self) -> None:
        self._awake = False
        now = self._reactor.now()
        for frame in self._arq.transmit(now, self.mux.supply):
            try:
                os.writev(self._fd, (_ETHERNET, frame))
            except OSError:
                # Full, or the peer has just ended: a lost frame, which Arq knows how to treat.
                break
        due = self._arq.deadline()
        if self._timer is None or due < self._timer_due:
            if self._timer:
                self._timer.cancel()
            self._timer_due = due
            self._timer = self._reactor.after(max(0.0, due - now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._arq.dead(self._reactor.now()):
            self._on_dead()
        else:
            self._transmit()
