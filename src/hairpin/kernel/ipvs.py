"""IPVS: applying virtual and real servers, reading them back with counters and connections."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.netns import Netns
from hairpin.model.address import IP
from hairpin.netlink import generic, ipvs_seen
from hairpin.netlink import ipvs as wire
from hairpin.netlink.generic import NETLINK_GENERIC
from hairpin.netlink.ipvs_format import FAMILY_NAME
from hairpin.netlink.message import Frame, Request
from hairpin.state.change import Change
from hairpin.state.ipvs import (
    Connection,
    Info,
    RealServer,
    RealServerSeen,
    Timeouts,
    VirtualServer,
    VirtualServerSeen,
)

_CONNECTIONS = "/proc/thread-self/net/ip_vs_conn"
_MISSING = "this kernel has no IPVS (ip_vs is not loaded, or not for this user namespace)"
# ENOENT: no such real server; ESRCH: no such virtual server
_ABSENT = frozenset((errno.ENOENT, errno.ESRCH))

MOST = wire.MOST_PACKED
"""How many Changes ``apply`` takes at most."""


class Ipvs:
    """IPVS of one namespace, as ``Kernel.ipvs`` gives it.

    All of it raises KernelError, also when the kernel has no IPVS.
    """

    def __init__(self, netns: Netns, socket: NetlinkSocket) -> None:
        self._netns = netns
        self._socket = socket

    def observe(self) -> list[VirtualServerSeen]:
        """Virtual servers with real servers and counters; see ``observe`` below."""
        return observe(self._socket)

    def connections(self) -> list[Connection]:
        """The connection table, in no order."""
        return connections(self._netns)

    def timeouts(self) -> Timeouts:
        """Seconds until a silent connection is forgotten.  Set by a Change."""
        return ipvs_seen.parse_timeouts(self._ask(wire.get_timeouts).body)

    def info(self) -> Info:
        """The version, and how many buckets the connection table has (for all namespaces)."""
        return ipvs_seen.parse_info(self._ask(wire.get_info).body)

    def zero(self, server: VirtualServer | None = None) -> None:
        """Sets counters to 0: all, or those of one virtual server with its real servers."""
        self._do(lambda number: wire.zero(number, server))

    def flush(self) -> None:
        """Removes all virtual servers."""
        self._do(wire.flush)

    def _ask(self, make: Callable[[int], Request]) -> Frame:
        answer = self._socket.ask([make(family(self._socket))])[0]
        if isinstance(answer, KernelError):
            raise answer
        return answer

    def _do(self, make: Callable[[int], Request]) -> None:
        error = self._socket.batch([make(family(self._socket))])[0]
        if error is not None:
            raise error


def family(socket: NetlinkSocket, *, anew: bool = False) -> int:
    """The number of IPVS's netlink family.  Raises KernelError when the kernel has none.

    Remembered with the socket, as asking costs as much as a change; ``anew`` asks all the same.
    The number is another one after ip_vs was unloaded and loaded.
    """
    known = None if anew else socket.families.get(FAMILY_NAME)
    if known is not None:
        return known
    socket.families.pop(FAMILY_NAME, None)
    answer = socket.ask([generic.get_family(FAMILY_NAME)])[0]
    if isinstance(answer, KernelError):
        raise KernelError(answer.errno or errno.ENOENT, _MISSING)
    number = generic.parse_family(answer.body)[1]
    if number is None:
        raise KernelError(errno.ENOENT, _MISSING)
    socket.families[FAMILY_NAME] = number
    return number


def apply(socket: NetlinkSocket, changes: Sequence[Change]) -> tuple[dict[int, KernelError], int]:
    """Applies the first Changes: those of servers in the namespace of the first one.

    Gives the errors by position, and how many Changes it took; at most 512, so that few of them
    are looked at before they are sent (fresh memory is dear in the embedded kernel).  What is so
    already counts as done: an absent server removed, one that is there added (it is set to what
    is wanted).
    """
    room = socket.room(min(len(changes), MOST))
    some = changes if len(changes) <= room else changes[:room]
    try:
        errors, count = _send(socket, some)
    except KernelError as missing:
        if missing.text != _MISSING:
            raise
        _, count = wire.pack(0, some, some[0].netns)
        return {at: missing for at in range(count) if some[at].verb != "remove"}, count
    if not errors:
        return errors, count
    there = [at for at, error in errors.items() if error.errno == errno.EEXIST]
    for at in there:
        del errors[at]
    if there:
        errors |= _adopt(socket, some[:count], there)
    return {
        at: _explained(error, some[at])
        for at, error in errors.items()
        if some[at].verb != "remove" or error.errno not in _ABSENT
    }, count


def apply_timeouts(socket: NetlinkSocket, changes: Sequence[Change]) -> list[KernelError | None]:
    """Applies Changes of Timeouts in the socket's namespace; gives the verdict on each.

    They cannot cease to exist, so that removing them does nothing.
    """
    number = family(socket)
    verdicts: list[KernelError | None] = []
    for change in changes:
        wanted = change.object
        if isinstance(wanted, Timeouts) and change.verb != "remove":
            verdicts += socket.batch([wire.set_timeouts(number, wanted)])
        else:
            verdicts.append(None)
    return verdicts


def observe(socket: NetlinkSocket) -> list[VirtualServerSeen]:
    """The virtual servers of the socket's namespace with their real servers and counters.

    The kernel sums counters up every two seconds (ip_vs_est.c), so they lag behind; ``active``
    and ``inactive`` do not.  Raises KernelError when the kernel has no IPVS.
    """
    number = family(socket)
    try:
        frames = socket.dump(wire.dump_virtual_servers(number))
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
        number = family(socket, anew=True)
        frames = socket.dump(wire.dump_virtual_servers(number))
    found = []
    for frame in frames:
        seen = ipvs_seen.parse_virtual_server(frame.body)
        try:
            answers = socket.dump(wire.dump_real_servers(number, seen.server))
        except KernelError as error:
            if error.errno not in _ABSENT:
                raise
            continue  # removed since
        real = tuple(ipvs_seen.parse_real_server(answer.body, seen.server) for answer in answers)
        found.append(
            VirtualServerSeen(
                server=seen.server, counters=seen.counters, rates=seen.rates, real_servers=real
            )
        )
    return found


def observe_real_servers(
    socket: NetlinkSocket, servers: Sequence[VirtualServer]
) -> list[tuple[RealServerSeen, ...]]:
    """What is behind each of these virtual servers; nothing where there is no such one."""
    number = family(socket)
    found = []
    for server in servers:
        try:
            frames = socket.dump(wire.dump_real_servers(number, server))
        except KernelError as error:
            if error.errno not in _ABSENT:
                raise
            frames = []
        found.append(tuple(ipvs_seen.parse_real_server(frame.body, server) for frame in frames))
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
                engine=fields[9] if len(fields) > 9 else "",
                engine_data=" ".join(fields[10:]),
            )
        )
    return found


def open_socket(netns: Netns) -> NetlinkSocket:
    """A socket that ``observe`` and ``apply`` take.  Raises OSError."""
    return NetlinkSocket(NETLINK_GENERIC, netns)


def _send(socket: NetlinkSocket, changes: Sequence[Change]) -> tuple[dict[int, KernelError], int]:
    """What the kernel says to the first Changes, and how many went out.  Raises KernelError."""
    number = family(socket)
    netns = changes[0].netns
    packed, count = wire.pack(number, changes, netns)
    errors = socket.packed(packed, count)
    # The same code for an absent server and for a family that is gone.
    if errors and any(error.errno == errno.ENOENT for error in errors.values()):
        again = family(socket, anew=True)
        if again != number:
            errors = socket.packed(wire.pack(again, changes, netns)[0], count)
    return errors, count


def _adopt(
    socket: NetlinkSocket, changes: Sequence[Change], there: Sequence[int]
) -> dict[int, KernelError]:
    """Sets the servers that were there to what the last of the Changes wants them to be."""
    last = {change.object.key: change for change in changes}
    finals = [(at, last[changes[at].object.key]) for at in there]
    puts = [
        (at, Change(verb="set", netns=final.netns, object=final.object))
        for at, final in finals
        if final.verb != "remove"
    ]
    if not puts:
        return {}
    errors, _ = _send(socket, [put for _, put in puts])
    return {puts[number][0]: error for number, error in errors.items()}


def _explained(error: KernelError, change: Change) -> KernelError:
    """The kernel gives IPVS errors no text of its own."""
    wanted = change.object
    if isinstance(wanted, VirtualServer) and error.errno == errno.ENOENT:
        text = f"no scheduler {wanted.scheduler} (ip_vs_{wanted.scheduler} is not loaded)"
        if wanted.persistence_engine:
            engine = wanted.persistence_engine
            text += f", or no persistence engine {engine} (ip_vs_pe_{engine})"
    elif isinstance(wanted, RealServer) and error.errno == errno.ESRCH:
        text = f"no virtual server {_at(wanted.protocol, wanted.vip, wanted.vport, wanted.fwmark)}"
    elif isinstance(wanted, RealServer) and error.errno == errno.ENOENT:
        text = f"no such real server: {wanted.ip} port {wanted.port}"
    elif isinstance(wanted, VirtualServer) and error.errno == errno.ESRCH:
        text = (
            f"no such virtual server: {_at(wanted.protocol, wanted.ip, wanted.port, wanted.fwmark)}"
        )
    elif isinstance(wanted, RealServer) and error.errno == errno.EINVAL:
        text = "the kernel takes no such real server; was lo ever up in this namespace?"
    else:
        return error
    return KernelError(error.errno or errno.EIO, error.text or text)


def _at(protocol: str, ip: IP, port: int, fwmark: int) -> str:
    if fwmark:
        return f"by IPv{ip.version} firewall mark {fwmark}"
    return f"{protocol} {ip} port {port}"


def _ip(text: str) -> IP:
    """IPv6 in full with colons, IPv4 as eight hexadecimal digits."""
    return IPv6Address(text) if ":" in text else IPv4Address(int(text, 16))
