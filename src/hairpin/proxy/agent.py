"""A node's proxy that runs for weeks: follows a cluster, syncs, and tells others how it is.

One thread: what has come is told to the Proxy, then a sync is made when it is due.  Nothing is
synced before all kinds were seen whole once: until then nobody knows what may be removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from hairpin.model.address import IP, forget_unused
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.metadata import Key
from hairpin.model.node import Node
from hairpin.model.service import Service
from hairpin.model.servicecidr import ServiceCIDR
from hairpin.plan.frontends import Place, resolve
from hairpin.plan.node import NodeFacts
from hairpin.proxy.health import Health
from hairpin.proxy.metrics import Metrics
from hairpin.proxy.proxy import Proxy
from hairpin.proxy.service_health import ServiceHealth
from hairpin.proxy.status import Known, Synced

TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"
"""When the Pod or Service changed that an EndpointSlice changed for: the controller says it."""
_KINDS = {"Service": "service", "EndpointSlice": "endpoint"}  # as the metrics call them
_CIDRS = "ServiceCIDR"
_LONGEST = 60.0  # seconds without a look at the clock
_AGAIN = 5.0  # seconds before a port that could not be had is tried again, as kube-proxy
_COUNTED = 10.0  # seconds between two counts of what needs a look at all Services
_MOST_SAID = 10_000  # different problems that are remembered as said

Thing = Service | EndpointSlice | Node | ServiceCIDR


class Update(Protocol):
    """Objects of one kind as they are now, None for gone (``source.api.reflector``)."""

    @property
    def kind(self) -> str: ...
    @property
    def objects(self) -> Sequence[tuple[Key, Thing | None]]: ...
    @property
    def whole(self) -> bool: ...
    @property
    def problems(self) -> Sequence[str]: ...


class Feed(Protocol):
    """Where objects come from."""

    def wait(self, seconds: float) -> Sequence[Update]:
        """What has come; when there is nothing, waits for it that long."""
        ...

    def wake(self) -> None:
        """Ends a wait."""
        ...

    @property
    def kinds(self) -> Collection[str]:
        """What it will tell of."""
        ...


class Log(Protocol):
    """Where the agent's own words go; ``fields`` are what a message is about."""

    def info(self, message: str, *, level: int = 0, **fields: object) -> None: ...
    def warning(self, message: str, **fields: object) -> None: ...


class Hooks(msgspec.Struct):
    """What is done at a time that only the agent knows."""

    first_sync: Callable[[], None]
    health_check_addresses: Callable[[NodeFacts], Mapping[int, Sequence[IP] | None]]
    count: Callable[[], None]
    """Counts what is dear to count: after a sync, at most every ten seconds."""
    tidy: Callable[[], object] = forget_unused
    """Lets go of memory that is of no use: after everything was compared."""


