"""A Session whose client is a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Heard:
    """Notes how it ended: with a reply, or failed.  ``on_end``: called then."""

    blocked = False

    def __init__(self, on_end: Callable[[], None] = lambda: None) -> None:
        self.on_frame: Callable[[int, bytes], None] = lambda kind, payload: None
        self.on_close: Callable[[], None] = lambda: None
        self.on_drain: Callable[[], None] = lambda: None
        self.end: list[tuple[Any, ...]] = []
        self._on_end = on_end

    def send(self, kind: int, payload: bytes) -> None: ...

    def event(self, value: Any) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self.fail(f"{type(error).__name__}: {error}")

    def reply(self, value: Any) -> None:
        self.end.append(("reply", value))
        self._on_end()

    def fail(self, message: str, remedy: str | None = None, exit_code: int = 1) -> None:
        self.end.append(("fail", message, remedy, exit_code))
        self._on_end()
