"""What a cluster's administrator decides before any object exists."""

from __future__ import annotations

import msgspec

from hairpin.model.address import Network, network

UPLINKS = network("192.168.100.0/24")
"""The network of the nodes' uplinks; its first host is the outside."""
UPLINKS_V6 = network("fd00:192:168:100::/64")
"""The same in IPv6."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The networks and ports that addresses are allocated from; one network a family.

    The defaults are those of a cluster that kubeadm made with its usual flags, and addresses for
    load balancers that are nobody's (TEST-NET-1, RFC 5737).  A Node's annotations go before
    ``service_cidrs`` and ``load_balancer_cidrs``.

    ``families`` are the IP versions that a cluster begins with, the first one its default; more
    of them come where a Node or Service asks.  None is every family that there are networks of.
    ``uplinks`` are the networks that Nodes get their own addresses from; none: they keep theirs.

    ``foreign``: objects may come from a cluster that hairpin does not run.  What its API server
    has completed stays as it is, and what a Service asks for may lie outside of the ranges.
    """

    service_cidrs: tuple[Network, ...] = (network("10.96.0.0/16"),)
    pod_cidrs: tuple[Network, ...] = (network("10.244.0.0/16"),)
    load_balancer_cidrs: tuple[Network, ...] = (network("192.0.2.0/24"),)
    node_port_range: tuple[int, int] = (30000, 32767)
    families: tuple[int, ...] | None = None
    uplinks: tuple[Network, ...] = ()
    dns: bool = False  # whether the cluster has a DNS of its own (``source.implied``)
    foreign: bool = False


PLAN = Settings(
    service_cidrs=(network("10.96.0.0/16"), network("fd00:10:96::/112")),
    pod_cidrs=(network("10.244.0.0/16"), network("fd00:10:244::/56")),
    load_balancer_cidrs=(network("192.0.2.0/24"), network("2001:db8:1b::/112")),
    foreign=True,
)
"""What is admitted with that is only planned: any cluster's objects.  IPv6 networks as kind's."""

LAB = Settings(
    service_cidrs=PLAN.service_cidrs,
    pod_cidrs=PLAN.pod_cidrs,
    load_balancer_cidrs=PLAN.load_balancer_cidrs,
    families=(4,),
    uplinks=(UPLINKS, UPLINKS_V6),
    dns=True,
)
"""What labs are admitted with."""
