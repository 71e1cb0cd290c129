"""Applying Changes of links, addresses, routes and neighbours over rtnetlink.

State names links and namespaces; rtnetlink numbers them.  A run of Changes goes out in as few
batches as the numbers allow: a link that the same run makes has a number only after the batch
before was sent.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from hairpin.kernel.errors import KernelError
from hairpin.kernel.links_seen import Namespaces, is_ordinary, link_seen
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.netlink import link as wire_link
from hairpin.netlink import neighbour as wire_neighbour
from hairpin.netlink import route as wire_route
from hairpin.netlink.link import IFF_PROMISC, IFF_UP, LinkMessage, Peer, Tunnel
from hairpin.netlink.message import Request
from hairpin.netlink.neighbour import NeighbourMessage
from hairpin.netlink.route import AddressMessage, RouteMessage
from hairpin.state.change import Change
from hairpin.state.links import Address, Bridged, Link, Neighbour, Route

_ABSENT = frozenset((errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL))
_UNKNOWN_TYPE = "Unknown device type"  # the kernel's words (rtnl_newlink)

Index = Callable[[str], int]
"""The number of a link by its name.  Raises KernelError (ENODEV)."""


def apply(
    socket: NetlinkSocket, namespaces: Namespaces, changes: Sequence[Change]
) -> list[KernelError | None]:
    """Applies consecutive Changes of the socket's namespace; gives the verdict on each.

    ``namespaces`` are those that a veth's peer may be sent to.  What is so already counts as
    done: an absent thing removed, an equal thing added, a link of the same type added (it is
    brought to what is wanted).
    """
    run = _Run(socket, namespaces)
    run.send(changes)
    if not any(run.verdicts):
        return run.verdicts
    # Later Changes of the same run may have more to say about a thing that was there.
    last = {change.object.key: change for change in changes}
    for position, change in enumerate(changes):
        error = run.verdicts[position]
        if error is not None:
            final = last[change.object.key]
            run.verdicts[position] = run.second_thought(change, error, final)
    return run.verdicts


class _Run:
    def __init__(self, socket: NetlinkSocket, namespaces: Namespaces) -> None:
        self.verdicts: list[KernelError | None] = []
        self._socket = socket
        self._namespaces = namespaces
        self._indexes: dict[str, int] = {}
        self._making: set[str] = set()  # links whose making is not sent yet
        self._pending: list[tuple[int, Request]] = []
        self._addresses: set[tuple[int, bytes, int]] | None = None
        self._routes: list[RouteMessage] | None = None

    def send(self, changes: Sequence[Change]) -> None:
        self.verdicts = [None] * len(changes)
        for position, change in enumerate(changes):
            try:
                requests = _requests(change, self._index, self._namespaces)
            except KernelError as error:
                self.verdicts[position] = error
                continue
            except ValueError as error:
                self.verdicts[position] = KernelError(errno.EINVAL, str(error))
                continue
            self._pending += [(position, request) for request in requests]
            if isinstance(change.object, Link) and change.verb != "set":
                self._indexes.pop(change.object.name, None)
                if change.verb == "add":
                    self._making |= {change.object.name, change.object.peer or ""}
        self._flush()

    def second_thought(
        self, change: Change, error: KernelError, final: Change
    ) -> KernelError | None:
        """What remains of an error when the kernel is looked at.

        ``final`` is the last Change of the run about the same thing.
        """
        if change.verb == "remove":
            return None if error.errno in _ABSENT else error
        if error.text == _UNKNOWN_TYPE and isinstance(change.object, Link):
            text = f"this kernel makes no {change.object.type} links (is the module loaded?)"
            return KernelError(error.errno or errno.EOPNOTSUPP, text)
        if error.errno != errno.EEXIST:
            return error
        try:
            match change.object:
                case Address() as wanted:
                    gone = final.verb == "remove"
                    return None if gone or self._has_address(wanted) else error
                case Route() as wanted:
                    return self._compare_route(wanted, error)
                case Link():
                    if final.verb == "remove" or not isinstance(final.object, Link):
                        return None
                    return self._adopt_link(final.object)
        except KernelError as refused:
            return refused
        return error

    def _index(self, name: str) -> int:
        """The link's number; sends what is pending first when that makes the link."""
        if name in self._making:
            self._flush()
        known = self._indexes.get(name)
        if known is None:
            known = self._indexes[name] = self._socket.link_index(name)
        return known

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        self._making.clear()
        answers = self._socket.batch([request for _, request in pending])
        for (position, _), error in zip(pending, answers, strict=True):
            if error is not None and self.verdicts[position] is None:
                self.verdicts[position] = error

    def _has_address(self, wanted: Address) -> bool:
        if self._addresses is None:
            frames = self._socket.dump(wire_route.dump_addresses())
            seen = (wire_route.parse_address(frame.body) for frame in frames)
            self._addresses = {(one.index, one.ip.packed, one.prefix) for one in seen}
        same = (self._index(wanted.link), wanted.ip.packed, wanted.prefix)
        return same in self._addresses

    def _compare_route(self, wanted: Route, error: KernelError) -> KernelError | None:
        if self._routes is None:
            frames = self._socket.dump(wire_route.dump_routes())
            routes = [wire_route.parse_route(frame.body) for frame in frames]
            self._routes = [route for route in routes if route and is_ordinary(route)]
        seen = next((route for route in self._routes if route.to == wanted.to), None)
        if seen is None:
            return error
        index = seen.index if wanted.link is None else self._index(wanted.link)
        if (seen.via, seen.index) == (wanted.via, index):
            return None
        way = f"via {seen.via}" if seen.via else "on a link"
        return KernelError(errno.EEXIST, f"there is another route to {seen.to}, {way}")

    def _adopt_link(self, wanted: Link) -> KernelError | None:
        """Brings a link that is there already to what is wanted, if it is of that type."""
        answer = self._socket.ask([wire_link.get_link(wanted.name)])[0]
        if isinstance(answer, KernelError):
            # What is there already must have been the other end.
            return KernelError(errno.EEXIST, f"{wanted.peer}, the peer of {wanted.name}")
        message = wire_link.parse_link(answer.body)
        if message.type != wanted.type:
            return KernelError(errno.EEXIST, f"{wanted.name} is there, of type {message.type}")
        same_master = message.master == (self._index(wanted.master) if wanted.master else None)
        seen = link_seen(message, wanted.master if same_master else "another")
        answers = self._socket.batch(_differences(wanted, seen, self._index))
        return next((error for error in answers if error is not None), None)


