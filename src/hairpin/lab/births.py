"""When each object was made, which Kubernetes keeps with the object and hairpin beside it."""

from __future__ import annotations

import time
from typing import Any

from hairpin.model.snapshot import Snapshot


class Births:
    """The moment since which each object has been there, in seconds since 1970."""

    def __init__(self) -> None:
        self._born: dict[tuple[str, str, str], float] = {}
        self._noted: Snapshot | None = None

    def note(self, snapshot: Snapshot) -> None:
        """Remembers what is new and forgets what is gone."""
        if snapshot is self._noted:
            return
        self._noted = snapshot
        now, before = time.time(), self._born
        keys = ((type(thing).__name__, *thing.key) for thing in snapshot)
        self._born = {key: before.get(key, now) for key in keys}

    def stamp(self, shape: dict[str, Any]) -> dict[str, Any]:
        """Puts ``metadata.creationTimestamp`` into an object's API shape, if it is known."""
        metadata = shape.get("metadata", {})
        key = (str(shape.get("kind")), metadata.get("namespace", ""), metadata.get("name", ""))
        if key in self._born:
            metadata["creationTimestamp"] = stamp(self._born[key])
        return shape


def stamp(moment: float) -> str:
    """A time as Kubernetes writes it: UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
