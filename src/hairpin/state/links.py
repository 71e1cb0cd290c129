"""Network namespaces, links, addresses and routes."""

from __future__ import annotations

from typing import Literal

import msgspec

from hairpin.model.address import IP, Network
from hairpin.state.base import KernelObject

LinkType = Literal["veth", "bridge", "dummy", "vxlan", "loopback", "other"]


class Netns(KernelObject, frozen=True, tag="netns", kw_only=True):
    """A named network namespace, as ``ip netns`` shows it."""

    name: str

    @property
    def key(self) -> tuple[object, ...]:
        return ("netns", self.name)


class Vxlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a VXLAN is made with: who is where is told it (``Bridged``), it learns nothing."""

    id: int
    local: IP
    port: int  # UDP


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
    vxlan: Vxlan | None = None  # of that type; wanted, never observed

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
    onlink: bool = False  # ``via`` is on the link, whatever its addresses say; never observed

    @property
    def key(self) -> tuple[object, ...]:
        return ("route", self.to)


class Neighbour(KernelObject, frozen=True, tag="neighbour", kw_only=True):
    """The hardware address that an IP address has on a link, for good."""

    link: str
    ip: IP
    mac: str

    @property
    def key(self) -> tuple[object, ...]:
        return ("neighbour", self.link, self.ip)


class Bridged(KernelObject, frozen=True, tag="bridged", kw_only=True):
    """An entry of a VXLAN's forwarding database: the node that a hardware address is behind."""

    link: str
    mac: str
    to: IP

    @property
    def key(self) -> tuple[object, ...]:
        return ("bridged", self.link, self.mac)
