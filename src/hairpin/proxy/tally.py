"""What a Proxy has counted, and its status made of it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from hairpin.kernel.apply import Failed
from hairpin.mode.base import Compared
from hairpin.mode.difference import Wishes, kind_of
from hairpin.mode.wants import Wants
from hairpin.proxy.drains import Drains
from hairpin.proxy.retries import Retries
from hairpin.proxy.status import Pending, ProxyStatus, Synced, Terminating
from hairpin.proxy.tracker import Tracker
from hairpin.state.change import Object
from hairpin.state.ipvs import Timeouts
from hairpin.state.sysctl import Sysctl

ObjectKey = tuple[object, ...]

_SHOWN = 100
"""How many refused objects a status shows; there may be as many as there are objects."""
_SAID = 10


class Tally:
    """Counters since the start, and of the sync that is being done."""

    def __init__(self) -> None:
        self.syncs = 0
        self.full_syncs = 0
        self.last_sync: float | None = None
        self.last_full_sync: float | None = None
        self.last_duration = 0.0
        self.last_changes = 0
        self.drift: dict[str, int] = {}
        self.leftovers: dict[str, int] = {}
        self.unread: dict[str, str] = {}
        self._changes = 0
        self._failed: list[str] = []
        self._failures = 0

    def begin(self) -> None:
        self._changes = self._failures = 0
        self._failed = []

    def found(self, one: Object, *, first: bool) -> None:
        """Something in the kernel was otherwise than it should be."""
        counts = self.leftovers if first else self.drift
        kind = kind_of(one)
        counts[kind] = counts.get(kind, 0) + 1

    def compared(
        self, compared: Compared, first: bool, refused: Container[ObjectKey], drains: Drains
    ) -> None:
        """What was otherwise than it should be, though nothing had changed since."""
        found = compared.differences
        # What a fresh node lacks is no drift, nor are the kernel's own settings.
        for change in (*found.puts, *found.removals) if first else found:
            if first and (change.verb == "add" or isinstance(change.object, Sysctl | Timeouts)):
                continue
            if change.object.key not in refused:
                self.found(change.object, first=first)
        for real in compared.strays:
            waits = not real.weight and (first or real.key in drains)
            if not waits and real.key not in refused:
                self.found(real, first=first)

    def applied(self, changes: int, failed: Sequence[Failed]) -> None:
        self._changes += changes
        self._failures += len(failed)
        self._failed += [str(one) for one in failed[: _SAID - len(self._failed)]]

    def end(self, *, full: bool, began: float, ended: float) -> Synced:
        self.syncs += 1
        self.full_syncs += full
        self.last_sync = ended
        self.last_duration = ended - began
        if full:
            self.last_full_sync = ended
        if self._changes:
            self.last_changes = self._changes
        return Synced(
            full=full,
            changes=self._changes,
            failed=self._failures,
            duration=ended - began,
            refused=tuple(self._failed),
        )


def status_of(
    tally: Tally,
    *,
    now: float,
    mode: str,
    node: str,
    tracker: Tracker,
    retries: Retries,
    drains: Drains,
    flows_deleted: int,
    wants: Wants,
    due: float | None,
) -> ProxyStatus:
    """The status at the time ``now``."""
    refused = retries.refused
    clean = not refused and not tracker.dirty and not tally.unread
    return ProxyStatus(
        mode=mode,
        node=node,
        synced=clean and tally.full_syncs > 0,
        syncs=tally.syncs,
        full_syncs=tally.full_syncs,
        last_sync=tally.last_sync,
        last_full_sync=tally.last_full_sync,
        last_duration=tally.last_duration,
        last_changes=tally.last_changes,
        services=len(tracker.services),
        dirty=len(tracker.dirty),
        next_sync=due,
        objects=Wishes(wants).counts(),
        pending=tuple(_pending(retries, wants, now)),
        pending_count=len(refused),
        drift=dict(tally.drift),
        leftovers=dict(tally.leftovers),
        terminating=tuple(_terminating(drains)),
        problems=_by_name(wants.problems),
        conflicts=_by_name(wants.conflicts),
        flows_deleted=flows_deleted,
        unobserved=dict(tally.unread),
    )


def _pending(retries: Retries, wants: Wants, now: float) -> Iterable[Pending]:
    for key, one in list(retries.refused.items())[:_SHOWN]:
        want = wants.get(key)
        yield Pending(
            verb=one.verb,
            object=one.object,
            owner=want.owner if want is not None else "",
            errno=one.errno,
            error=one.text,
            attempts=one.attempts,
            retry_in=max(0.0, one.retry_at - now),
        )


def _terminating(drains: Drains) -> Iterable[Terminating]:
    for drain in drains:
        real = drain.real
        yield Terminating(
            protocol=real.protocol,
            virtual_server=_at(str(real.vip), real.vport),
            real_server=_at(str(real.ip), real.port),
            connections=drain.connections,
        )


def _at(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _by_name(found: Mapping[tuple[str, str], tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {f"{namespace}/{name}": lines for (namespace, name), lines in sorted(found.items())}
