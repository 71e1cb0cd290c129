"""nf_tables' trace of packets in one namespace: asking for it, and listening."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.netns import Netns
from hairpin.netlink import message as wire
from hairpin.netlink import nftables, nftrace
from hairpin.netlink.conntrack import NETLINK_NETFILTER
from hairpin.netlink.message import Request
from hairpin.state.nftrace import Looked, TraceEvent

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
        self.roomy = False
        """Whether there is room for the events of a connection, so that they can be read later."""
        self._buffer = bytearray(64 * 1024)
        with netns.entered():
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
        try:
            with suppress(PermissionError):  # only root of the initial user namespace may
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
                self.roomy = True
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


class Observer:
    """Has the kernel tell of a connection's packets, until ``close``.

    By a table that this socket owns: nobody else can change it, and it goes with the process.  It
    has rules that let everything through.  Raises OSError, KernelError (EOPNOTSUPP, EINVAL: no
    nf_tables for IP here, or none that can be owned).
    """

    def __init__(self, netns: Netns, looked: Looked, name: str) -> None:
        self._socket = NetlinkSocket(NETLINK_NETFILTER, netns)
        try:
            self._must(nftrace.observer(name, looked))
            # Only where there are others: families of which there are none are no matter.
            with suppress(KernelError):
                if self._socket.dump(nftrace.dump_tables("bridge")):
                    self._must(nftrace.observer(name, looked, bridge=True))
            with suppress(KernelError, OSError):
                if self._socket.dump(nftrace.dump_tables("netdev")):
                    self._must(nftrace.ingress(name, looked, _links(netns)))
        except BaseException:
            self._socket.close()
            raise

    def _must(self, messages: list[Request]) -> None:
        errors, whole = self._socket.transaction(messages, nftables.begin(), nftables.end())
        error = next(iter(errors.values()), whole)
        if error is not None:
            raise error

    def close(self) -> None:
        """Ends it: the kernel takes the table away."""
        self._socket.close()


def _links(netns: Netns) -> list[str]:
    """The links of a namespace, lo left out."""
    with netns.entered():
        return [name for _, name in socket.if_nameindex() if name != "lo"]
