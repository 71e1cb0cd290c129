"""IPVS: applying virtual and real servers, reading them back with counters and connections."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.netns import Netns
from hairpin.model.address import IP
from hairpin.netlink import generic
from hairpin.netlink import ipvs as wire
from hairpin.netlink.generic import NETLINK_GENERIC
from hairpin.netlink.message import Request
from hairpin.state.change import Change
from hairpin.state.ipvs import Connection, RealServer, VirtualServer, VirtualServerSeen

_CONNECTIONS = "/proc/thread-self/net/ip_vs_conn"
_MISSING = "this kernel has no IPVS (ip_vs is not loaded, or not for this user namespace)"
# ENOENT: no such real server; ESRCH: no such virtual server
_ABSENT = frozenset((errno.ENOENT, errno.ESRCH))
# Requests are made as they are sent: fresh memory is dear in the embedded kernel (60 us a page).
_AT_ONCE = 256
_SERVERS = (VirtualServer, RealServer)


def family(socket: NetlinkSocket) -> int:
    """The number of IPVS's netlink family.  Raises KernelError when the kernel has none."""
    answer = socket.ask([generic.get_family(wire.FAMILY_NAME)])[0]
    if isinstance(answer, KernelError):
        raise KernelError(answer.errno or errno.ENOENT, _MISSING)
    number = generic.parse_family(answer.body)[1]
    if number is None:
        raise KernelError(errno.ENOENT, _MISSING)
    return number


def apply(socket: NetlinkSocket, changes: Sequence[Change]) -> list[KernelError | None]:
    """Applies consecutive Changes of the socket's namespace; gives the verdict on each.

    What is so already counts as done: an absent server removed, one that is there added (it is
    set to what is wanted).
    """
    try:
        number = family(socket)
    except KernelError as missing:
        return [None if change.verb == "remove" else missing for change in changes]
    verdicts: list[KernelError | None] = []
    for start in range(0, len(changes), _AT_ONCE):
        requests = [_request(number, change) for change in changes[start : start + _AT_ONCE]]
        verdicts += socket.batch(requests)
    for position, error in enumerate(verdicts):
        if error is None:
            continue
        change = changes[position]
        if change.verb == "remove" and error.errno in _ABSENT:
            verdicts[position] = None
        elif change.verb == "add" and error.errno == errno.EEXIST:
            verdicts[position] = _adopt(socket, number, changes[position:])
        else:
            verdicts[position] = _explained(error, change)
    return verdicts


def observe(socket: NetlinkSocket) -> list[VirtualServerSeen]:
    """The virtual servers of the socket's namespace with their real servers and counters.

    Those by firewall mark are left out.  The kernel sums counters up every two seconds
    (ip_vs_est.c), so they lag behind; ``active`` and ``inactive`` do not.  Raises KernelError
    when the kernel has no IPVS.
    """
    number = family(socket)
    found = []
    for frame in socket.dump(wire.dump_virtual_servers(number)):
        seen = wire.parse_virtual_server(frame.body)
        if seen is None:
            continue
        try:
            answers = socket.dump(wire.dump_real_servers(number, seen.server))
        except KernelError as error:
            if error.errno not in _ABSENT:
                raise
            continue  # removed since
        real = tuple(wire.parse_real_server(answer.body, seen.server) for answer in answers)
        found.append(
            VirtualServerSeen(server=seen.server, counters=seen.counters, real_servers=real)
        )
    return found


def connections(netns: Netns) -> list[Connection]:
    """IPVS's connection table in a namespace, in no order.

    Raises KernelError when the kernel has no IPVS.
    """
    try:
        with netns.entered(), open(_CONNECTIONS, encoding="ascii") as table:
            return parse_connections(table)
    except FileNotFoundError:
        raise KernelError(errno.ENOENT, _MISSING) from None


def parse_connections(lines: Iterable[str]) -> list[Connection]:
    """The lines of /proc/net/ip_vs_conn, its heading included.

    Numbers are hexadecimal there, except for the seconds (ip_vs_conn_seq_show in
    net/netfilter/ipvs/ip_vs_conn.c).
    """
    found = []
    for line in lines:
        fields = line.split()
        if len(fields) < 9 or fields[0] == "Pro":
            continue
        protocol, client, client_port, vip, vport, server, server_port, state, expires = fields[:9]
        found.append(
            Connection(
                protocol=protocol,
                client=_ip(client),
                client_port=int(client_port, 16),
                vip=_ip(vip),
                vport=int(vport, 16),
                server=_ip(server),
                server_port=int(server_port, 16),
                state=state,
                expires=int(expires),
            )
        )
    return found


def open_socket(netns: Netns) -> NetlinkSocket:
    """A socket that ``observe`` and ``apply`` take.  Raises OSError."""
    return NetlinkSocket(NETLINK_GENERIC, netns)


def _request(number: int, change: Change) -> Request:
    server = change.object
    if not isinstance(server, _SERVERS):
        raise TypeError(f"{server} is nothing for IPVS")
    return wire.request(number, change.verb, server)


def _adopt(socket: NetlinkSocket, number: int, rest: Sequence[Change]) -> KernelError | None:
    """Sets the server of ``rest[0]`` to what the last Change of the run wants it to be."""
    key = rest[0].object.key
    final = [change for change in rest if change.object.key == key][-1]
    wanted = final.object
    if final.verb == "remove" or not isinstance(wanted, _SERVERS):
        return None
    return socket.batch([wire.request(number, "set", wanted)])[0]


def _explained(error: KernelError, change: Change) -> KernelError:
    """The kernel gives IPVS errors no text of its own."""
    wanted = change.object
    if isinstance(wanted, VirtualServer) and error.errno == errno.ENOENT:
        text = f"no scheduler {wanted.scheduler} (ip_vs_{wanted.scheduler} is not loaded)"
    elif isinstance(wanted, RealServer) and error.errno == errno.ESRCH:
        text = f"no virtual server {wanted.protocol} {wanted.vip} port {wanted.vport}"
    elif isinstance(wanted, RealServer) and error.errno == errno.ENOENT:
        text = f"no such real server: {wanted.ip} port {wanted.port}"
    elif isinstance(wanted, VirtualServer) and error.errno == errno.ESRCH:
        text = f"no such virtual server: {wanted.protocol} {wanted.ip} port {wanted.port}"
    elif isinstance(wanted, RealServer) and error.errno == errno.EINVAL:
        text = "the kernel takes no such real server; was lo ever up in this namespace?"
    else:
        return error
    return KernelError(error.errno or errno.EIO, error.text or text)


def _ip(text: str) -> IP:
    """IPv6 in full with colons, IPv4 as eight hexadecimal digits."""
    return IPv6Address(text) if ":" in text else IPv4Address(int(text, 16))
