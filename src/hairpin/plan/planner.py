"""What every mode's planner can do, and the one that a configuration asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.service import Service
from hairpin.plan.node import NodeFacts
from hairpin.plan.service_plan import Occupancy, ServicePlan
from hairpin.state.change import Wanted


class Planner(Protocol):
    """Plans for one node, in one mode."""

    def service(self, service: Service, slices: Sequence[EndpointSlice]) -> ServicePlan:
        """What one Service with its slices asks; nothing if it is not for this proxy."""
        ...

    def frame(self, occupancy: Occupancy) -> list[Wanted]:
        """What all Services stand in, in the order in which to build it."""
        ...

    def crowd(self, endpoints: tuple[int, int]) -> bool:
        """Told how many endpoints all Services have (IPv4, IPv6): whether that changes what they
        ask, so that each must be planned anew."""
        ...


def planner(config: KubeProxyConfiguration, node: NodeFacts, netns: str) -> Planner:
    """By the configuration's mode; none is IPVS.  A mode is imported when it is asked for."""
    match config.mode:
        case "iptables":
            from hairpin.plan.iptables import IptablesPlanner

            return IptablesPlanner(config, node, netns)
        case "nftables":
            from hairpin.plan.nftables import NftPlanner

            return NftPlanner(config, node, netns)
        case _:
            from hairpin.plan.ipvs import Planner as IpvsPlanner

            return IpvsPlanner(config, node, netns)
