"""All claims about Services, in the order in which they are told."""

from __future__ import annotations

from hairpin.claims import (
    services_affinity,
    services_change,
    services_clusterip,
    services_conntrack,
    services_dualstack,
    services_endpoints,
    services_external,
    services_firewall,
    services_idle,
    services_invalid,
    services_load_balancer,
    services_names,
    services_node,
    services_nodeport,
    services_packets,
    services_policy,
    services_proxy,
    services_restart,
    services_rollout,
    services_topology,
    services_virtual_ip,
)
from hairpin.claims.promises import Promise

CLAIMS: tuple[Promise, ...] = (
    *services_clusterip.CLAIMS,
    *services_virtual_ip.CLAIMS,
    *services_nodeport.CLAIMS,
    *services_external.CLAIMS,
    *services_load_balancer.CLAIMS,
    *services_firewall.CLAIMS,
    *services_policy.CLAIMS,
    *services_endpoints.CLAIMS,
    *services_topology.CLAIMS,
    *services_affinity.CLAIMS,
    *services_change.CLAIMS,
    *services_conntrack.CLAIMS,
    *services_invalid.CLAIMS,
    *services_idle.CLAIMS,
    *services_names.CLAIMS,
    *services_dualstack.CLAIMS,
    *services_rollout.CLAIMS,
    *services_node.CLAIMS,
    *services_proxy.CLAIMS,
    *services_restart.CLAIMS,
    *services_packets.CLAIMS,
)
