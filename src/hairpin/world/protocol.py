"""Frames on a connection's byte stream: kind (u8), length (u32, big endian), payload.

The kinds are in ``lab.session``.  Pure.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False  # see lab.session
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PAYLOAD = 64 << 20
"""Bytes; far above any manifest, far below what would exhaust the guest's memory."""

KEEP = b"keep\n"
"""What an owner says to the keeper, on the socket between them, to let its World live on."""

FAILED = "hairpin: the lab process ended"
"""How the guest's last line on its console begins when it did not end in order."""

_HEADER = struct.Struct(">BI")


class ProtocolError(Exception):
    """The peer does not speak this protocol."""


def frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame as bytes."""
    return _HEADER.pack(kind, len(payload)) + payload


class FrameReader:
    """Cuts a byte stream into frames, however it was split on its way."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
        """Takes bytes; gives the frames that are complete now.

        Stopping early keeps the rest for the next call.  The iterator raises ProtocolError.
        """
        self._buffer += data
        return self._frames()

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        buffer = self._buffer
        while len(buffer) >= _HEADER.size:
            kind, length = _HEADER.unpack_from(buffer)
            if length > MAX_PAYLOAD:
                raise ProtocolError(f"a frame of {length} bytes (at most {MAX_PAYLOAD})")
            end = _HEADER.size + length
            if len(buffer) < end:
                return
            payload = bytes(memoryview(buffer)[_HEADER.size : end])
            del buffer[:end]
            yield kind, payload
