"""Everything wanted of a node beside its frame, kept up to date one Service at a time.

Services share objects: the endpoints of two Services are the same Pods, an external IP serves two
of them on different ports.  An address or a set entry that several want is wanted until the last
of them goes.  What is ``exclusive`` can only be of one: the first Service by namespace and name has
it (a virtual server with its own real servers), whatever the order in which they came; the others
are named in ``conflicts``.

Law: after any sequence of ``put`` everything is as after one ``put`` of each Service's last plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from operator import attrgetter

import msgspec

from hairpin.model.metadata import Key
from hairpin.plan.owner import service_of
from hairpin.plan.service_plan import EMPTY, Blocked, Delta, Occupancy, ServicePlan
from hairpin.state.change import Wanted
from hairpin.state.ipvs import RealServer, VirtualServer

ObjectKey = tuple[object, ...]
_WANTED = attrgetter("wanted")  # of a ServicePlan


class Desired:
    """The union of all ServicePlans.

    ``_wanted`` holds what is wanted, by the object's key, but for real servers: they are those
    that the plan of the Service that has their virtual server lists behind it, and as there are
    more of them than of all else, nothing more is kept of them.  Only what several Services want
    is in ``_rivals`` too, with each one's own, as nearly everything is wanted by one alone.
    """

    def __init__(self) -> None:
        self._plans: dict[Key, ServicePlan] = {}
        self._wanted: dict[ObjectKey, Wanted] = {}
        self._rivals: dict[ObjectKey, dict[Key, Wanted]] = {}
        self._entries: dict[str, int] = {}  # by the set's name; none is 0
        self._blocked: dict[Blocked, int] = {}
        self._occupancy: Occupancy | None = Occupancy()
        self._real_servers = 0
        # Of the virtual server that was asked for last: who compares asks for all of one in a row.
        self._looked: tuple[Wanted, dict[ObjectKey, Wanted]] | None = None

    def __iter__(self) -> Iterator[Wanted]:
        """All that is wanted; a virtual server comes before its real servers."""
        if not self._rivals:
            return chain.from_iterable(map(_WANTED, self._plans.values()))
        return self._beside_rivals()

    def _beside_rivals(self) -> Iterator[Wanted]:
        for one in self._wanted.values():
            yield one
            if type(one.object) is VirtualServer:
                yield from self._behind(one)

    def __len__(self) -> int:
        return len(self._wanted) + self._real_servers

    def get(self, key: ObjectKey) -> Wanted | None:
        """The wanted object with that key, or None."""
        if key[0] != "real-server":
            return self._wanted.get(key)
        # See ``RealServer.key``.
        _, protocol, ip, version, _, _, port, fwmark, _ = key
        server = self._wanted.get(("virtual-server", protocol, ip, version, port, fwmark))
        if server is None:
            return None
        if self._looked is None or self._looked[0] is not server:
            self._looked = (server, {one.object.key: one for one in self._behind(server)})
        return self._looked[1].get(key)

    @property
    def finder(self) -> Callable[[ObjectKey], Wanted | None]:
        """``get`` for who has thousands of keys, none of a real server."""
        return self._wanted.get

    def _behind(self, server: Wanted) -> Iterator[Wanted]:
        """The real servers of a virtual server that is wanted."""
        found = False
        for one in self._plans[service_of(server.owner)].wanted:
            if found:
                if type(one.object) is not RealServer:
                    return
                yield one
            elif one is server:
                found = True

    def plan(self, key: Key) -> ServicePlan:
        """The last plan of a Service; an empty one if there is none."""
        return self._plans.get(key, EMPTY)

    @property
    def plans(self) -> Mapping[Key, ServicePlan]:
        """The last plans of all Services that ask for something or have problems."""
        return self._plans

    @property
    def occupancy(self) -> Occupancy:
        """What the frame depends on; the same object as long as nothing of it changes."""
        if self._occupancy is None:
            blocked = sorted(self._blocked, key=lambda one: (one[0].version, int(one[0]), *one[1:]))
            self._occupancy = Occupancy(frozenset(self._entries), tuple(blocked))
        return self._occupancy

    @property
    def conflicts(self) -> Mapping[Key, tuple[str, ...]]:
        """The Services that do not get what only one can have, each with a line for every one."""
        found: dict[Key, list[str]] = {}
        for key, claims in self._rivals.items():
            has = self._wanted[key]
            if not (what := has.object.exclusive):
                continue
            line = f"{what} is already that of {has.owner}"
            winner = min(claims)
            for loser in claims:
                if loser != winner:
                    found.setdefault(loser, []).append(line)
        return {key: tuple(sorted(lines)) for key, lines in sorted(found.items())}

    def put(self, key: Key, plan: ServicePlan | None) -> Delta:
        """Replace what the Service ``key`` asks; None: it asks nothing any more.

        ``added`` of the answer is in the order in which to build, ``removed`` in the reverse.
        """
        after = plan if plan is not None else EMPTY
        before = self._plans.pop(key, EMPTY)
        if after is not EMPTY:
            self._plans[key] = after
        if before.blocked != after.blocked:
            self._block(before, after)
        self._looked = None
        delta = Delta([], [], [])
        if before is EMPTY and self._enter(after, delta):
            return delta
        old, new = _units(before), _units(after)
        for at, unit in new.items():
            was = self._wanted.get(at)
            now = self._claimed(key, at, unit.wanted, at in old)
            self._hold(at, was, now, delta)
            if unit.reals is not None:
                self._exchange(key, at, (was, old), (now, new), delta)
        for at, unit in old.items():
            if at not in new:
                was = self._wanted[at]
                heir = self._released(key, at)
                self._hold(at, was, heir, delta)
                if unit.reals is not None:
                    self._exchange(key, at, (was, old), (heir, new), delta)
        delta.removed.reverse()
        return delta

    def _enter(self, plan: ServicePlan, delta: Delta) -> bool:
        """A Service's first plan, if nobody else wants any of it: the short way of nearly all."""
        wanted, entries = self._wanted, self._entries
        keyed = [(one.object.key, one) for one in plan.wanted if type(one.object) is not RealServer]
        for at, _ in keyed:
            if at in wanted:
                return False
        wanted.update(keyed)
        self._real_servers += len(plan.wanted) - len(keyed)
        delta.added.extend(plan.wanted)
        for at, _ in keyed:
            if at[0] == "set-entry":
                name = str(at[1])
                if name not in entries:
                    self._occupancy = None
                entries[name] = entries.get(name, 0) + 1
        return True

    def _claimed(self, key: Key, at: ObjectKey, mine: Wanted, had: bool) -> Wanted:
        """The Service wants that too, or wants it so now; who of all has it then."""
        claims = self._rivals.get(at)
        if claims is None:
            has = None if had else self._wanted.get(at)
            if has is None:
                return mine
            claims = self._rivals[at] = {service_of(has.owner): has}
        claims[key] = mine
        return claims[min(claims)]

    def _released(self, key: Key, at: ObjectKey) -> Wanted | None:
        """The Service does not want that any more; who of the others has it then, if any."""
        claims = self._rivals.get(at)
        if claims is None:
            return None
        del claims[key]
        if len(claims) == 1:
            del self._rivals[at]
        return claims[min(claims)]

    def _hold(self, at: ObjectKey, was: Wanted | None, now: Wanted | None, delta: Delta) -> None:
        """Enter what is wanted now, and how that differs."""
        if now is None:
            if was is not None:
                del self._wanted[at]
                delta.removed.append(was)
                self._count(at, -1)
            return
        self._wanted[at] = now
        if was is None:
            delta.added.append(now)
            self._count(at, 1)
        elif was != now:
            delta.changed.append((was, now))

    def _exchange(
        self,
        key: Key,
        at: ObjectKey,
        was: tuple[Wanted | None, _Units],
        now: tuple[Wanted | None, _Units],
        delta: Delta,
    ) -> None:
        """The real servers of a virtual server: those of the Service that had it for those of
        the one that has it now.  Beside who has it come the units of the Service ``key``."""
        if was[0] is now[0]:
            return  # another's, and still
        old, new = self._reals(key, at, *was), self._reals(key, at, *now)
        self._real_servers += len(new) - len(old)
        for real, wanted in new.items():
            had = old.get(real)
            if had is None:
                delta.added.append(wanted)
            elif had != wanted:
                delta.changed.append((had, wanted))
        delta.removed.extend(wanted for real, wanted in old.items() if real not in new)

    def _reals(
        self, key: Key, at: ObjectKey, has: Wanted | None, own: _Units
    ) -> Mapping[ObjectKey, Wanted]:
        if has is None:
            return {}
        owner = service_of(has.owner)
        units = own if owner == key else _units(self._plans[owner])
        return units[at].reals or {}

    def _count(self, at: ObjectKey, by: int) -> None:
        """Which sets hold something; of a SetEntry's key the set's name is the second part."""
        if at[0] != "set-entry":
            return
        name = str(at[1])
        count = self._entries.get(name, 0) + by
        if count in (0, by):
            self._occupancy = None
        if count:
            self._entries[name] = count
        else:
            del self._entries[name]

    def _block(self, before: ServicePlan, after: ServicePlan) -> None:
        for one in after.blocked:
            self._blocked[one] = self._blocked.get(one, 0) + 1
        for one in before.blocked:
            self._blocked[one] -= 1
            if not self._blocked[one]:
                del self._blocked[one]
        self._occupancy = None


class _Unit(msgspec.Struct, frozen=True):
    """An object with what stands and falls with it: a virtual server has its real servers."""

    wanted: Wanted
    reals: dict[ObjectKey, Wanted] | None = None


_Units = dict[ObjectKey, _Unit]


def _units(plan: ServicePlan) -> _Units:
    found: _Units = {}
    reals: dict[ObjectKey, Wanted] = {}
    for wanted in plan.wanted:
        thing = wanted.object
        if type(thing) is RealServer:
            reals[thing.key] = wanted
        elif type(thing) is VirtualServer:
            reals = {}
            found[thing.key] = _Unit(wanted, reals)
        else:
            found[thing.key] = _Unit(wanted)
    return found
