"""What a cluster's administrator decides before any object exists."""

from __future__ import annotations

import msgspec

from hairpin.model.address import Network, network

UPLINKS = network("192.168.100.0/24")
"""The network of the nodes' uplinks; its first host is the outside."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The networks and ports that addresses are allocated from.

    The defaults are those of a cluster that kubeadm made with its usual flags.  The annotation
    ``hairpin.dev/service-cidr`` of a Node goes before ``service_cidr``.
    """

    service_cidr: Network = network("10.96.0.0/16")
    pod_cidr: Network = network("10.244.0.0/16")
    node_port_range: tuple[int, int] = (30000, 32767)
    dns: bool = False  # whether the cluster has a DNS of its own (``source.implied``)


LAB = Settings(dns=True)
"""What labs are admitted with."""
