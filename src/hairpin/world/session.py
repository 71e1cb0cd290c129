"""The Session of ``lab.session`` over a stream: frames in, frames out, one request each."""

from __future__ import annotations

import json
import sys
from functools import partial

from hairpin.lab.session import ERROR, EVENT, REPLY, REQUEST, LabError, Session
from hairpin.world.protocol import FrameReader, ProtocolError, frame

TYPE_CHECKING = False  # see lab.session
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from hairpin.world.mux import Stream

_BLOCKED = 256 << 10  # bytes waiting to be sent above which a handler should stop producing
_DRAINED = 64 << 10


def _nothing(*_: object) -> None:
    return None


def _encode(value: Any) -> bytes:
    """JSON; values of ``model`` and ``state`` too, once something has loaded msgspec.

    Loading it costs 100 ms in the guest, which an answer of plain values should not pay.
    """
    if "msgspec" in sys.modules:
        from hairpin.model.address import encode

        return encode(value)
    return json.dumps(value).encode()


class StreamSession(Session):
    """One connection.  ``on_request`` is called with the session and the request, once."""

    def __init__(
        self, stream: Stream, on_request: Callable[[StreamSession, dict[str, Any]], None]
    ) -> None:
        self.on_frame: Callable[[int, bytes], None] = _nothing
        self.on_close: Callable[[], None] = _nothing
        self.on_drain: Callable[[], None] = _nothing
        self._stream = stream
        self._reader = FrameReader()
        self._on_request: Callable[[StreamSession, dict[str, Any]], None] | None = on_request
        self._over = False
        self._paused = False
        self._delivering = False
        self._held = 0  # bytes taken from the stream, not granted back
        self._was_blocked = False
        stream.on_data = self._data
        stream.on_end = stream.on_reset = self._gone
        stream.on_drain = self._drained

    @property
    def blocked(self) -> bool:
        self._was_blocked |= self._stream.pending > _BLOCKED
        return self._was_blocked

    def send(self, kind: int, payload: bytes) -> None:
        if not self._over:
            self._stream.write(frame(kind, payload))

    def event(self, value: Any) -> None:
        self.send(EVENT, _encode(value))

    def reply(self, value: Any) -> None:
        self.send(REPLY, _encode(value))
        self._finish()

    def fail(self, message: str, remedy: str | None = None, exit_code: int = 1) -> None:
        self.send(ERROR, _encode({"message": message, "remedy": remedy, "exit": exit_code}))
        self._finish()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._deliver(b"")

    def guarded(self, call: Callable[[], None]) -> None:
        """Runs a handler's code; what it raises fails this session and nothing else."""
        try:
            call()
        except LabError as error:
            self.fail(error.message, error.remedy, error.exit_code)
        except Exception as error:
            report(error)
            self.fail(f"{type(error).__name__}: {error}", "the lab's console log has the details")

    def _data(self, data: bytes | memoryview) -> None:
        self._held += len(data)
        self._deliver(data)

    def _deliver(self, data: bytes | memoryview) -> None:
        frames = self._reader.feed(data)
        if self._paused or self._delivering:  # or called by a handler inside the loop below
            return
        self._delivering = True
        try:
            for kind, payload in frames:
                if self._over:
                    break
                self.guarded(partial(self._frame, kind, payload))
                if self._paused:
                    break
        except ProtocolError as error:
            self.fail(str(error))
        finally:
            self._delivering = False
        if not self._paused:
            self._stream.consumed(self._held)
            self._held = 0

    def _frame(self, kind: int, payload: bytes) -> None:
        if self._on_request:
            handle, self._on_request = self._on_request, None
            handle(self, _decode_request(kind, payload))
        else:
            self.on_frame(kind, payload)

    def _drained(self) -> None:
        if self._was_blocked and self._stream.pending <= _DRAINED and not self._over:
            self._was_blocked = False
            self.guarded(self.on_drain)

    def _gone(self) -> None:
        if not self._over:
            self._over = True
            self._stream.reset()
            self.guarded(self.on_close)

    def _finish(self) -> None:
        self._over = True
        self._stream.end()


def report(error: BaseException) -> None:
    """Writes an error with its traceback to the log."""
    import traceback

    traceback.print_exception(error, file=sys.stderr)
    sys.stderr.flush()


def _decode_request(kind: int, payload: bytes) -> dict[str, Any]:
    if kind != REQUEST:
        raise LabError(f"the first frame must be a request, not kind {kind}")
    try:
        request = json.loads(payload)
    except ValueError as error:
        raise LabError(f"the request is not JSON: {error}") from None
    if not isinstance(request, dict) or not isinstance(request.get("verb"), str):
        raise LabError('the request must be an object with a "verb"')
    return request
