"""Network namespaces, links, addresses and routes."""

from __future__ import annotations

from typing import Literal

from hairpin.model.address import IP, Network
from hairpin.state.base import KernelObject

LinkType = Literal["veth", "bridge", "dummy", "loopback", "other"]


class Netns(KernelObject, frozen=True, tag="netns", kw_only=True):
    """A named network namespace, as ``ip netns`` shows it."""

    name: str

    @property
    def key(self) -> tuple[object, ...]:
        return ("netns", self.name)


class Link(KernelObject, frozen=True, tag="link", kw_only=True):
    """A network device, seen from the namespace that it lives in.

    ``peer`` and ``peer_netns`` are a veth's other end; adding or removing one end does the same
    to the other.  ``hairpin`` is the bridge port's mode (IFLA_BRPORT_MODE): a frame may leave by
    the port that it came in on.  It means something only with ``master``.
    ``promisc`` is a bridge's own: all frames also go up to the node.
    """

    name: str
    type: LinkType
    up: bool = True
    master: str | None = None
    promisc: bool = False
    hairpin: bool = False
    peer: str | None = None
    peer_netns: str | None = None
    mtu: int | None = None  # None: the kernel's default when wanted, never when observed
    mac: str | None = None  # None: the kernel chooses

    @property
    def key(self) -> tuple[object, ...]:
        return ("link", self.name)


class Address(KernelObject, frozen=True, tag="address", kw_only=True, gc=False):
    """An address of a link, with the length of its on-link prefix in bits."""

    link: str
    ip: IP
    prefix: int

    @property
    def key(self) -> tuple[object, ...]:
        ip = self.ip
        at = (ip._ip, ip._version)  # type: ignore[union-attr]  # see KernelObject.key
        return ("address", self.link, *at, self.prefix)


class Route(KernelObject, frozen=True, tag="route", kw_only=True):
    """A unicast route of the main table."""

    to: Network
    via: IP | None = None
    link: str | None = None

    @property
    def key(self) -> tuple[object, ...]:
        return ("route", self.to)
