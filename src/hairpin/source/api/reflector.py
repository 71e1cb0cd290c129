"""Follows one kind of objects: the whole of it first, then each change, through whatever happens.

As client-go's reflector: a streamed list where the server can (WatchList, asked for as kube-proxy
1.36 does), else a list by pages; then a watch from there.  A version that the server no longer
knows (410) means the whole again.  What was told stays true until the whole is known anew: a
server that is away takes nothing from anybody.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from hairpin.model.metadata import Key
from hairpin.source.api.client import ApiError, Client, Stream
from hairpin.source.api.objects import Decoding, Event, Item, KubeThing, Page, Resource, number
from hairpin.source.api.recent import Recent

PAGE = 500  # objects, as client-go
FIRST, MOST = 0.8, 30.0  # seconds of waiting after a failure: the first, the longest
LIVED = 0.5
"""Seconds after which a watch has been one: its end is no failure.  Half of client-go's second, for
the server counts from an earlier moment, and on a busy machine the difference is long."""
_SOON = 0.2  # seconds within which a watch that has been one is opened again
_RARELY = 300.0  # seconds: a server that lacks a kind may get it by an upgrade
_SILENT = 300.0  # seconds that a watch is asked to last at least; at most twice that
_SLACK = 30.0  # seconds that the server may be late
_MOST_PAGES = 100_000
_GONE, _TOO_LARGE = 410, 504
_NO_SUCH_KIND, _FORBIDDEN = 404, 403
_NO_STREAMED_LIST = (400, 404, 422)
_SLICES = "discovery.k8s.io/v1"


class Update(msgspec.Struct, frozen=True):
    """What is now: objects by key, None for gone.  ``whole``: the list is known since this one."""

    kind: str
    objects: list[tuple[Key, KubeThing | None]]
    whole: bool = False
    problems: tuple[str, ...] = ()


class Timer(Protocol):
    """The time, as a Reflector needs it."""

    def now(self) -> float:
        """Seconds by a clock that never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Less, when all is to end."""
        ...

    def dice(self) -> float:
        """From 0 to 1, evenly."""
        ...

    @property
    def stopped(self) -> bool:
        """All is to end."""
        ...


class Backoff:
    """How long to wait after a failure: twice as long each time, and with a random part, so
    that a thousand nodes do not come back at once."""

    def __init__(self, dice: Callable[[], float]) -> None:
        self._dice = dice
        self.failures = 0

    def failed(self, wait: float = 0.0) -> float:
        """Seconds from a half to all of the doubled time, and not less than ``wait``."""
        full = min(MOST, FIRST * (1 << min(self.failures, 10)))
        self.failures += 1
        return wait + full * (0.5 + 0.5 * self._dice())

    def went_well(self) -> None:
        self.failures = 0


class Reflector:
    """One resource of one server.  ``run`` is for a thread of its own; ``tell`` gets the Updates,
    ``say`` what goes wrong, in words."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        tell: Callable[[Update], None],
        say: Callable[[str], None],
        timer: Timer,
    ) -> None:
        self._client = client
        self._resource = resource
        self._tell = tell
        self._say = say
        self._timer = timer
        self._decoding = Decoding(resource)
        self._recent = Recent()
        self._backoff = Backoff(timer.dice)
        self._version = ""  # to go on from; "" where the whole is needed
        self._last_version = ""  # the newest that was seen, which a list should not be older than
        self._ordered = True  # whether the events of this stream came in their order
        self._streams = True  # whether the server may know streamed lists
        self._told_none = False  # of an optional kind
        self._open: Stream | None = None
        self._opened: float | None = None  # when, by the timer

    def run(self) -> None:
        """Until the timer is stopped."""
        while not self._timer.stopped:
            self._opened = None
            wait, streams = 0.0, self._streams
            try:
                if self._version:
                    self._watch()
                elif self._streams:
                    self._streamed()
                else:
                    self._listed()
                    continue
            except ApiError as error:
                if self._timer.stopped:
                    return
                wait = error.wait
                if not self._learn(error):
                    self._say(self._explained(error))
            if streams and not self._streams:
                continue  # asked otherwise, it may answer at once
            if not self._ordered:
                # An older one may be missing yet: the last is no place to go on from.
                self._version, self._ordered = "", True
            lived = self._opened is not None and self._timer.now() - self._opened >= LIVED
            if lived:
                self._backoff.went_well()
            if self._told_none:
                self._timer.sleep(_RARELY * (0.5 + self._timer.dice()))
            elif lived and self._version:
                self._timer.sleep(wait + _SOON * self._timer.dice())
            else:
                self._timer.sleep(self._backoff.failed(wait))

    def stop(self) -> None:
        """Ends a watch that is open; called by another thread when the timer is stopped."""
        stream = self._open
        if stream is not None:
            stream.close()

    def _learn(self, error: ApiError) -> bool:
        """What an error says of how to go on; whether that is all that there is to it."""
        if self._resource.optional and self._is_none(error.code):
            if not self._told_none:
                self._told_none = True
                self._tell(Update(self._resource.kind, [], whole=True))
                return error.code == _NO_SUCH_KIND
            return True
        if error.code == _GONE:
            self._version = ""
            self._last_version = ""
            return True
        if not self._version and error.code == _TOO_LARGE:
            self._last_version = ""  # the server's past is shorter than what was seen of it
        if self._streams and not self._version and error.code in _NO_STREAMED_LIST:
            self._streams = False
            return True
        return False

    def _is_none(self, code: int) -> bool:
        """Whether there is nothing to be had of an optional kind: the server does not have it, or
        an older role does not allow it.  A server that starts says the latter for a moment."""
        return code == _NO_SUCH_KIND or (code == _FORBIDDEN and self._backoff.failures > 1)

    def _explained(self, error: ApiError) -> str:
        said = f"{self._resource.path}: {error}"
        if error.code == _NO_SUCH_KIND and self._resource.api_version == _SLICES:
            return f"{said} ({_SLICES} is in Kubernetes 1.21 and newer)"
        return said

    # -- the whole -----------------------------------------------------------------------------

    def _streamed(self) -> None:
        """The whole as the beginning of a watch, which then goes on.  Raises ApiError."""
        query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        if self._last_version:
            query["resourceVersion"] = self._last_version
        items: dict[Key, Item] = {}
        problems: list[str] = []
        for event in self._events(query):
            if self._version:
                self._follow(event)
                continue
            if event.verb == "put" and event.item is not None:
                items[event.item.key] = event.item
                problems += event.problems
            elif event.verb == "gone" and event.item is not None:
                items.pop(event.item.key, None)
            elif event.initial_end:
                self._begin(Page(list(items.values()), event.version, problems=tuple(problems)))
            elif event.verb == "bookmark":  # with no word of the end: it is an ordinary watch
                self.stop()
                break
        if not self._version:
            self._streams = False  # an ordinary watch, by a server that ignores what it is asked

    def _listed(self) -> None:
        """The whole, page by page.  Raises ApiError."""
        items: list[Item] = []
        problems: list[str] = []
        query = {"limit": str(PAGE)}
        if not self._recent:
            query["resourceVersion"] = "0"  # whatever the server has at hand, as client-go
        for _ in range(_MOST_PAGES):
            try:
                page = self._page(query)
            except ApiError as error:
                if error.code != _GONE or "limit" not in query:
                    raise
                # A list begun too long ago: all at once, which is one moment.
                items, problems, query = [], [], {}
                continue
            items += page.items
            problems += page.problems
            if not page.more:
                self._begin(Page(items, page.version, problems=tuple(problems)))
                return
            query = {"limit": str(PAGE), "continue": page.more}
        raise ApiError(f"a list of more than {_MOST_PAGES} pages")

    def _page(self, query: dict[str, str]) -> Page:
        data = self._client.get(self._resource.path, {**self._resource.selectors, **query})
        try:
            page = self._decoding.page(data)
        except msgspec.DecodeError as error:
            raise ApiError(f"no list of Kubernetes: {error}") from None
        if not page.version:
            raise ApiError("no list of Kubernetes: it has no resourceVersion")
        return page

    def _begin(self, page: Page) -> None:
        """The whole is known: tells it, and what is no more."""
        self._told_none = False
        missing = self._recent.replace(page.items)
        objects: list[tuple[Key, KubeThing | None]] = [(key, None) for key in missing]
        objects += [(one.key, one.thing) for one in page.items]
        self._version = self._last_version = page.version
        self._tell(Update(self._resource.kind, objects, whole=True, problems=page.problems))

    # -- changes -------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Changes since the known version, until the stream ends.  Raises ApiError."""
        for event in self._events({"resourceVersion": self._version}):
            self._follow(event)

    def _events(self, query: dict[str, str]) -> Events:
        seconds = int(_SILENT * (1 + self._timer.dice()))
        asked = {
            **self._resource.selectors,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
            **query,
        }
        stream = self._client.lines(self._resource.path, asked, seconds + _SLACK)
        self._open, self._opened = stream, self._timer.now()
        return Events(stream, self._decoding)

    def _follow(self, event: Event) -> None:
        if event.item is not None and self._recent.is_news(event.item, gone=event.verb == "gone"):
            one = (event.item.key, event.item.thing)
            self._tell(Update(self._resource.kind, [one], problems=event.problems))
            self._backoff.went_well()  # a watch that brings something is worth the next one
        if event.verb in ("put", "gone", "bookmark") and event.version:
            self._ordered &= number(event.version) >= number(self._version)
            self._version = self._last_version = event.version


class Events:
    """The events of a stream; an error among them is raised, as ApiError."""

    def __init__(self, stream: Stream, decoding: Decoding) -> None:
        self._lines = iter(stream)
        self._stream = stream
        self._decoding = decoding

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Event:
        try:
            event = self._decoding.event(next(self._lines))
        except StopIteration:
            self._stream.close()
            raise
        except msgspec.DecodeError as error:
            self._stream.close()
            raise ApiError(f"no event of a watch: {error}") from None
        if event.verb == "error":
            self._stream.close()
            raise ApiError(f"{event.code} {event.text}", event.code)
        return event