def _requests(change: Change, index: Index, namespaces: Namespaces) -> list[Request]:
    """What to send for a Change.  Raises KernelError, ValueError."""
    match change.verb, change.object:
        case "add", Link() as link:
            return _making(link, index, _peer(link, change.netns, namespaces))
        case "remove", Link() as link:
            return [wire_link.remove_link(link.name)]
        case "set", Link() as link:
            before = change.before if isinstance(change.before, Link) else None
            return _differences(link, before, index)
        case "add" | "set", Address() as address:
            return [wire_route.add_address(_address(address, index))]
        case "remove", Address() as address:
            return [wire_route.remove_address(_address(address, index))]
        case "add", Route() as route:
            return [wire_route.add_route(_route(route, index))]
        case "set", Route() as route:
            return [wire_route.set_route(_route(route, index))]
        case "remove", Route() as route:
            return [wire_route.remove_route(_route(route, index))]
        case "remove", (Neighbour() | Bridged()) as one:
            return [wire_neighbour.remove_neighbour(_neighbour(one, index))]
        case _, (Neighbour() | Bridged()) as one:
            return [wire_neighbour.put_neighbour(_neighbour(one, index))]
    raise ValueError(f"{change.verb} {change.object} is nothing for rtnetlink")


def _making(wanted: Link, index: Index, peer: Peer | None) -> list[Request]:
    flags = _flags(wanted)
    # A bridge follows its ports' MTU unless its own is set afterwards (br_mtu_auto_adjust).
    late_mtu = wanted.mtu if wanted.type == "bridge" else None
    link = LinkMessage(
        name=wanted.name,
        type=wanted.type,
        flags=flags,
        change=flags,
        master=index(wanted.master) if wanted.master else None,
        mtu=wanted.mtu if late_mtu is None else None,
        mac=wanted.mac,
        peer=peer,
        vxlan=_tunnel(wanted),
    )
    requests = [wire_link.add_link(link)]
    if late_mtu is not None:
        requests.append(wire_link.set_link(LinkMessage(name=wanted.name, mtu=late_mtu)))
    if wanted.hairpin and wanted.master:
        requests.append(wire_link.set_link(LinkMessage(name=wanted.name, hairpin=True)))
    return requests


