"""Listening to nf_tables' trace of packets in one namespace."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netns import Netns
from hairpin.netlink import message as wire
from hairpin.netlink import nftrace
from hairpin.netlink.conntrack import NETLINK_NETFILTER
from hairpin.state.nftrace import TraceEvent

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_SO_RCVBUFFORCE = 33
_ROOM = 4 << 20  # bytes; an event of 1 KiB takes 2 KiB of it


class TraceListener:
    """The events of one namespace from now on, until ``close``; events stay in their namespace.

    The kernel makes them only while somebody listens, of packets whose trace a rule has switched
    on (``SetTrace``).  Raises OSError.
    """

    def __init__(self, netns: Netns) -> None:
        self.lost = False
        """Whether events came faster than they were read."""
        self._buffer = bytearray(64 * 1024)
        with netns.entered():
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
        try:
            with suppress(PermissionError):  # only root of the initial user namespace may
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
            # Without a number of its own the kernel takes the socket for the events' sender.
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, nftrace.GROUP)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The descriptor that is readable when there are events."""
        return self._socket.fileno()

    def read(self) -> list[TraceEvent]:
        """The events that have come and were not read, in their order.  Raises KernelError."""
        found: list[TraceEvent] = []
        while True:
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError.of(error, "receiving trace events") from None
                self.lost = True
                continue
            for frame in wire.frames(self._buffer, size):
                event = nftrace.parse(frame)
                if event is not None:
                    found.append(event)

    def close(self) -> None:
        self._socket.close()
