"""What a cluster holds, as JSON objects with versions, and everything that ever happened to them.

One counter for all objects, as etcd has; a watch reads the history from a version on, and a version
that is older than what is kept is gone (410).
"""

from __future__ import annotations

import copy
import json
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

_KEPT = 10_000  # events of a collection, at least; a soak makes some dozens a second
Raw = dict[str, Any]
Name = tuple[str, str, str]  # collection, namespace, name

PATHS = {
    "/api/v1/services": ("services", "ServiceList", "v1", "Service"),
    "/api/v1/nodes": ("nodes", "NodeList", "v1", "Node"),
    "/apis/discovery.k8s.io/v1/endpointslices": (
        "endpointslices",
        "EndpointSliceList",
        "discovery.k8s.io/v1",
        "EndpointSlice",
    ),
    "/apis/networking.k8s.io/v1/servicecidrs": (
        "servicecidrs",
        "ServiceCIDRList",
        "networking.k8s.io/v1",
        "ServiceCIDR",
    ),
}
OF_KIND = {row[3]: row for row in PATHS.values()}


class Event:
    """One change: the object as it was stored, and what it was before."""

    def __init__(self, version: int, name: Name, before: Raw | None, after: Raw | None) -> None:
        self.version = version
        self.name = name
        self.before = before
        self.after = after


class Store:
    """Used by many threads."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.version = 100
        self.oldest = 100  # a watch from before this one is answered with 410 (``is_gone``)
        self.objects: dict[Name, Raw] = {}
        self.history: dict[str, list[Event]] = {}  # by collection, the last ones
        self._kept: dict[str, int] = {}  # what happened after this version is in it
        self.past: dict[int, dict[Name, Raw]] = {}  # whole states that pages are read from

    def put(self, thing: Raw) -> int:
        """Makes or replaces an object, with a new version."""
        raw = copy.deepcopy(thing)
        kind = raw["kind"]
        row = OF_KIND[kind]
        meta = raw["metadata"]
        if kind not in ("Node", "ServiceCIDR"):
            meta.setdefault("namespace", "default")
        name = (row[0], meta.get("namespace", ""), meta["name"])
        with self.changed:
            self.version += 1
            meta["resourceVersion"] = str(self.version)
            meta.setdefault("uid", f"uid-{name}")
            before = self.objects.get(name)
            self.objects[name] = raw
            self._happened(Event(self.version, name, before, raw))
            return self.version

    def delete(self, kind: str, namespace: str, name: str) -> None:
        with self.changed:
            key = (OF_KIND[kind][0], namespace, name)
            before = self.objects.pop(key)
            self.version += 1
            self._happened(Event(self.version, key, before, None))

    def _happened(self, event: Event) -> None:
        collection = event.name[0]
        events = self.history.setdefault(collection, [])
        events.append(event)
        if len(events) > 2 * _KEPT:
            self._kept[collection] = events[_KEPT - 1].version
            del events[:_KEPT]
        self.changed.notify_all()

    def is_gone(self, version: int, collection: str) -> bool:
        """Whether what happened since is not known any longer."""
        with self.changed:
            return version < max(self.oldest, self._kept.get(collection, 0))

    def compact(self) -> None:
        """Every version but the present one is gone, for watches that begin from now on."""
        with self.changed:
            self.version += 1  # something else was written, too
            self.oldest = self.version
            self.past.clear()
            self.changed.notify_all()

    def listed(self, collection: str, query: dict[str, str]) -> tuple[int, list[Raw]]:
        with self.changed:
            found = [one for name, one in sorted(self.objects.items()) if name[0] == collection]
            return self.version, [one for one in found if matches(one, query)]

    def since(self, version: int, collection: str) -> tuple[list[Event], int]:
        """What happened to a collection after ``version``, and the version that this is up to.

        Both in one look: what happens between two looks would be told to no watch.
        """
        with self.changed:
            assert version >= self._kept.get(collection, 0), "a watch that is too slow"
            known = self.history.get(collection, [])
            at = bisect_right(known, version, key=lambda one: one.version)
            return known[at:], max(version, self.version)

    def wait(self, version: int, seconds: float) -> None:
        """Until something happened after ``version``, or so long."""
        end = time.monotonic() + seconds
        with self.changed:
            while self.version <= version and (left := end - time.monotonic()) > 0:
                self.changed.wait(left)


def matches(raw: Raw, query: dict[str, str]) -> bool:
    """Whether an object is what labelSelector and fieldSelector ask for: the few forms in use."""
    labels = raw["metadata"].get("labels") or {}
    for term in filter(None, query.get("labelSelector", "").split(",")):
        if term.startswith("!"):
            if term[1:] in labels:
                return False
        elif "=" in term:
            key, value = term.split("=", 1)
            if labels.get(key) != value:
                return False
        elif term not in labels:
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        wanted = "!=" not in term
        path, value = term.replace("!=", "=").split("=", 1)
        if (_field(raw, path) == value) != wanted:
            return False
    return True


def _field(raw: Raw, path: str) -> str:
    found: Any = raw
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return "" if found is None else str(found)


def watch_lines(events: list[Event], query: dict[str, str]) -> Iterator[bytes]:
    """The events as the API server sends them: what leaves the selector is DELETED."""
    for one in events:
        was = one.before is not None and matches(one.before, query)
        now = one.after is not None and matches(one.after, query)
        if now and one.after is not None:
            yield line("MODIFIED" if was else "ADDED", one.after)
        elif was and one.before is not None:
            gone = copy.deepcopy(one.before)
            gone["metadata"]["resourceVersion"] = str(one.version)
            yield line("DELETED", gone)


def line(kind: str, thing: Raw) -> bytes:
    return json.dumps({"type": kind, "object": thing}, separators=(",", ":")).encode() + b"\n"
