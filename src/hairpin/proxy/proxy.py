"""The reconcile loop of one node.

Events mark Services; a sync plans these alone and tells the kernel what changed for them.  The
first sync, and one every sync period, compares everything with what the kernel holds.  What the
kernel refused is kept and tried again.  Nothing else is remembered: a Proxy that starts anew
finds in the kernel all that it needs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from hairpin.kernel import memory
from hairpin.kernel.apply import Failed, Kernel
from hairpin.mode.base import Mode, mode_of
from hairpin.mode.ownership import server_of
from hairpin.mode.wants import Adjust, Differences, Wants, put_change
from hairpin.model.address import IP, Network
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.garbage import uncollected
from hairpin.model.metadata import Key
from hairpin.model.node import Node
from hairpin.model.service import Service
from hairpin.model.snapshot import Snapshot
from hairpin.plan.node import NodeFacts, node_facts
from hairpin.proxy.drains import Drains, split
from hairpin.proxy.pace import Pace
from hairpin.proxy.retries import Retries
from hairpin.proxy.stale_flows import StaleFlows
from hairpin.proxy.status import Known, ProxyStatus, Synced
from hairpin.proxy.tally import Tally, status_of
from hairpin.proxy.tracker import Tracker
from hairpin.state.change import Change, Object, Wanted
from hairpin.state.ipvs import RealServer, Timeouts
from hairpin.state.sysctl import Sysctl

_NODE_ADDRESSES, _FLOWS = "node addresses", "flows"
_NOT_SO = ("ENOENT", "EEXIST", "ENODEV", "ESRCH")
"""What the kernel says of a change that begins from something that is not there, or is."""
_ROUNDS = 4
"""How often one sync tries again what was refused, as long as that helps something."""


def _dice() -> float:
    """A number from 0 to 1.  Without the random module, whose import is dear in the guest."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


