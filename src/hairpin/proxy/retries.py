"""What the kernel refused, and when to ask it again.

Each object waits for itself: twice as long after each failure, with a random part so that many
do not come back at once.  Nothing is remembered of what was to be done to an object: when its
time comes, it is made what is wanted of it then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from hairpin.kernel.apply import Failed
from hairpin.mode.ownership import mark, marks_of, server_of
from hairpin.state.change import Change, Object
from hairpin.state.ipset import SetEntry
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address

ObjectKey = tuple[object, ...]

FIRST = 0.5  # seconds
MOST = 60.0
_DOUBLINGS = 12  # more make no difference


class Refused(msgspec.Struct):
    """One object that is not as wanted."""

    verb: str
    object: Object
    errno: str
    text: str
    attempts: int
    retry_at: float


class Retries:
    """The refused objects, by their key."""

    def __init__(self, dice: Callable[[], float]) -> None:
        self.refused: dict[ObjectKey, Refused] = {}
        self._dice = dice

    def note(self, done: Iterable[Change], failed: Iterable[Failed], now: float) -> list[Failed]:
        """Learns how ``done`` ended; gives the failures that are new or are others than before."""
        news = []
        wrong = {one.change.object.key: one for one in failed}
        if self.refused:
            for change in done:
                if change.object.key not in wrong:
                    self.refused.pop(change.object.key, None)
        for key, one in wrong.items():
            known = self.refused.get(key)
            if known is None or known.errno != one.error.name:
                news.append(one)
            attempts = known.attempts + 1 if known is not None else 1
            self.refused[key] = Refused(
                verb=one.change.verb,
                object=one.change.object,
                errno=one.error.name,
                text=str(one.error),
                attempts=attempts,
                retry_at=now + self.delay(attempts),
            )
        return news

    def due(self, now: float) -> list[ObjectKey]:
        """What is to be tried again, together with what it stands or falls with.

        A virtual server may not be made without the entry that marks it as ours, nor the entry
        be taken away before it.
        """
        due = [one.object for one in self.refused.values() if one.retry_at <= now]
        if not due:
            return []
        kin = {name for one in due for name in _kin(one)}
        return [
            key
            for key, one in self.refused.items()
            if one.retry_at <= now or not kin.isdisjoint(_kin(one.object))
        ]

    def next(self) -> float | None:
        """When the first is due."""
        return min((one.retry_at for one in self.refused.values()), default=None)

    def keep(self, keys: Iterable[ObjectKey]) -> None:
        """Forgets all but these: the others turned out to be as wanted."""
        kept = frozenset(keys)
        self.refused = {key: one for key, one in self.refused.items() if key in kept}

    def forget(self, key: ObjectKey) -> None:
        self.refused.pop(key, None)

    def delay(self, attempts: int) -> float:
        """Seconds to wait after so many failures: from a half to all of the doubled time."""
        full = min(MOST, FIRST * (1 << min(attempts - 1, _DOUBLINGS)))
        return full * (0.5 + 0.5 * self._dice())


def _kin(one: Object) -> Iterator[object]:
    """What an object has in common with others that are one frontend's."""
    if isinstance(one, RealServer):
        one = server_of(one)
    if isinstance(one, VirtualServer):
        yield from marks_of(one)
        yield one.ip
    elif isinstance(one, SetEntry):
        yield mark(one) or one.key
    elif isinstance(one, Address):
        yield one.ip
    else:
        yield one.key
