"""nftables mode: Services to chains, sets and map elements of one table for each IP version.

See ``nft_frame`` for the way of a packet and ``nft_service`` for what one Service asks.
"""

from __future__ import annotations

from collections.abc import Sequence

from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.service import Service
from hairpin.plan.conntrack_settings import WHY, conntrack_settings
from hairpin.plan.frontends import Place
from hairpin.plan.local_traffic import (
    every_address,
    local_traffic,
    node_ips,
    node_port_addresses,
)
from hairpin.plan.nft_frame import Settings, frame
from hairpin.plan.nft_service import Context, planned
from hairpin.plan.node import NodeFacts
from hairpin.plan.owner import PROXY
from hairpin.plan.service_plan import Occupancy, ServicePlan
from hairpin.state.change import Wanted
from hairpin.state.sysctl import Sysctl


class NftPlanner:
    """Plans for one node.  What is expensive to find out is found out here, once."""

    def __init__(self, config: KubeProxyConfiguration, node: NodeFacts, netns: str) -> None:
        self._config = config
        self._netns = netns
        node_ports = node_port_addresses(config, node)
        everywhere = every_address(config, node)
        local = {version: local_traffic(config, node, version) for version in (4, 6)}
        mark = 1 << config.nftables.masquerade_bit
        self._settings = {
            version: Settings(
                mark=mark,
                everyone=config.nftables.masquerade_all,
                local=local[version],
                node_ports=None if everywhere[version] else node_ports[version],
                service_cidrs=node.service_cidrs,
            )
            for version in (4, 6)
        }
        self._context = Context(
            netns=netns,
            place=Place(node.name, node.zone),
            mark=mark,
            local=local,
            node_ips=node_ips(config, node),
            node_ports=node_ports,
        )

    def service(self, service: Service, slices: Sequence[EndpointSlice]) -> ServicePlan:
        """What one Service with its slices asks; nothing if it is not for this proxy."""
        return planned(self._context, service, slices)

    def crowd(self, endpoints: tuple[int, int]) -> bool:
        """Nothing depends on how many endpoints there are."""
        del endpoints
        return False

    def frame(self, occupancy: Occupancy) -> list[Wanted]:
        """What all Services stand in, in the order in which to build it; it depends on none."""
        del occupancy
        found = [
            Wanted(netns=self._netns, object=Sysctl(name=name, value=value), owner=PROXY, why=WHY)
            for name, value in conntrack_settings(self._config)
        ]
        for version, settings in self._settings.items():
            found += [
                Wanted(netns=self._netns, object=thing, owner=PROXY, why=why)
                for thing, why in frame(version, settings)
            ]
        return found