class Proxy:
    """Keeps one network namespace as Services and EndpointSlices want it.

    Events only mark what changed; ``sync`` does the work, and ``due`` says when it should.  All
    that there is must be told before the first sync, which removes what is ours and not wanted.
    ``adjust`` is asked about every wanted kernel object and gives it back, changed (with the same
    key) or None for "withhold"; assigning another one makes the next sync look at everything.
    ``report`` is told, once each, what cannot be served and what the kernel refuses.  ``dice``
    gives numbers from 0 to 1.  ``takes_over``: another mode serves here until this one does.
    ``service_cidrs`` are the cluster's, where the Node says none.  Raises ValueError for a
    configuration that cannot be.
    """

    def __init__(
        self,
        kernel: Kernel,
        netns: str,
        config: KubeProxyConfiguration,
        node_name: str,
        *,
        adjust: Adjust | None = None,
        report: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = _dice,
        termination_interval: float = 60.0,
        takes_over: bool = False,
        service_cidrs: Iterable[Network] = (),
    ) -> None:
        self._mode: Mode = mode_of(kernel, netns, config, takes_over=takes_over)
        self.mode = config.mode or "ipvs"
        self._report = report if report is not None else _silent
        self._clock = clock
        self._node_name = node_name
        self._node: Node | None = None
        self._service_cidrs = tuple(service_cidrs)
        self._addresses: tuple[IP, ...] | None = None  # not known yet
        self._facts: NodeFacts = node_facts(node_name, None, (), self._service_cidrs)
        self._wants: Wants = self._mode.desired(self._facts, adjust)
        self._tracker = Tracker()
        self._retries = Retries(dice)
        self._drains = Drains(kernel, netns, termination_interval)
        self._flows = StaleFlows(kernel, netns, clock)
        pace = getattr(config, self.mode)
        self._pace = Pace(pace.min_sync_period, pace.sync_period)
        self._tally = Tally()
        self._expected = True  # the next comparison will find differences that are no drift
        self._reported: dict[Key, tuple[str, ...]] = {}

    @property
    def adjust(self) -> Adjust | None:
        return self._wants.adjust

    @adjust.setter
    def adjust(self, adjust: Adjust | None) -> None:
        self._wants.adjust = adjust
        self._expected = True
        self._pace.full_at = self._clock()

    # -- events --------------------------------------------------------------------------------

    def on_service(self, key: Key, service: Service | None) -> None:
        """A Service is this now; None for gone."""
        self._tracker.on_service(key, service)

    def on_slice(self, key: Key, endpoint_slice: EndpointSlice | None) -> None:
        """An EndpointSlice is this now; None for gone."""
        self._tracker.on_slice(key, endpoint_slice)

    def on_node(self, node: Node | None) -> None:
        """The Node that this proxy runs on is this now; others are not told."""
        self._node = node
        self._learn_facts()

    def on_addresses(self, addresses: Iterable[IP]) -> None:
        """All addresses of the node but kube-ipvs0's.

        Needed only to be told at once: each full sync looks by itself.
        """
        self._addresses = tuple(addresses)
        self._learn_facts()

    def on_service_cidrs(self, cidrs: Iterable[Network]) -> None:
        """The cluster's networks of ClusterIPs are these now, where the Node says none."""
        self._service_cidrs = tuple(cidrs)
        self._learn_facts()

    def adopt(self, snapshot: Snapshot) -> None:
        """Services, EndpointSlices and this proxy's Node are those of the Snapshot now."""
        node = snapshot.nodes.get(("", self._node_name))
        if node is not self._node and node != self._node:
            self.on_node(node)
        self._tracker.adopt(snapshot.services, snapshot.endpointslices)

    # -- work ----------------------------------------------------------------------------------

    def due(self) -> float:
        """When ``sync`` should be called next, by the clock; not later than now for at once.

        It may be called at any time.
        """
        dirty = bool(self._tracker.dirty)
        return self._pace.due(dirty, self._retries.next(), self._drains.check_at)

    def sync(self, *, full: bool = False) -> Synced:
        """Does what is to be done now; ``full`` also compares everything with the kernel.

        Never raises for what the kernel refuses.  Whatever else it raises, what it left undone is
        found by comparing everything, a moment later.
        """
        try:
            return self._sync(full=full)
        except BaseException:
            now = self._clock()
            self._pace.synced(now)
            self._pace.compared(now, self._retries.delay, failed=True)
            raise

    def _sync(self, *, full: bool) -> Synced:
        began = self._clock()
        full = full or self._pace.is_full_due(began)
        tally = self._tally
        tally.begin()
        if full:
            self._look_at_node()
        news: list[Failed] = []
        if not full or tally.full_syncs:
            news = self._follow(began)
        if any(one.error.name in _NOT_SO for one in news):
            # Somebody has changed what is there, all of it maybe: nft flush ruleset.
            full = True
            tally.begin()
        if full:
            with uncollected(), memory.at_hand(*self._tracker.bulk()):
                self._compare(began)
        self._tell([one for one in news if one.change.object.key in self._retries.refused])
        self._retry(began)
        self._drain([], look=self._drains.is_due(began))
        self._forget_flows()
        ended = self._clock()
        self._pace.synced(ended)
        return tally.end(full=full, began=began, ended=ended)

    def clean_up(self, kept: Collection[str] = ()) -> list[Failed]:
        """Removes exactly what hairpin made in the namespace; gives what would not go.

        ``kept`` are the places that another mode has taken over (``mode.base.places``).  A later
        sync would make it all again.  Raises KernelError when the kernel cannot be read.
        """
        return self._mode.clean_up(kept)[1]

    def observe(self) -> list[Object]:
        """What of ours the kernel holds, settings left out.  Raises KernelError."""
        return self._mode.observe()

    # -- what is known -------------------------------------------------------------------------

    def wanted(self) -> Iterable[Wanted]:
        """All that should be in the kernel now, as adjusted."""
        return self._wants

    def want(self, key: tuple[object, ...]) -> Wanted | None:
        """What should be in the kernel under that key, as adjusted."""
        return self._wants.get(key)

    def planned(self) -> Iterable[Wanted]:
        """All that would be wanted without ``adjust``."""
        return self._wants.planned()

    def astray(self) -> list[Change]:
        """How the kernel differs from what is wanted now; nothing is changed.

        What cannot be read is left out.
        """
        return list(self._mode.compare(self._wants).differences)

    def known(self) -> Known:
        """What an agent tells others: cheap, at any time between two syncs."""
        return Known(
            facts=self._facts,
            health=self._wants.health,
            services=self._tracker.services,
            slices=self._tracker.slices,
            dirty=len(self._tracker.dirty),
            readable=not self._tally.unread,
            flows_deleted=self._flows.deleted,
            flows_seconds=self._flows.seconds,
        )

    def status(self) -> ProxyStatus:
        """What there is to know, at this moment."""
        return status_of(
            self._tally,
            now=self._clock(),
            mode=self.mode,
            node=self._node_name,
            tracker=self._tracker,
            retries=self._retries,
            drains=self._drains,
            flows_deleted=self._flows.deleted,
            wants=self._wants,
            due=self.due(),
        )

    # -- the parts of a sync -------------------------------------------------------------------

    def _learn_facts(self) -> None:
        own = self._addresses or ()
        facts = node_facts(self._node_name, self._node, own, self._service_cidrs)
        if facts != self._facts:
            self._facts = facts
            self._wants.on_node(facts)
            self._tracker.mark_all()

    def _look_at_node(self) -> None:
        try:
            self.on_addresses(self._mode.node_addresses())
            self._tally.unread.pop(_NODE_ADDRESSES, None)
        except OSError as error:
            self._tally.unread[_NODE_ADDRESSES] = str(error)

    def _follow(self, now: float) -> list[Failed]:
        """Tells the kernel what changed for the Services that changed.

        Gives what it refuses and did not before, which is not reported yet.
        """
        self._plan_dirty(noted=True)
        differences = self._wants.take()
        if not differences:
            return []
        differences, leaving = split(differences, self._is_wanted)
        news = self._note(differences, self._mode.apply(differences), now)
        self._drains.prune(self._is_wanted)
        self._drain(leaving)
        return news

    def _plan_dirty(self, *, noted: bool) -> None:
        self._plan(noted=noted)
        if self._wants.crowd():
            self._tracker.mark_all()
            self._plan(noted=noted)

    def _plan(self, *, noted: bool) -> None:
        services = self._tracker.services
        for key in self._tracker.take_dirty():
            self._wants.put(key, services.get(key), self._tracker.slices(key), noted=noted)
            problems = self._wants.problems.get(key, ())
            for problem in problems:
                if problem not in self._reported.get(key, ()):
                    self._report(problem)
            if problems:
                self._reported[key] = problems
            else:
                self._reported.pop(key, None)

    def _compare(self, now: float) -> None:
        """Makes the kernel what is wanted, whatever it is."""
        first = not self._tally.full_syncs
        if first:
            self._wants.expect(self._tracker.endpoints())
            self._plan_dirty(noted=False)
            self._wants.forget_changes()
        compared = self._mode.compare(self._wants)
        unread = {kind: str(error) for kind, error in compared.unread.items()}
        if _NODE_ADDRESSES in self._tally.unread:
            unread[_NODE_ADDRESSES] = self._tally.unread[_NODE_ADDRESSES]
        if self._addresses is None:  # nothing was planned for them, and yet it may serve
            compared.differences.removals.clear()
            compared.strays.clear()
        if first or not self._expected:
            self._tally.compared(compared, first, self._retries.refused, self._drains)
        if self._retries.refused and not unread:
            found = [change.object.key for change in compared.differences]
            self._retries.keep([*found, *(real.key for real in compared.strays)])
        leaving = [real for real in compared.strays if real.protocol == "TCP"]
        compared.differences.removals += [
            self._removal(real) for real in compared.strays if real.protocol != "TCP"
        ]
        self._drains.prune(self._is_wanted)
        self._apply(compared.differences, now)
        self._drain(leaving)
        self._expected = False
        self._tally.unread = unread
        self._pace.compared(now, self._retries.delay, failed=bool(unread))

    def _retry(self, now: float) -> None:
        """Tries what was refused and is due; when that helped, everything that was refused."""
        due = self._retries.due(now)
        for _ in range(_ROUNDS):
            if not due:
                return
            before = set(self._retries.refused)
            differences, leaving = self._once_more(due)
            self._apply(differences, now)
            self._drain(leaving)
            left = self._retries.refused
            due = list(left) if len(left) < len(before) else []

    def _once_more(
        self, keys: Sequence[tuple[object, ...]]
    ) -> tuple[Differences, list[RealServer]]:
        """What should become of these objects now."""
        found, leaving = Differences(), []
        for key in keys:
            refused = self._retries.refused[key]
            want = self._wants.get(key)
            if want is not None:
                found.puts.append(put_change(want))
            elif isinstance(refused.object, Sysctl | Timeouts):
                self._retries.forget(key)  # withheld by now; it cannot be taken away
            elif not isinstance(refused.object, RealServer):
                found.removals.append(self._removal(refused.object))
            elif not self._is_wanted(server_of(refused.object).key):
                self._retries.forget(key)  # it goes, or has gone, with its virtual server
            elif refused.object.protocol == "TCP":
                leaving.append(refused.object)
            else:
                found.removals.append(self._removal(refused.object))
        return found, leaving

    def _drain(self, leaving: Sequence[RealServer], *, look: bool = False) -> None:
        """Real servers on their way out: weight 0 first, gone when no connection is left."""
        if leaving or look:
            done, failed, problem = self._drains.drain(leaving, self._clock(), look=look)
            if problem is not None:
                self._tally.unread["connections"] = str(problem)
            self._tell(self._note(done, failed, self._clock()))

    def _forget_flows(self) -> None:
        try:
            self._flows.clean(self._wants)
            self._tally.unread.pop(_FLOWS, None)
        except OSError as error:
            if _FLOWS not in self._tally.unread:
                self._report(f"stale UDP connection tracking entries: {error}")
            self._tally.unread[_FLOWS] = str(error)

    def _apply(self, differences: Differences, now: float) -> None:
        if differences:
            self._tell(self._note(differences, self._mode.apply(differences), now))

    def _note(
        self, changes: Sequence[Change] | Differences, failed: Sequence[Failed], now: float
    ) -> list[Failed]:
        """Gives the failures that are new."""
        self._tally.applied(len(changes), failed)
        if failed or self._retries.refused:
            return self._retries.note(changes, failed, now)
        return []

    def _tell(self, news: Sequence[Failed]) -> None:
        for one in news:
            self._report(str(one))

    def _removal(self, one: Object) -> Change:
        netns = self._mode.netns
        return Change(verb="remove", netns=netns, object=one, reason="no longer wanted")

    def _is_wanted(self, key: tuple[object, ...]) -> bool:
        return self._wants.get(key) is not None


def _silent(text: str) -> None:
    del text
