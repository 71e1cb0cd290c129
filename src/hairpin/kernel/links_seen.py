"""Links, addresses and routes as the kernel holds them: dumps to state values."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.netns import Netns
from hairpin.model.address import IP
from hairpin.netlink import link as wire_link
from hairpin.netlink import route as wire_route
from hairpin.netlink.link import IFF_PROMISC, IFF_UP, LinkMessage
from hairpin.netlink.message import Frame
from hairpin.netlink.route import AddressMessage, RouteMessage
from hairpin.state.links import Address, Link, Route

_TRIES = 8  # dumps, while things change

Namespaces = Mapping[str, Netns]


def observe(
    socket: NetlinkSocket, namespaces: Namespaces, *, derived: bool = False
) -> list[Link | Address | Route]:
    """The links, addresses and routes of the socket's namespace.

    Routes are the unicast ones of the main table.  What the kernel makes by itself is left out
    unless ``derived``: routes to the networks of addresses, 127.0.0.1 and ::1, link-local
    addresses.  A veth's peer is named when its namespace is one of ``namespaces``.
    """
    messages = [wire_link.parse_link(frame.body) for frame in socket.dump(wire_link.dump_links())]
    names = {message.index: message.name or "" for message in messages}
    peers = _peers(socket, messages, namespaces)
    found: list[Link | Address | Route] = []
    for message in messages:
        master = names.get(message.master or 0)
        peer, peer_netns = peers.get(message.index, (None, None))
        found.append(link_seen(message, master, peer, peer_netns))
    found += _addresses(socket, names, derived)
    for frame in socket.dump(wire_route.dump_routes()):
        route = wire_route.parse_route(frame.body)
        if route is None or not is_ordinary(route):
            continue
        if derived or route.made_by != wire_route.RTPROT_KERNEL:
            found.append(Route(to=route.to, via=route.via, link=names.get(route.index or 0)))
    return found


def observe_link(socket: NetlinkSocket, name: str) -> Link | None:
    """One link, without what it belongs to; None where there is none of that name."""
    answer = socket.ask([wire_link.get_link(name)])[0]
    if isinstance(answer, Frame):
        return link_seen(wire_link.parse_link(answer.body), None)
    if answer.errno == errno.ENODEV:
        return None
    raise answer


def observe_addresses(socket: NetlinkSocket, link: str | None = None) -> list[Address]:
    """The addresses of one link, or of all; those that the kernel makes by itself are left out."""
    if link is None:
        messages = (wire_link.parse_link(one.body) for one in socket.dump(wire_link.dump_links()))
        return _addresses(socket, {one.index: one.name or "" for one in messages})
    try:
        return _addresses(socket, {socket.link_index(link): link})
    except KernelError as error:
        if error.errno != errno.ENODEV:
            raise
        return []


def _addresses(
    socket: NetlinkSocket, names: Mapping[int, str], derived: bool = False
) -> list[Address]:
    """The addresses of those links."""
    for _ in range(_TRIES):
        reader = wire_route.Addresses()
        found: list[Address] = []
        try:
            for frame in socket.stream(wire_route.dump_addresses()):
                like, ip = reader.parse(frame.body)
                if like.index in names and (derived or not _made_by_kernel(like, ip)):
                    found.append(Address(link=names[like.index], ip=ip, prefix=like.prefix))
            return found
        except KernelError as error:
            if error.errno != errno.EAGAIN:
                raise
    raise KernelError(errno.EAGAIN, f"changed during each of {_TRIES} dumps")


def _peers(
    socket: NetlinkSocket, messages: Sequence[LinkMessage], namespaces: Namespaces
) -> dict[int, tuple[str, str | None]]:
    """The name and namespace of each veth's other end, by the veth's index."""
    veths = [one for one in messages if one.type == "veth" and one.peer_index is not None]
    if not veths:
        return {}
    here = {one.index: one.name or "" for one in messages}
    found: dict[int, tuple[str, str | None]] = {
        one.index: (here[one.peer_index], None)
        for one in veths
        if one.peer_netnsid is None and one.peer_index in here
    }
    away = [one for one in veths if one.peer_netnsid is not None]
    numbers = _netnsids(socket, namespaces) if away else {}
    away = [one for one in away if one.peer_netnsid in numbers]
    questions = [
        wire_link.get_link_elsewhere(one.peer_index or 0, one.peer_netnsid or 0) for one in away
    ]
    for veth, answer in zip(away, socket.ask(questions), strict=True):
        if isinstance(answer, Frame):
            name = wire_link.parse_link(answer.body).name or ""
            found[veth.index] = (name, numbers[veth.peer_netnsid or 0])
    return found


def _netnsids(socket: NetlinkSocket, namespaces: Namespaces) -> dict[int, str]:
    """The names of namespaces by the numbers that they have in the socket's."""
    answers = socket.ask([wire_link.get_netnsid(one.fd) for one in namespaces.values()])
    return {
        wire_link.parse_netnsid(answer.body): name
        for name, answer in zip(namespaces, answers, strict=True)
        if isinstance(answer, Frame) and wire_link.parse_netnsid(answer.body) >= 0
    }


def link_seen(
    message: LinkMessage,
    master: str | None,
    peer: str | None = None,
    peer_netns: str | None = None,
) -> Link:
    """A Link from its message, with the names that the message has only numbers for."""
    return Link(
        name=message.name or "",
        type=message.type or "other",
        up=bool(message.flags & IFF_UP),
        master=master,
        promisc=bool(message.flags & IFF_PROMISC),
        hairpin=bool(message.hairpin),
        peer=peer,
        peer_netns=peer_netns,
        mtu=message.mtu,
        mac=message.mac,
    )


def _made_by_kernel(like: AddressMessage, ip: IP) -> bool:
    # IPv4's 127.0.0.1 says nothing of who made it, nor do IPv6's before Linux 5.18.
    if like.made_by:
        return True
    if type(ip) is IPv4Address:
        return int(ip) >> 24 == 127
    return ip.is_loopback or ip.is_link_local


def is_ordinary(route: RouteMessage) -> bool:
    """Whether state has a word for it: a unicast route of the main table."""
    return route.table == wire_route.RT_TABLE_MAIN and route.type == wire_route.RTN_UNICAST
