"""rtnetlink: network devices and the numbers of namespaces.

On the wire a link is known by its index, and a namespace by a file descriptor or by a number
that means something in one other namespace only.  ``LinkMessage`` holds these; ``kernel.links``
turns names into them and back.  Sources: include/uapi/linux/rtnetlink.h, if_link.h, veth.h,
net_namespace.h.
"""

from __future__ import annotations

from struct import Struct
from typing import get_args

import msgspec

from hairpin.model.address import IP
from hairpin.netlink import message as wire
from hairpin.netlink.message import Request
from hairpin.state.links import LinkType

NETLINK_ROUTE = 0

RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTM_GETLINK = 18
RTM_NEWNSID = 88
_RTM_GETNSID = 90

IFF_UP = 0x1
IFF_PROMISC = 0x100
_ARPHRD_LOOPBACK = 772
_AF_UNSPEC = 0

_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINK = 5
_IFLA_MASTER = 10
_IFLA_LINKINFO = 18
_IFLA_NET_NS_FD = 28
_IFLA_LINK_NETNSID = 37
_IFLA_TARGET_NETNSID = 46
_IFLA_INFO_KIND = 1
_IFLA_INFO_DATA = 2
_IFLA_INFO_SLAVE_KIND = 4
_IFLA_INFO_SLAVE_DATA = 5
_IFLA_BRPORT_MODE = 4
_VETH_INFO_PEER = 1
_VXLAN_ID = 1
_VXLAN_LOCAL = {4: 4, 6: 17}  # by IP version
_VXLAN_LEARNING = 7
_VXLAN_PORT = 15
_NETNSA_NSID = 1
_NETNSA_FD = 3

_IFINFO = Struct("=BxHiII")  # family, device type, index, flags, mask of flags to change
_FAMILY = Struct("=Bxxx")
_I32 = Struct("=i")
_MADE_TYPES = frozenset(get_args(LinkType)) - {"loopback", "other"}
_LINK_TYPES: dict[str, LinkType] = {
    "veth": "veth",
    "bridge": "bridge",
    "dummy": "dummy",
    "vxlan": "vxlan",
}


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """The other end of a veth to be made; ``netns_fd`` None: in the same namespace."""

    name: str
    netns_fd: int | None = None


class Tunnel(msgspec.Struct, frozen=True, kw_only=True):
    """What a VXLAN is made with; it learns no addresses from packets."""

    id: int
    local: IP
    port: int


class LinkMessage(msgspec.Struct, frozen=True, kw_only=True):
    """ifinfomsg and the attributes that hairpin knows.  None: not in the message.

    ``index`` 0 leaves it to ``name`` to say which.  Only the flags in ``change`` are changed;
    the kernel's own messages have all of them set there, or none.  ``peer_index`` and
    ``peer_netnsid`` (the number of the peer's namespace as seen from here) are read, not sent.
    """

    name: str | None = None
    index: int = 0
    type: LinkType | None = None
    flags: int = 0
    change: int = 0
    master: int | None = None  # 0: none
    hairpin: bool | None = None
    mtu: int | None = None
    mac: str | None = None
    peer: Peer | None = None
    vxlan: Tunnel | None = None  # sent, not read
    peer_index: int | None = None
    peer_netnsid: int | None = None


def add_link(link: LinkMessage) -> Request:
    """Makes a link; EEXIST when there is one of that name.

    A bridge port's hairpin mode cannot be set in this message: the kernel looks at it before the
    master (rtnl_newlink in net/core/rtnetlink.c).  Send a ``set_link`` for it.
    """
    return Request(RTM_NEWLINK, wire.NLM_F_CREATE | wire.NLM_F_EXCL, _render(link))


def set_link(link: LinkMessage) -> Request:
    """Changes a link that exists; ENODEV when it does not."""
    return Request(RTM_NEWLINK, 0, _render(link))


def remove_link(name: str) -> Request:
    """Removes a link; ENODEV when there is none of that name."""
    return Request(_RTM_DELLINK, 0, _render(LinkMessage(name=name)))


def get_link(name: str) -> Request:
    """Asks for one link by name."""
    return Request(_RTM_GETLINK, 0, _render(LinkMessage(name=name)))


def get_link_elsewhere(index: int, netnsid: int) -> Request:
    """Asks for one link by index in another namespace."""
    body = _render(LinkMessage(index=index)) + wire.attribute(
        _IFLA_TARGET_NETNSID, _I32.pack(netnsid)
    )
    return Request(_RTM_GETLINK, 0, body)


def dump_links() -> Request:
    """Asks for all links of the namespace."""
    return Request(_RTM_GETLINK, wire.NLM_F_DUMP, _render(LinkMessage()))


def get_netnsid(fd: int) -> Request:
    """Asks for the number, here, of the namespace open as ``fd``."""
    return Request(_RTM_GETNSID, 0, _FAMILY.pack(_AF_UNSPEC) + wire.u32(_NETNSA_FD, fd))


