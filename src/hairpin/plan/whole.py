"""A Snapshot to everything that one node's kernel should hold, in one go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.metadata import Key
from hairpin.model.snapshot import Snapshot
from hairpin.plan.desired import Desired
from hairpin.plan.node import NodeFacts
from hairpin.plan.planner import planner
from hairpin.plan.service_plan import ServicePlan
from hairpin.state.change import Wanted


class WholePlan(msgspec.Struct, frozen=True, kw_only=True):
    """``frame`` is what all Services stand in, ``services`` what they ask; both can be built in
    their order, the frame's link and sets first.  ``plans`` is by Service."""

    frame: tuple[Wanted, ...]
    services: tuple[Wanted, ...]
    plans: Mapping[Key, ServicePlan]
    conflicts: Mapping[Key, tuple[str, ...]]

    def __iter__(self) -> Iterator[Wanted]:
        yield from self.frame
        yield from self.services

    @property
    def problems(self) -> tuple[str, ...]:
        """What cannot be served, by the order of the Services."""
        return tuple(line for plan in self.plans.values() for line in plan.problems)


def plan(
    snapshot: Snapshot, config: KubeProxyConfiguration, node: NodeFacts, netns: str
) -> WholePlan:
    """What the node's kernel should hold.  It does not depend on the order of anything."""
    plans = planner(config, node, netns)
    slices = slices_by_service(snapshot)
    desired = Desired()
    for _ in range(2):
        four, six = 0, 0
        for key, service in snapshot.services.items():
            found = plans.service(service, slices.get(key, ()))
            desired.put(key, found)
            four, six = four + found.endpoints[0], six + found.endpoints[1]
        if not plans.crowd((four, six)):
            break
    return WholePlan(
        frame=tuple(plans.frame(desired.occupancy)),
        services=tuple(desired),
        plans=dict(desired.plans),
        conflicts=desired.conflicts,
    )


def slices_by_service(snapshot: Snapshot) -> dict[Key, list[EndpointSlice]]:
    """Each Service's slices; those that name none are left out."""
    found: dict[Key, list[EndpointSlice]] = {}
    for one in snapshot.endpointslices.values():
        if (key := one.service_key) is not None:
            found.setdefault(key, []).append(one)
    return found