class Agent:
    """``node`` is the Node's name.  ``now`` is in seconds of the epoch, ``clock`` for intervals."""

    def __init__(
        self,
        proxy: Proxy,
        feed: Feed,
        node: str,
        *,
        health: Health,
        metrics: Metrics,
        ports: ServiceHealth,
        log: Log,
        hooks: Hooks,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._proxy = proxy
        self._feed = feed
        self._node = node
        self._health = health
        self._metrics = metrics
        self._ports = ports
        self._log = log
        self._hooks = hooks
        self._clock = clock
        self._now = now
        self._ending = False
        self._kinds = frozenset(feed.kinds)
        self._whole: set[str] = set()
        self._cidrs: dict[Key, ServiceCIDR] = {}
        self._synced = False
        self._triggers: dict[Key, str] = {}  # of slices: the last that was seen
        self._waiting: list[tuple[str, float]] = []  # family, epoch: changes not in the kernel yet
        self._count_at = 0.0
        self._uncounted = False  # something may be otherwise since the last count
        self._said: set[str] = set()

    def run(self) -> None:
        """Until ``end``.  What the kernel has stays as it is then."""
        while not self._ending:
            self.step(_LONGEST)

    def step(self, longest: float) -> Synced | None:
        """Waits until something is to be done, at most that many seconds, and does it."""
        for update in self._feed.wait(min(longest, self._patience())):
            self._follow(update)
        if self._ending or not self.complete:
            return None
        done = self._sync() if self._proxy.due() <= self._clock() else None
        if self._uncounted and self._clock() >= self._count_at:
            self._count()
        return done

    def end(self) -> None:
        """May be called by a signal handler."""
        self._ending = True
        self._feed.wake()

    @property
    def complete(self) -> bool:
        """Whether all kinds were seen whole."""
        return self._whole >= self._kinds

    def _patience(self) -> float:
        if not self.complete:
            return _LONGEST
        due = min(self._proxy.due(), self._count_at) if self._uncounted else self._proxy.due()
        wait = due - self._clock()
        return max(0.0, min(wait, _AGAIN if self._ports.missing else _LONGEST))

    # -- what comes ----------------------------------------------------------------------------

    def _follow(self, update: Update) -> None:
        before = self._proxy.known().dirty
        for key, thing in update.objects:
            self._tell(update.kind, key, thing)
        for problem in update.problems:
            self._warn_once(problem)
        if update.whole and update.kind not in self._whole:
            self._whole.add(update.kind)
            self._log.info("known whole", level=1, kind=update.kind, objects=len(update.objects))
            if update.kind == "Node" and not update.objects:
                self._health.on_node(None)
                self._warn_once(f"there is no Node {self._node}: is --hostname-override right?")
        if kind := _KINDS.get(update.kind):
            self._metrics.changed(kind, len(update.objects), self._now())
        if self._proxy.known().dirty > before:
            self._health.queued()

    def _tell(self, kind: str, key: Key, thing: Thing | None) -> None:
        self._log.info(
            "changed", level=4, kind=kind, namespace=key[0], name=key[1], gone=thing is None
        )
        if kind == "Service" and (thing is None or isinstance(thing, Service)):
            self._proxy.on_service(key, thing)
        elif kind == "EndpointSlice" and (thing is None or isinstance(thing, EndpointSlice)):
            self._proxy.on_slice(key, thing)
            self._note_trigger(key, thing)
        elif kind == "Node" and (thing is None or isinstance(thing, Node)):
            self._health.on_node(thing)
            if thing is None:
                # Its traffic goes on as it was: a Node is deleted and made anew in mishaps.
                self._log.warning("the Node is gone", node=key[1])
            else:
                self._proxy.on_node(thing)
        elif kind == _CIDRS:
            self._cidrs.pop(key, None)
            if isinstance(thing, ServiceCIDR):
                self._cidrs[key] = thing
            known = [self._cidrs[name] for name in sorted(self._cidrs)]
            self._proxy.on_service_cidrs(cidr for one in known for cidr in one.spec.cidrs)

    def _note_trigger(self, key: Key, thing: EndpointSlice | None) -> None:
        text = "" if thing is None else thing.metadata.annotations.get(TRIGGER, "")
        known = self._triggers.pop(key, "")
        if thing is None or not text:
            return
        self._triggers[key] = text
        if text == known or not self._synced:  # what was before the start says nothing
            return
        try:
            self._waiting.append((thing.address_type, datetime.fromisoformat(text).timestamp()))
        except ValueError:
            return

    def _warn_once(self, text: str) -> None:
        if text not in self._said:
            if len(self._said) >= _MOST_SAID:
                self._said.clear()
            self._said.add(text)
            self._log.warning(text)

    # -- what is done --------------------------------------------------------------------------

    def _sync(self) -> Synced:
        done = self._proxy.sync()
        if done.full:
            self._hooks.tidy()
        known = self._proxy.known()
        # One object that the kernel refuses is its Service's trouble; all of several is the node's.
        good = known.readable and not (done.failed > 1 and done.failed == done.changes)
        now = self._now()
        self._metrics.synced(done, now, good=good)
        self._metrics.flows(known.flows_deleted, known.flows_seconds)
        if good:
            self._health.updated()
            for family, began in self._waiting:
                self._metrics.programmed(family, [now - began] if now > began else [])
            self._waiting.clear()
        self._ports.follow(known.health, self._hooks.health_check_addresses(known.facts))
        self._tell_synced(done)
        self._uncounted |= bool(done.changes) or done.full
        if good and not self._synced:
            self._synced = True
            self._hooks.first_sync()
        return done

    def _count(self) -> None:
        self._uncounted = False
        self._count_at = self._clock() + _COUNTED
        for family, (internal, external) in without_local(self._proxy.known()).items():
            self._metrics.no_local_endpoints(family, internal, external)
        self._hooks.count()

    def _tell_synced(self, done: Synced) -> None:
        fields: dict[str, Any] = {
            "full": done.full,
            "changes": done.changes,
            "failed": done.failed,
            "seconds": round(done.duration, 4),
        }
        if not self._synced:
            self._log.info("the first sync is done", **fields)
        else:
            self._log.info("synced", level=2 if done.changes else 4, **fields)


def without_local(known: Known) -> dict[str, tuple[int, int]]:
    """By family: Services with internal, and external, policy Local that have endpoints, but none
    here."""
    place = Place(known.facts.name, known.facts.zone)
    found = {"IPv4": [0, 0], "IPv6": [0, 0]}
    for service in _with_local_policy(known.services.values()):
        lacking: set[tuple[str, int]] = set()
        for port in resolve(place, service, known.slices(service.key)).ports:
            if port.has_any and not port.usable.local:
                family = f"IPv{port.version}"
                lacking |= {(family, 0)} if port.internal_local else set()
                lacking |= {(family, 1)} if port.external_local else set()
        for family, at in lacking:
            found[family][at] += 1
    return {family: (counts[0], counts[1]) for family, counts in found.items()}


def _with_local_policy(services: Iterable[Service]) -> Iterator[Service]:
    for one in services:
        if "Local" in (one.spec.internal_traffic_policy, one.spec.external_traffic_policy):
            yield one