def parse_netnsid(body: bytes) -> int:
    """The answer to ``get_netnsid``; -1 when it has no number here."""
    value = wire.attributes(body, _FAMILY.size).get(_NETNSA_NSID)
    if value is None:
        return -1
    if len(value) != _I32.size:
        raise wire.WireError(f"namespace number of {len(value)} bytes")
    return int(_I32.unpack(value)[0])


def parse_link(body: bytes) -> LinkMessage:
    """A link from a message of kind RTM_NEWLINK, or from a request.  Raises WireError."""
    if len(body) < _IFINFO.size:
        raise wire.WireError(f"link message of {len(body)} bytes")
    _, device, index, flags, change = _IFINFO.unpack_from(body)
    found = wire.attributes(body, _IFINFO.size)
    info = wire.attributes(found.get(_IFLA_LINKINFO, b""))
    name = found.get(_IFLA_IFNAME)
    mac = found.get(_IFLA_ADDRESS)
    kind = wire.string(info.get(_IFLA_INFO_KIND, b""))
    return LinkMessage(
        name=None if name is None else wire.string(name),
        index=index,
        type=_link_type(kind, device, seen=index != 0),
        flags=flags,
        change=change,
        master=_optional(found.get(_IFLA_MASTER)),
        hairpin=_hairpin(info),
        mtu=_optional(found.get(_IFLA_MTU)),
        mac=mac.hex(":") if mac else None,
        peer=_parse_peer(info) if kind == "veth" else None,
        peer_index=_optional(found.get(_IFLA_LINK)),
        peer_netnsid=_optional(found.get(_IFLA_LINK_NETNSID)),
    )


def _render(link: LinkMessage) -> bytes:
    parts = [_IFINFO.pack(_AF_UNSPEC, 0, link.index, link.flags, link.change)]
    if link.name is not None:
        parts.append(wire.text(_IFLA_IFNAME, link.name))
    if link.mac is not None:
        parts.append(wire.attribute(_IFLA_ADDRESS, bytes.fromhex(link.mac.replace(":", ""))))
    if link.mtu is not None:
        parts.append(wire.u32(_IFLA_MTU, link.mtu))
    if link.master is not None:
        parts.append(wire.u32(_IFLA_MASTER, link.master))
    if info := _render_info(link):
        parts.append(wire.nested(_IFLA_LINKINFO, *info))
    return b"".join(parts)


def _render_info(link: LinkMessage) -> list[bytes]:
    parts = []
    if link.type is not None:
        if link.type not in _MADE_TYPES:
            raise ValueError(f"a link of type {link.type} cannot be made")
        parts.append(wire.text(_IFLA_INFO_KIND, link.type))
    if link.peer is not None:
        parts.append(wire.nested(_IFLA_INFO_DATA, _render_peer(link.peer)))
    if link.vxlan is not None:
        parts.append(wire.nested(_IFLA_INFO_DATA, *_render_tunnel(link.vxlan)))
    if link.hairpin is not None:
        mode = wire.u8(_IFLA_BRPORT_MODE, link.hairpin)
        parts.append(wire.text(_IFLA_INFO_SLAVE_KIND, "bridge"))
        parts.append(wire.nested(_IFLA_INFO_SLAVE_DATA, mode))
    return parts


def _render_tunnel(tunnel: Tunnel) -> list[bytes]:
    return [
        wire.u32(_VXLAN_ID, tunnel.id),
        wire.attribute(_VXLAN_LOCAL[tunnel.local.version], tunnel.local.packed),
        wire.u8(_VXLAN_LEARNING, 0),
        wire.attribute(_VXLAN_PORT, tunnel.port.to_bytes(2, "big")),
    ]


def _render_peer(peer: Peer) -> bytes:
    parts = [_IFINFO.pack(_AF_UNSPEC, 0, 0, 0, 0), wire.text(_IFLA_IFNAME, peer.name)]
    if peer.netns_fd is not None:
        parts.append(wire.u32(_IFLA_NET_NS_FD, peer.netns_fd))
    return wire.nested(_VETH_INFO_PEER, *parts)


def _parse_peer(info: dict[int, bytes]) -> Peer | None:
    """The peer to be made; the kernel never tells it back this way."""
    data = wire.attributes(info.get(_IFLA_INFO_DATA, b"")).get(_VETH_INFO_PEER)
    if data is None:
        return None
    found = wire.attributes(data, _IFINFO.size)
    return Peer(
        name=wire.string(found.get(_IFLA_IFNAME, b"")),
        netns_fd=_optional(found.get(_IFLA_NET_NS_FD)),
    )


def _hairpin(info: dict[int, bytes]) -> bool | None:
    if info.get(_IFLA_INFO_SLAVE_KIND, b"").rstrip(b"\0") != b"bridge":
        return None
    mode = wire.attributes(info.get(_IFLA_INFO_SLAVE_DATA, b"")).get(_IFLA_BRPORT_MODE)
    return None if mode is None else bool(wire.number(mode))


def _link_type(kind: str, device: int, seen: bool) -> LinkType | None:
    if kind:
        return _LINK_TYPES.get(kind, "other")
    if device == _ARPHRD_LOOPBACK:
        return "loopback"
    return "other" if seen else None


def _optional(value: bytes | None) -> int | None:
    return None if value is None else wire.number(value)
