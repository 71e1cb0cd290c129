"""What a Proxy says of itself: for ``hairpin get proxy``, as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.metadata import Key
from hairpin.model.service import Service
from hairpin.plan.node import NodeFacts
from hairpin.plan.service_plan import HealthCheck
from hairpin.state.change import Object


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel object that is not as it should be, because the kernel refused.

    ``verb`` is what is tried: add (also for one that is there otherwise) or remove.
    """

    verb: str
    object: Object
    owner: str
    errno: str  # the symbol: ENOSPC
    error: str  # in words, with the symbol
    attempts: int
    retry_in: float  # seconds from the time of the status; 0 is at the next sync


class Terminating(msgspec.Struct, frozen=True, kw_only=True):
    """A real server without a wanted endpoint that waits for its connections to end."""

    protocol: str
    virtual_server: str  # address:port
    real_server: str  # address:port
    connections: int  # when it was last looked at


class ProxyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds of the Proxy's clock; durations are seconds."""

    mode: str
    node: str
    synced: bool  # the kernel is as wanted, as far as is known
    syncs: int = 0
    full_syncs: int = 0
    last_sync: float | None = None  # when it ended
    last_full_sync: float | None = None
    last_duration: float = 0.0
    last_changes: int = 0  # Changes of the last sync that had any
    services: int = 0
    dirty: int = 0  # Services that changed since the last sync
    next_sync: float | None = None
    objects: dict[str, int] = {}  # wanted, by kind: virtual-server, set-entry …
    pending: tuple[Pending, ...] = ()
    pending_count: int = 0  # of which ``pending`` shows the first
    drift: dict[str, int] = {}  # put right since the start, by kind
    leftovers: dict[str, int] = {}  # what the first sync found and removed or changed, by kind
    terminating: tuple[Terminating, ...] = ()
    problems: dict[str, tuple[str, ...]] = {}  # by Service: what of it cannot be served
    conflicts: dict[str, tuple[str, ...]] = {}  # by Service: which object another one has
    flows_deleted: int = 0  # stale UDP connection-tracking entries
    unobserved: dict[str, str] = {}  # what of the kernel could not be read, and why


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What a Proxy lends to who tells others of it; only to be looked at, between two syncs.

    ``readable``: what the last sync wanted to see of the kernel could be seen.
    ``flows_seconds``: what its look for stale flows took; None where there was none.
    """

    facts: NodeFacts
    health: Mapping[Key, HealthCheck]
    services: Mapping[Key, Service]
    slices: Callable[[Key], Sequence[EndpointSlice]]
    dirty: int
    readable: bool
    flows_deleted: int
    flows_seconds: float | None = None


class Synced(msgspec.Struct, frozen=True, kw_only=True):
    """What one sync did."""

    full: bool
    changes: int  # Changes handed to the kernel
    failed: int  # of these, refused
    duration: float
    refused: tuple[str, ...] = ()  # the first refusals in words
