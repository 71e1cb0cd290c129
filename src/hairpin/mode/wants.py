"""Everything that should be in the kernel, and what changed of it since it was last asked.

Services are put one at a time; the frame around them (link, sets, chains, settings) is planned
anew only when it depends on what changed.  ``adjust`` may withhold or change any object: what is
told to the kernel and compared with it is always the adjusted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.metadata import Key
from hairpin.model.service import Service
from hairpin.plan.desired import Desired
from hairpin.plan.node import NodeFacts
from hairpin.plan.planner import Planner
from hairpin.plan.service_plan import EMPTY, Delta, HealthCheck, Occupancy, ServicePlan, UdpPort
from hairpin.state.change import Change, Object, Wanted
from hairpin.state.ipvs import Timeouts
from hairpin.state.sysctl import Sysctl

Adjust = Callable[[Object], Object | None]
ObjectKey = tuple[object, ...]


class Differences:
    """Changes on the way to the kernel: what is to be made or set, and what is to go.

    ``puts`` are "add" and "set", ``removals`` "remove"; ``missing`` is to be added too, but may be
    a hundred thousand objects, which become Changes a piece at a time: fresh memory is dear in
    the embedded kernel.  In none does the order matter.
    """

    __slots__ = ("missing", "puts", "removals")

    def __init__(self, puts: list[Change] | None = None, removals: list[Change] | None = None):
        self.puts = puts if puts is not None else []
        self.removals = removals if removals is not None else []
        self.missing: list[Wanted] = []

    def __len__(self) -> int:
        return len(self.puts) + len(self.missing) + len(self.removals)

    def __iter__(self) -> Iterator[Change]:
        yield from self.puts
        for want in self.missing:
            yield put_change(want)
        yield from self.removals


def put_change(want: Wanted, before: Object | None = None) -> Change:
    """The Change that makes it so, whatever is there now."""
    always = isinstance(want.object, Sysctl | Timeouts)
    return Change(
        verb="set" if before is not None or always else "add",
        netns=want.netns,
        object=want.object,
        before=before,
        reason=want.why,
    )


class Wants:
    """What one node's kernel should hold."""

    def __init__(
        self,
        plan_for: Callable[[NodeFacts], Planner],
        node: NodeFacts,
        netns: str,
        adjust: Adjust | None,
    ) -> None:
        self.netns = netns
        self.adjust = adjust
        self.problems: dict[Key, tuple[str, ...]] = {}
        self.health: dict[Key, HealthCheck] = {}
        self.udp_changed: dict[Key, tuple[UdpPort, ...]] = {}  # until somebody empties it
        self._plan_for = plan_for
        self._planner = plan_for(node)
        self._endpoints = (0, 0)
        self._desired = Desired()
        self._occupancy: Occupancy | None = None  # that the frame was made for
        self._frame: dict[ObjectKey, Wanted] = {}
        # Since the last ``take``, by key: what was wanted then, what is now.
        self._net: dict[ObjectKey, list[Wanted | None]] = {}

    @property
    def conflicts(self) -> Mapping[Key, tuple[str, ...]]:
        return self._desired.conflicts

    def on_node(self, node: NodeFacts) -> None:
        """Plans for these facts from now on; the Services must be put again."""
        self._planner = self._plan_for(node)
        self._planner.crowd(self._endpoints)
        self._occupancy = None

    def expect(self, endpoints: tuple[int, int]) -> None:
        """About how many endpoints (IPv4, IPv6) are to come: planned for at once, where nothing is
        planned yet."""
        self._planner.crowd(endpoints)

    def crowd(self) -> bool:
        """Whether there are so many endpoints, or so few by now, that all Services must be put
        again."""
        return self._planner.crowd(self._endpoints)

    def put(
        self,
        key: Key,
        service: Service | None,
        slices: Sequence[EndpointSlice],
        *,
        noted: bool = True,
    ) -> None:
        """Plans one Service anew; None is one that is gone.

        ``noted`` False is for who compares everything with the kernel afterwards: ``take`` does
        not hear of it.
        """
        plan = EMPTY if service is None else self._plan(service, slices)
        if plan.problems:
            self.problems[key] = plan.problems
        else:
            self.problems.pop(key, None)
        if plan.health is not None:
            self.health[key] = plan.health
        else:
            self.health.pop(key, None)
        before = self._desired.plan(key)
        if plan.udp != before.udp:
            self.udp_changed[key] = plan.udp
        if plan.endpoints != before.endpoints:
            four, six = self._endpoints
            four += plan.endpoints[0] - before.endpoints[0]
            self._endpoints = (four, six + plan.endpoints[1] - before.endpoints[1])
        delta = self._desired.put(key, None if service is None else plan)
        if noted:
            self._note(delta)

    def take(self) -> Differences:
        """What changed since the last time, the frame included."""
        self._renew_frame()
        net, self._net = self._net, {}
        found = Differences()
        for before, after in net.values():
            change = self._change(before, after)
            if change is not None:
                (found.removals if change.verb == "remove" else found.puts).append(change)
        return found

    def forget_changes(self) -> None:
        """For who compares everything with the kernel instead."""
        self._renew_frame()
        self._net.clear()

    def get(self, key: ObjectKey) -> Wanted | None:
        """The wanted object of that key, as adjusted."""
        found = self._desired.get(key)
        if found is None:
            found = self._frame.get(key)
            if found is None:
                return None
        return found if self.adjust is None else self._adjusted(found)

    @property
    def finder(self) -> Callable[[ObjectKey], Wanted | None]:
        """``get`` for who has thousands of keys, none of a real server or of the frame."""
        return self._desired.finder if self.adjust is None else self.get

    def __iter__(self) -> Iterator[Wanted]:
        """All that is wanted, as adjusted: the frame, then what Services ask."""
        if self.adjust is None:
            return self.planned()
        return (kept for one in self.planned() if (kept := self._adjusted(one)) is not None)

    def planned(self) -> Iterator[Wanted]:
        """All that is wanted, as if nothing were adjusted."""
        return chain(self._frame.values(), self._desired)

    def _plan(self, service: Service, slices: Sequence[EndpointSlice]) -> ServicePlan:
        try:
            return self._planner.service(service, slices)
        except ValueError as error:  # a kernel object that cannot be: it costs this Service
            name = f"{service.metadata.namespace}/{service.metadata.name}"
            return ServicePlan(problems=(f"Service {name} cannot be planned: {error}",))

    def _note(self, delta: Delta) -> None:
        net = self._net
        for one in delta.removed:
            self._moved(net, one, None)
        for one in delta.added:
            self._moved(net, None, one)
        for before, after in delta.changed:
            self._moved(net, before, after)

    @staticmethod
    def _moved(
        net: dict[ObjectKey, list[Wanted | None]], before: Wanted | None, after: Wanted | None
    ) -> None:
        one = after if after is not None else before
        assert one is not None
        known = net.get(one.object.key)
        if known is None:
            net[one.object.key] = [before, after]
        else:
            known[1] = after

    def _renew_frame(self) -> None:
        occupancy = self._desired.occupancy
        if occupancy == self._occupancy:
            return
        self._occupancy = occupancy
        made = {one.object.key: one for one in self._planner.frame(occupancy)}
        for key, one in self._frame.items():
            if key not in made:
                self._moved(self._net, one, None)
        for key, one in made.items():
            known = self._frame.get(key)
            if known is None or known.object != one.object:
                self._moved(self._net, known, one)
        self._frame = made

    def _change(self, before: Wanted | None, after: Wanted | None) -> Change | None:
        if self.adjust is not None:
            before = self._adjusted(before) if before is not None else None
            after = self._adjusted(after) if after is not None else None
        if after is not None:
            if before is None:
                return put_change(after)
            if before.object == after.object:
                return None
            return put_change(after, before.object)
        if before is None or isinstance(before.object, Sysctl | Timeouts):
            return None
        return Change(
            verb="remove", netns=before.netns, object=before.object, reason="no longer wanted"
        )

    def _adjusted(self, want: Wanted) -> Wanted | None:
        assert self.adjust is not None
        kept = self.adjust(want.object)
        if kept is want.object:
            return want
        if kept is None:
            return None
        return Wanted(netns=want.netns, object=kept, owner=want.owner, why=want.why)
