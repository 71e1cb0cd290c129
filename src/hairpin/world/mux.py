"""Many byte streams over one ordered channel.

Each payload of the channel is a list of records: stream (u32), kind (u8), length (u16), data.
A stream's sender may be ahead of its reader by ``CREDIT`` bytes; the reader grants more as it
consumes.  So a reader that has stopped stalls its own stream and no other, and nobody buffers
more than that.  Payloads are made when the channel has room for one, taking from the streams in
turn: a small request is never behind megabytes of somebody else's.

Pure: bytes in, bytes out, callbacks between.
"""

from __future__ import annotations

import struct
from collections import deque

TYPE_CHECKING = False  # see lab.session
if TYPE_CHECKING:
    from collections.abc import Callable

CREDIT = 256 << 10  # bytes
_GRANT = CREDIT // 4  # consumed bytes that are worth a record

_RECORD = struct.Struct(">IBH")
_AMOUNT = struct.Struct(">I")
_OPEN, _DATA, _END, _RESET, _CREDIT = range(1, 6)


def _nothing(*_: object) -> None:
    return None


class Stream:
    """One stream, both ways.  Set the callbacks before anything can arrive."""

    def __init__(self, mux: Mux, number: int) -> None:
        self.number = number
        self.on_data: Callable[[bytes | memoryview], None] = _nothing
        """The bytes are valid during the call; ``consumed`` must follow, then or later."""
        self.on_end: Callable[[], None] = _nothing
        """The peer sends no more."""
        self.on_reset: Callable[[], None] = _nothing
        """The peer gave the stream up: nothing can be sent or received any more."""
        self.on_drain: Callable[[], None] = _nothing
        """Some of what was pending has been sent."""
        self.pending = 0  # bytes written and not yet sent
        self._mux = mux
        self._out: deque[memoryview] = deque()
        self._credit = CREDIT  # bytes that may be sent
        self._consumed = 0  # bytes to be granted
        self._ending = False  # all that is pending, then the end
        self._ended = False  # the end has been sent
        self._peer_ended = False
        self._queued = False  # stands in the mux's queue
        self.closed = False

    def write(self, data: bytes | memoryview) -> None:
        """Sends bytes; ignored on a stream that is over."""
        if data and not self.closed and not self._ending:
            self._out.append(memoryview(data))
            self.pending += len(data)
            self._mux._enqueue(self)

    def end(self) -> None:
        """Sends no more after what is pending."""
        if not self.closed and not self._ending:
            self._ending = True
            self._mux._enqueue(self)

    def reset(self) -> None:
        """Gives the stream up at once, pending bytes included."""
        if not self.closed:
            self._mux._control(self.number, _RESET)
            self._mux._drop(self)

    def consumed(self, count: int) -> None:
        """Lets the peer send ``count`` bytes more."""
        self._consumed += count
        if self._consumed >= _GRANT and not self.closed:
            self._mux._control(self.number, _CREDIT, _AMOUNT.pack(self._consumed))
            self._consumed = 0

    def _sendable(self) -> bool:
        if self.closed or self._ended:
            return False
        return self._credit > 0 if self.pending else self._ending

    def _take(self, room: int, pieces: list[bytes | memoryview]) -> int:
        """Moves one record of at most ``room`` bytes into ``pieces``; returns its size."""
        if not self.pending:
            self._ended = True
            pieces.append(_RECORD.pack(self.number, _END, 0))
            if self._peer_ended:
                self._mux._drop(self)
            return _RECORD.size
        count = min(self.pending, self._credit, room - _RECORD.size)
        self.pending -= count
        self._credit -= count
        pieces.append(_RECORD.pack(self.number, _DATA, count))
        left = count
        while left:
            piece = self._out.popleft()
            if len(piece) > left:
                self._out.appendleft(piece[left:])
                piece = piece[:left]
            pieces.append(piece)
            left -= len(piece)
        return _RECORD.size + count


class Mux:
    """One end of the channel; ``limit`` is the most bytes of a payload.

    ``on_open`` is called for streams that the peer opens (only one of the two ends may), and
    ``on_work`` when ``supply`` has something new to give.
    """

    def __init__(
        self,
        limit: int,
        on_open: Callable[[Stream], None] = _nothing,
        on_work: Callable[[], None] = _nothing,
    ) -> None:
        self._limit = limit
        self._on_open = on_open
        self._on_work = on_work
        self._streams: dict[int, Stream] = {}
        self._opened = 0
        self._controls: deque[bytes] = deque()
        self._queue: deque[Stream] = deque()  # streams with something to send, in turn

    @property
    def streams(self) -> list[Stream]:
        """The streams that are not over."""
        return list(self._streams.values())

    def open(self) -> Stream:
        """A new stream."""
        self._opened += 1
        self._control(self._opened, _OPEN)
        return self._add(self._opened)

    def receive(self, payload: bytes | memoryview) -> None:
        """Takes a payload from the channel."""
        view = memoryview(payload)
        at = 0
        while at < len(view):
            number, kind, length = _RECORD.unpack_from(view, at)
            at += _RECORD.size + length
            self._record(number, kind, view[at - length : at])

    def supply(self) -> bytes:
        """The next payload for the channel; b"" when there is nothing to send."""
        pieces: list[bytes | memoryview] = []
        room = self._limit
        while self._controls and len(self._controls[0]) <= room:
            pieces.append(self._controls.popleft())
            room -= len(pieces[-1])
        drained = []
        while self._queue and room > _RECORD.size:
            stream = self._queue.popleft()
            stream._queued = False
            if stream._sendable():
                room -= stream._take(room, pieces)
                drained.append(stream)
                self._enqueue(stream)
        payload = b"".join(pieces)
        for stream in drained:
            if not stream.closed:
                stream.on_drain()
        return payload

    def _record(self, number: int, kind: int, data: memoryview) -> None:
        stream = self._streams.get(number)
        if kind == _OPEN:
            self._on_open(self._add(number))
        elif stream is None:
            return  # given up here while the record was on its way
        elif kind == _DATA:
            stream.on_data(data)
        elif kind == _END:
            stream._peer_ended = True
            if stream._ended:
                self._drop(stream)
            stream.on_end()
        elif kind == _RESET:
            self._drop(stream)
            stream.on_reset()
        elif kind == _CREDIT:
            stream._credit += _AMOUNT.unpack(data)[0]
            self._enqueue(stream)

    def _add(self, number: int) -> Stream:
        stream = self._streams[number] = Stream(self, number)
        return stream

    def _drop(self, stream: Stream) -> None:
        stream.closed = True
        stream.pending = 0
        stream._out.clear()
        self._streams.pop(stream.number, None)

    def _control(self, number: int, kind: int, data: bytes = b"") -> None:
        self._controls.append(_RECORD.pack(number, kind, len(data)) + data)
        self._on_work()

    def _enqueue(self, stream: Stream) -> None:
        if not stream._queued and stream._sendable():
            stream._queued = True
            self._queue.append(stream)
            self._on_work()
