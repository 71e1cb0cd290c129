"""Which events are news: the newest version that is known of each object.

An API server sends each object's changes in their order.  What stands between (a proxy that
replays, a server that lost its memory) may repeat them or swap them; an older version of an object
never replaces a newer one.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from hairpin.model.metadata import Key
from hairpin.source.api.objects import Item

_MOST_GONE = 1_000  # keys of deleted objects that are remembered; some 250 bytes each


class Recent:
    """Versions since the last whole list; a list is believed whatever was known before."""

    def __init__(self) -> None:
        self._known: dict[Key, int] = {}
        self._gone: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._known)

    def replace(self, items: Iterable[Item]) -> list[Key]:
        """These are all that there are: gives the keys of those that are no more."""
        known = {one.key: one.version for one in items}
        missing = [key for key in self._known if key not in known]
        self._known, self._gone = known, {}
        return missing

    def is_news(self, item: Item, *, gone: bool) -> bool:
        """Learns one event; False for one that is older than what is known, or the same."""
        key, version = item.key, item.version
        newest = max(self._known.get(key, 0), self._gone.get(key, 0))
        if version and newest and version <= newest:
            return False
        if gone:
            was = self._known.pop(key, None)
            self._gone[key] = version
            if len(self._gone) > _MOST_GONE:
                del self._gone[next(iter(self._gone))]
            return was is not None
        self._gone.pop(key, None)
        self._known[key] = version
        return True
