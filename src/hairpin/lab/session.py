"""What a lab is asked by one connection, and how it answers.

``world`` carries the connections and makes the Sessions; the lab knows only this interface.  A
connection holds one request, answered by any number of events and output frames and then by
exactly one reply or failure.
"""

from __future__ import annotations

# ``typing`` costs 50 ms in the embedded kernel, and this module is loaded before the lab process
# can answer: the type checker alone needs it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol
else:
    Protocol = object

REQUEST = 1  # JSON object with "verb"; the client's first frame, once
EVENT = 2  # JSON, progress
REPLY = 3  # JSON, final
ERROR = 4  # JSON {"message", "remedy", "exit"}, final
STDIN = 5  # bytes; empty means end of file
STDOUT = 6
STDERR = 7
SIGNAL = 8  # JSON {"signal": number}
RESIZE = 9  # JSON {"rows", "cols"}


class LabError(Exception):
    """What a person is told instead of an answer.

    ``remedy`` says what to do next; ``exit_code`` is the command's (2: the input was wrong).
    """

    def __init__(self, message: str, remedy: str | None = None, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.message}\n{self.remedy}" if self.remedy else self.message


class Session(Protocol):
    """One connection, as the handler of its request sees it.

    Sending never fails and never waits.  After ``reply``, ``fail`` or ``on_close`` the Session is
    over: what is sent then is dropped and nothing is called back any more.
    """

    on_frame: Callable[[int, bytes], None]
    """Called with the kind and payload of each frame after the request."""
    on_close: Callable[[], None]
    """Called once when the client goes away before it had its reply."""
    on_drain: Callable[[], None]
    """Called when ``blocked`` has become false again."""

    @property
    def blocked(self) -> bool:
        """Whether more waits to be sent than should: stop producing until ``on_drain``."""

    def send(self, kind: int, payload: bytes) -> None:
        """Sends a frame of any length below 4 GiB."""

    def event(self, value: Any) -> None:
        """Reports progress: anything that ``model.address.encode`` takes."""

    def reply(self, value: Any) -> None:
        """Answers the request and ends the Session."""

    def fail(self, message: str, remedy: str | None = None, exit_code: int = 1) -> None:
        """Refuses the request and ends the Session."""

    def guarded(self, call: Callable[[], None]) -> None:
        """Runs code of the handler that something else calls back: a timer, a process's end.

        What it raises fails this Session and nothing else, so that the client is not left waiting.
        """

    def pause(self) -> None:
        """Takes no more frames for now: the client is stalled once the buffers are full."""

    def resume(self) -> None:
        """Takes frames again after ``pause``."""


class Handler(Protocol):
    """Answers requests: the lab."""

    def open(self, session: Session, request: dict[str, Any]) -> None:
        """Begins to answer; may keep ``session`` and answer later.

        LabError raised here fails the Session; so does any other exception, with its type.
        """
