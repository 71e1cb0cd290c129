"""All that a proxy reads from a cluster, followed; or read once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from hairpin.model.address import Network
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.node import Node
from hairpin.model.service import Service
from hairpin.model.servicecidr import ServiceCIDR
from hairpin.model.snapshot import Snapshot
from hairpin.source.api.client import ApiError, Client
from hairpin.source.api.objects import (
    SERVICE_CIDRS,
    Decoding,
    Item,
    Page,
    Resource,
    resources,
)
from hairpin.source.api.reflector import PAGE, Reflector, Update

KINDS = frozenset(one.kind for one in resources(""))
"""What there always is to follow."""
_TRIES, _LONGEST = 3, 10.0  # how often, and how many seconds, one who reads once waits as told


class Patience:
    """The time, for threads that all end together."""

    def __init__(self) -> None:
        self._end = threading.Event()

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        self._end.wait(seconds)

    def dice(self) -> float:
        return int.from_bytes(os.urandom(4), "big") / 2**32

    @property
    def stopped(self) -> bool:
        return self._end.is_set()

    def stop(self) -> None:
        self._end.set()


class Follower:
    """Services, EndpointSlices and one Node, each followed by a thread; ServiceCIDRs with
    ``cidrs``.

    ``say`` is called by these threads, with what goes wrong in words.
    """

    def __init__(
        self, client: Client, node: str, say: Callable[[str], None], *, cidrs: bool = False
    ) -> None:
        self._updates: SimpleQueue[Update | Exception | None] = SimpleQueue()
        self._patience = Patience()
        self._reflectors = [
            Reflector(client, one, self._updates.put, say, self._patience)
            for one in resources(node, cidrs=cidrs)
        ]
        self.kinds = frozenset(one.kind for one in resources(node, cidrs=cidrs))
        self._threads = [
            threading.Thread(target=self._run, args=(each,), name="reflector", daemon=True)
            for each in self._reflectors
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the watches; the threads end soon."""
        self._patience.stop()
        for each in self._reflectors:
            each.stop()
        self.wake()

    def wake(self) -> None:
        """Ends a wait; may be called by a signal handler."""
        self._updates.put(None)

    def _run(self, reflector: Reflector) -> None:
        """A thread that dies must not leave a proxy that knows nothing of it."""
        try:
            reflector.run()
        except Exception as error:
            self._updates.put(error)

    def wait(self, seconds: float) -> list[Update]:
        """What has come; when there is nothing, waits for it that long.

        Raises what a thread died of.
        """
        try:
            first = self._updates.get(timeout=max(seconds, 0.0))
        except Empty:
            return []
        found = [first]
        # Bounded, so that a storm of events cannot keep the first of them from being followed.
        while len(found) < 10_000 and not self._updates.empty():
            found.append(self._updates.get())
        for one in found:
            if isinstance(one, Exception):
                raise one
        return [one for one in found if isinstance(one, Update)]


def read_once(client: Client, node: str) -> tuple[Snapshot, list[str]]:
    """All that a proxy of that node reads, now, and what of it cannot be read.

    Raises ApiError.
    """
    things: list[Service | EndpointSlice | Node] = []
    problems: list[str] = []
    for resource in resources(node):
        page = _read(client, resource)
        found = (one.thing for one in page.items)
        things += [one for one in found if isinstance(one, Service | EndpointSlice | Node)]
        problems += page.problems
    return Snapshot(things), problems


def read_service_cidrs(client: Client) -> tuple[Network, ...]:
    """The cluster's networks of ClusterIPs; none before Kubernetes 1.33.  Raises ApiError."""
    try:
        items = _read(client, SERVICE_CIDRS).items
    except ApiError as error:
        if error.code != 404:
            raise
        return ()
    found = [one.thing for one in sorted(items, key=lambda one: one.key)]
    return tuple(cidr for one in found if isinstance(one, ServiceCIDR) for cidr in one.spec.cidrs)


def _read(client: Client, resource: Resource) -> Page:
    """A whole list, page by page.  Raises ApiError."""
    decoding = Decoding(resource)
    items: list[Item] = []
    problems: list[str] = []
    query = {**resource.selectors, "limit": str(PAGE)}
    while True:
        try:
            page = decoding.page(_patient(client, resource.path, query))
        except ApiError as error:
            if error.code != 410 or "limit" not in query:
                raise
            # Begun too long ago: all at once, which is one moment.
            items, problems, query = [], [], dict(resource.selectors)
            continue
        except ValueError as error:
            raise ApiError(f"{resource.path}: no list of Kubernetes: {error}") from None
        items += page.items
        problems += page.problems
        if not page.more:
            return Page(items, page.version, problems=tuple(problems))
        query = {**resource.selectors, "limit": str(PAGE), "continue": page.more}


def _patient(client: Client, path: str, query: dict[str, str]) -> bytes:
    """An answer, for which a busy server may be asked again when it says so.  Raises ApiError."""
    for _ in range(_TRIES):
        try:
            return client.get(path, query)
        except ApiError as error:
            if not 0 < error.wait <= _LONGEST:
                raise
            time.sleep(error.wait)
    return client.get(path, query)
