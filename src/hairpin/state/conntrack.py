"""Connection tracking: what netfilter remembers of connections.

A flow is observed and may be forgotten; nothing wants one, so that it is no kernel object with
a Change of its own.
"""

from __future__ import annotations

import msgspec

from hairpin.model.address import IP


class Tuple(msgspec.Struct, frozen=True, gc=False):
    """One direction of a flow.  Ports are 0 where the protocol has none."""

    source: IP
    source_port: int
    destination: IP
    destination_port: int

    def __str__(self) -> str:
        return (
            f"{self.source} port {self.source_port} to "
            f"{self.destination} port {self.destination_port}"
        )


class Flow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of the connection tracking table.

    ``original`` is as its first packet was sent, before any DNAT; ``reply`` as the answer is
    expected, so that its source is the real server.  ``protocol`` is the number of the IP
    protocol, as conntrack tracks more of them than Services have.
    """

    protocol: int
    original: Tuple
    reply: Tuple
    mark: int = 0
    status: int = 0  # IPS_* bits of linux/netfilter/nf_conntrack_common.h
    zone: int = 0
    id: int = 0  # tells this entry from a later one with the same tuples
