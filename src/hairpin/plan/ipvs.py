"""IPVS mode: Services to virtual servers, real servers, set entries and addresses.

Every address and port where a ServicePort is reached (a frontend) is a virtual server, and an entry
in the set of its kind.  ClusterIPs, external IPs and load balancer IPs are addresses of kube-ipvs0,
unless the node has them elsewhere: IPVS takes packets in LOCAL_IN only
(net/netfilter/ipvs/ip_vs_core.c), where nothing comes by that is not addressed to this node.

A ServicePort without endpoints is a virtual server without real servers: IPVS itself answers
"port unreachable" then (ip_vs_leave, same file), so no rule rejects anything.

The rules are kube-proxy's (pkg/proxy/ipvs/proxier.go and serviceport.go of Kubernetes 1.36).
"""

from __future__ import annotations

from collections.abc import Sequence

from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.service import Service
from hairpin.plan import ipvs_rules
from hairpin.plan.conntrack_settings import WHY, conntrack_settings
from hairpin.plan.frontends import Place
from hairpin.plan.ipvs_rules import CHAINS
from hairpin.plan.ipvs_service import Context, planned
from hairpin.plan.ipvs_sets import ip_sets
from hairpin.plan.local_traffic import masquerading, node_ips, node_port_addresses
from hairpin.plan.node import NodeFacts
from hairpin.plan.owner import PROXY
from hairpin.plan.service_plan import Occupancy, ServicePlan
from hairpin.state.change import Object, Wanted
from hairpin.state.ipvs import Timeouts
from hairpin.state.links import Link
from hairpin.state.sysctl import Sysctl

LINK = "kube-ipvs0"

_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.vs.conntrack": "1",
    "net.ipv4.vs.expire_nodest_conn": "1",
    "net.ipv4.vs.expire_quiescent_template": "1",
}
_WHY_SYSCTL = {
    "net.ipv4.ip_forward": "the node routes packets of others",
    "net.ipv4.vs.conntrack": "without conntrack iptables cannot masquerade what IPVS forwards",
    "net.ipv4.vs.expire_nodest_conn": "a connection ends with its real server",
    "net.ipv4.vs.expire_quiescent_template": "affinity ends where a real server takes no more",
    "net.ipv4.conf.all.arp_ignore": "strictARP: no answers for the addresses of kube-ipvs0",
    "net.ipv4.conf.all.arp_announce": "strictARP: no ARP from the addresses of kube-ipvs0",
}


class Planner:
    """Plans for one node.  What is expensive to find out is found out here, once."""

    def __init__(self, config: KubeProxyConfiguration, node: NodeFacts, netns: str) -> None:
        self._config = config
        self._netns = netns
        self._masquerading = masquerading(config, node)
        scheduler = config.ipvs.scheduler or "rr"
        self._context = Context(
            netns=netns,
            link=LINK,
            place=Place(node.name, node.zone),
            scheduler=scheduler,
            # kube-proxy hashes the client's port with "mh" (flag 2 of a scheduler), and only there
            scheduler_flags=frozenset((2,)) if scheduler == "mh" else frozenset(),
            node_addresses=frozenset(node.addresses),
            node_ips=node_ips(config, node),
            node_ports=node_port_addresses(config, node),
        )

    def service(self, service: Service, slices: Sequence[EndpointSlice]) -> ServicePlan:
        """What one Service with its slices asks; nothing if it is not for this proxy."""
        return planned(self._context, service, slices)

    def crowd(self, endpoints: tuple[int, int]) -> bool:
        """Nothing depends on how many endpoints there are."""
        del endpoints
        return False

    def frame(self, occupancy: Occupancy) -> list[Wanted]:
        """What all Services stand in, in the order in which to build it."""
        found = [
            self._wanted(
                Link(name=LINK, type="dummy", up=False),
                "its addresses make those of Services local",
            )
        ]
        for name, value in self._sysctls():
            why = _WHY_SYSCTL.get(name, WHY)
            found.append(self._wanted(Sysctl(name=name, value=value), why))
        if timeouts := self._timeouts():
            found.append(self._wanted(timeouts, "the section ipvs of the configuration"))
        for version in (4, 6):
            found += [self._wanted(one, why) for one, why in ip_sets(version)]
        for version in (4, 6):
            rules = ipvs_rules.chains(version, self._masquerading[version], occupancy)
            found += [
                self._wanted(chain, why) for chain, (_, _, why) in zip(rules, CHAINS, strict=True)
            ]
        for version in (4, 6):
            found += [
                self._wanted(one, f"leads packets into {one.to}")
                for one in ipvs_rules.jumps(version)
            ]
        return found

    def _wanted(self, thing: Object, why: str) -> Wanted:
        return Wanted(netns=self._netns, object=thing, owner=PROXY, why=why)

    def _sysctls(self) -> list[tuple[str, str]]:
        found = dict(_SYSCTLS)
        if self._config.ipvs.strict_arp:
            found |= {
                "net.ipv4.conf.all.arp_ignore": "1",
                "net.ipv4.conf.all.arp_announce": "2",
            }
        found |= dict(conntrack_settings(self._config))
        return list(found.items())

    def _timeouts(self) -> Timeouts | None:
        ipvs = self._config.ipvs
        timeouts = Timeouts(
            tcp=int(ipvs.tcp_timeout), tcp_fin=int(ipvs.tcp_fin_timeout), udp=int(ipvs.udp_timeout)
        )
        return timeouts if timeouts != Timeouts() else None
