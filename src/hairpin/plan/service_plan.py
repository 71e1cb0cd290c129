"""What planning one Service gives, and what the frame around all of them depends on."""

from __future__ import annotations

import msgspec

from hairpin.model.address import IP
from hairpin.model.service import IPFamily
from hairpin.state.change import Wanted
from hairpin.state.ipvs import Protocol

Blocked = tuple[IP, Protocol, int]
"""A load balancer address, protocol and port that the node itself may not use."""


class HealthCheck(msgspec.Struct, frozen=True, gc=False):
    """The Service's healthCheckNodePort.

    It listens on the families that the Service has; ``local`` holds, in the same order, how many
    addresses of ready endpoints are on this node.
    """

    port: int
    families: tuple[IPFamily, ...]
    local: tuple[int, ...]


class UdpPort(msgspec.Struct, frozen=True, gc=False):
    """Where one UDP ServicePort is reached, and its endpoints that serve.

    Addresses are numbers, of ``version``: they are held against conntrack's many.  An endpoint is
    its address and port as one number, the port in the lowest 16 bits.
    """

    version: int
    frontends: tuple[tuple[int, int], ...]
    serving: frozenset[int]


class ServicePlan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one Service asks of the node.

    ``wanted`` is in the order in which to build, each object once.  ``problems`` is what the
    Service or its slices say that cannot be served, with object and field; the rest is planned.
    ``endpoints`` counts those of all ports, of IPv4 and of IPv6, where the mode depends on how many
    there are.
    """

    wanted: tuple[Wanted, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    health: HealthCheck | None = None
    problems: tuple[str, ...] = ()
    udp: tuple[UdpPort, ...] = ()
    endpoints: tuple[int, int] = (0, 0)


class Occupancy(msgspec.Struct, frozen=True):
    """What the rules depend on beside the configuration: the sets that hold something, by their
    whole names, and all that is blocked, sorted."""

    used: frozenset[str] = frozenset()
    blocked: tuple[Blocked, ...] = ()


class Delta(msgspec.Struct, frozen=True):
    """What one Service's new plan changes in all that is wanted; ``changed`` is before, after."""

    added: list[Wanted] = []
    removed: list[Wanted] = []
    changed: list[tuple[Wanted, Wanted]] = []


EMPTY = ServicePlan()
