"""Reliable, ordered frames over a link that may lose, repeat or reorder them.

The only fast way into user-mode Linux, its vector network device on a socket pair, drops frames
silently when the guest is busy, and brings the guest down when the host leaves too many of its
frames unread (seen with 6.1: the device's retry after EAGAIN).  So both ends follow these rules:

- A frame carries at most one payload, its sequence number, and the number of the next payload
  that its sender expects: a cumulative acknowledgement.  At most ``window`` payloads are
  unacknowledged, which keeps what lies on the link below what either end can buffer.
- A receiver that holds a later payload than the one it expects says so in its frames.  Three
  such frames, or no acknowledgement in time from a peer that can be heard, mean a loss: the
  oldest payload goes out again, and so does the next for as long as acknowledgements stay below
  what had been sent by then (RFC 6582 does the same for TCP).
- Silence is answered with a question, never with payloads: an empty frame that wants an
  acknowledgement, at growing intervals.  A peer that is stopped finds a handful of small frames,
  whatever the time it slept.  New payloads wait until it is heard again.
- An idle link is asked now and then, so that a dead peer is noticed.  Dead is who was silent for
  long *and* left several questions unanswered: a process that itself slept must ask first.

Sans-IO: time is an argument (seconds, monotonic), frames are values.
"""

from __future__ import annotations

import struct
from collections import deque

TYPE_CHECKING = False  # see lab.session
if TYPE_CHECKING:
    from collections.abc import Callable

_HEADER = struct.Struct(">BxHQQ")  # flags, payload length, sequence number, next expected
HEADER_SIZE = _HEADER.size
MAX_PAYLOAD = 0xFFFF

_PAYLOAD = 1  # the frame carries one, and the sequence number is its own
_ANSWER = 2  # the sender wants an acknowledgement
_GAP = 4  # the sender holds later payloads than the one that it expects

WINDOW = 32
_ACK_EVERY = 8  # payloads, when many arrive before ``transmit``
_RETRY = 0.2  # seconds; round trips take 0.1 ms, but the guest may be busy for long
_RETRY_MOST = 5.0
_IDLE = 5.0  # seconds of silence before an idle peer is asked
_DEAD_QUESTIONS = 5
_LOSS = 3  # frames that report a gap at the same place; fewer may be mere reordering


class Arq:
    """One end of a link."""

    def __init__(self, now: float, *, window: int = WINDOW, dead_after: float = 60.0) -> None:
        self._window = window
        self._dead_after = dead_after
        self._next = 0  # sequence number of the next new payload
        self._sent: deque[bytes] = deque()  # unacknowledged payloads, oldest first
        self._recover = 0  # payloads before this one may have been lost
        self._resend = False  # the oldest unacknowledged one is to go out again
        self._gaps = 0  # reports of a gap since the last progress
        self._expected = 0  # sequence number that may be delivered next
        self._early: dict[int, bytes | memoryview] = {}
        self._acknowledge = 0  # payloads since the last acknowledgement
        self._answer = False
        self._heard = now
        self._questions = 0  # unanswered
        self._due = now + _RETRY

    @property
    def unacknowledged(self) -> int:
        """Payloads sent and not acknowledged."""
        return len(self._sent)

    @property
    def urgent(self) -> bool:
        """Whether an acknowledgement should not wait until all that arrived has been read."""
        return self._acknowledge >= _ACK_EVERY

    def deadline(self) -> float:
        """When ``transmit`` must be called at the latest."""
        return self._due

    def silent(self, now: float) -> float:
        """Seconds since the peer was heard."""
        return now - self._heard

    def dead(self, now: float) -> bool:
        """Whether the peer is to be given up."""
        return self._questions >= _DEAD_QUESTIONS and now - self._heard >= self._dead_after

    def receive(self, frame: bytes | memoryview, now: float) -> list[bytes | memoryview]:
        """Takes a frame from the link; returns the payloads that may now be delivered."""
        if len(frame) < HEADER_SIZE:
            return []
        flags, length, sequence, acknowledged = _HEADER.unpack_from(frame)
        if len(frame) < HEADER_SIZE + length:
            return []
        self._heard = now
        self._take_acknowledgement(acknowledged, flags, now)
        if flags & _ANSWER:
            self._answer = True
        if not flags & _PAYLOAD:
            return []
        self._acknowledge += 1
        if not self._expected <= sequence < self._expected + self._window:
            return []
        self._early[sequence] = memoryview(frame)[HEADER_SIZE : HEADER_SIZE + length]
        ready = []
        while self._expected in self._early:
            ready.append(self._early.pop(self._expected))
            self._expected += 1
        return ready

    def transmit(self, now: float, supply: Callable[[], bytes]) -> list[bytes]:
        """Frames to put on the link now.

        ``supply`` is called for new payloads while there is room for them; it returns b"" when
        there are none.
        """
        frames = []
        if now >= self._due and self._sent and now - self._heard < _RETRY:
            self._suspect_loss()
        if self._resend and self._sent:
            frames.append(self._frame(_PAYLOAD, self._next - len(self._sent), self._sent[0]))
            self._due = now + _RETRY
        elif now >= self._due:
            self._questions += 1
            self._due = now + min(_RETRY * 2**self._questions, _RETRY_MOST)
            frames.append(self._frame(_ANSWER, self._next))
        self._resend = False
        while len(self._sent) < self._window and not self._questions:
            payload = supply()
            if not payload:
                break
            if not self._sent:
                self._due = now + _RETRY
            frames.append(self._frame(_PAYLOAD, self._next, payload))
            self._sent.append(payload)
            self._next += 1
        if not frames and (self._acknowledge or self._answer):
            frames.append(self._frame(0, self._next))
        if frames:
            self._acknowledge = 0
            self._answer = False
        return frames

    def _frame(self, flags: int, sequence: int, payload: bytes = b"") -> bytes:
        if self._early:
            flags |= _GAP
        return _HEADER.pack(flags, len(payload), sequence, self._expected) + payload

    def _take_acknowledgement(self, acknowledged: int, flags: int, now: float) -> None:
        oldest = self._next - len(self._sent)
        if oldest < acknowledged <= self._next:
            for _ in range(acknowledged - oldest):
                self._sent.popleft()
            self._gaps = 0
            self._resend = acknowledged < self._recover
            self._due = now + _RETRY
        elif acknowledged == oldest and self._sent:
            self._gaps += bool(flags & _GAP)
            if self._questions or self._gaps == _LOSS:
                # An answer to a question: what was sent before it has not arrived.
                self._suspect_loss()
        self._questions = 0
        if not self._sent:
            self._due = now + _IDLE

    def _suspect_loss(self) -> None:
        self._recover = self._next
        self._resend = True