def _tunnel(wanted: Link) -> Tunnel | None:
    one = wanted.vxlan
    return None if one is None else Tunnel(id=one.id, local=one.local, port=one.port)


def _neighbour(wanted: Neighbour | Bridged, index: Index) -> NeighbourMessage:
    bridged = isinstance(wanted, Bridged)
    ip = wanted.to if isinstance(wanted, Bridged) else wanted.ip
    return NeighbourMessage(index=index(wanted.link), ip=ip, mac=wanted.mac, bridged=bridged)


def _peer(wanted: Link, here: str, namespaces: Namespaces) -> Peer | None:
    if wanted.type != "veth" or wanted.peer is None:
        return None
    if wanted.peer_netns is None or wanted.peer_netns == here:
        return Peer(name=wanted.peer)
    there = namespaces.get(wanted.peer_netns)
    if there is None:
        text = f"no namespace {wanted.peer_netns} for {wanted.peer}, the peer of {wanted.name}"
        raise KernelError(errno.ENOENT, text)
    return Peer(name=wanted.peer, netns_fd=there.fd)


def _differences(wanted: Link, before: Link | None, index: Index) -> list[Request]:
    """Only what differs; everything that is wanted when ``before`` is not known."""
    change = IFF_UP | IFF_PROMISC if before is None else _flags(wanted) ^ _flags(before)
    moves = before is None or wanted.master != before.master
    link = LinkMessage(
        name=wanted.name,
        flags=_flags(wanted) & change,
        change=change,
        master=(index(wanted.master) if wanted.master else 0) if moves else None,
        mtu=wanted.mtu if before is None or wanted.mtu != before.mtu else None,
        mac=wanted.mac if before is None or wanted.mac != before.mac else None,
    )
    requests = []
    if link != LinkMessage(name=wanted.name):
        requests.append(wire_link.set_link(link))
    if wanted.master:
        was = None if before is None else before.hairpin
        if moves and before is not None:
            was = False  # a new port starts without it, whatever it was elsewhere
        if wanted.hairpin != was:
            port = LinkMessage(name=wanted.name, hairpin=wanted.hairpin)
            requests.append(wire_link.set_link(port))
    return requests


def _address(wanted: Address, index: Index) -> AddressMessage:
    scope = wire_route.RT_SCOPE_HOST if wanted.ip.is_loopback else 0
    return AddressMessage(index=index(wanted.link), ip=wanted.ip, prefix=wanted.prefix, scope=scope)


def _route(wanted: Route, index: Index) -> RouteMessage:
    if wanted.via is None and wanted.link is None:
        raise ValueError(f"the route to {wanted.to} has neither a gateway nor a link")
    number = None if wanted.link is None else index(wanted.link)
    return RouteMessage(to=wanted.to, via=wanted.via, index=number, onlink=wanted.onlink)


def _flags(link: Link) -> int:
    return (IFF_UP if link.up else 0) | (IFF_PROMISC if link.promisc else 0)
