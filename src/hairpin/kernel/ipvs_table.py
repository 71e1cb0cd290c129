"""All virtual and real servers of a namespace at once, without counters; see ``netlink``'s."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from hairpin.kernel import ipvs
from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.netns import Netns
from hairpin.netlink import ipvs as wire
from hairpin.netlink import ipvs_table
from hairpin.netlink.ipvs_table import Expected, Group, ObjectKey
from hairpin.state.ipvs import VirtualServer

_TABLE = "/proc/thread-self/net/ip_vs"
_PIECE = 16 * 1024  # a read gives 4 KiB, or as much as one virtual server needs
_TRIES = 8


def observe(
    socket: NetlinkSocket, netns: Netns, expected: Expected | None = None
) -> dict[ObjectKey, Group]:
    """The virtual servers by their key, each with its real servers.

    Where those are just the ``expected`` ones, that very sequence is given: see
    ``netlink.ipvs_table.real_servers``.  Thresholds of real servers are told as 0, unless they are
    behind a firewall mark or a tunnel.  Raises KernelError, also when the kernel has no IPVS.
    """
    servers = {one.key: one for one in _virtual_servers(socket)}
    try:
        listed = ipvs_table.real_servers(_lines(netns), servers, expected)
    except (KernelError, ValueError, IndexError):  # no /proc here, or another form of it
        listed = {}
    found: dict[ObjectKey, Group] = {}
    for key, server in servers.items():
        own = listed.get(key)
        if own is None:
            ((*seen,),) = ipvs.observe_real_servers(socket, [server])
            own = [one.server for one in seen]
        found[key] = server, own
    return found


def _virtual_servers(socket: NetlinkSocket) -> list[VirtualServer]:
    number = ipvs.family(socket)
    for _ in range(_TRIES):
        reader = ipvs_table.Virtuals()
        try:
            frames = socket.stream(wire.dump_virtual_servers(number))
            return [reader.parse(frame.body) for frame in frames]
        except KernelError as error:
            if error.errno == errno.ENOENT:
                number = ipvs.family(socket, anew=True)
            elif error.errno != errno.EAGAIN:
                raise
    raise KernelError(errno.EAGAIN, f"changed during each of {_TRIES} dumps")


def _lines(netns: Netns) -> Iterator[str]:
    try:
        with netns.entered():
            fd = os.open(_TABLE, os.O_RDONLY)
    except OSError as error:
        raise KernelError.of(error, _TABLE) from None
    try:
        rest = ""
        while piece := os.read(fd, _PIECE):
            lines = (rest + piece.decode("ascii")).split("\n")
            rest = lines.pop()
            yield from lines
    finally:
        os.close(fd)
