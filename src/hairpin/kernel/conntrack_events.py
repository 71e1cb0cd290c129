"""What connection tracking of one namespace forgets while a connection is looked at.

Source: net/netfilter/nf_conntrack_netlink.c (ctnetlink_conntrack_event), NFNLGRP_CONNTRACK_*.
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress

from hairpin.kernel.netns import Netns
from hairpin.netlink import conntrack as conntrack_wire
from hairpin.netlink import message as wire
from hairpin.state.conntrack import Flow
from hairpin.state.nftrace import Looked

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_SO_RCVBUFFORCE = 33
_ROOM = 1 << 20  # bytes
_MOST = 64  # flows that are kept


class FlowListener:
    """The flows of a connection that conntrack forgets, from now until ``stop``.

    Where the kernel does not tell, ``gone`` stays empty.
    """

    def __init__(self, netns: Netns, looked: Looked) -> None:
        self.netns = netns
        self.gone: list[Flow] = []
        self._looked = looked
        self._buffer = bytearray(64 * 1024)
        self._socket: socket.socket | None = None
        with netns.entered():
            kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
            opened = socket.socket(socket.AF_NETLINK, kind, conntrack_wire.NETLINK_NETFILTER)
        try:
            with suppress(PermissionError):  # only root of the initial user namespace may
                opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
            opened.bind((0, 0))
            opened.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, conntrack_wire.GROUP_DESTROY)
        except OSError:
            opened.close()
        else:
            self._socket = opened

    def stop(self) -> None:
        """Takes what has come, and ends it.  May be called again."""
        if self._socket is None:
            return
        while len(self.gone) < _MOST:
            try:
                size = self._socket.recv_into(self._buffer)
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # of the many that ended, some are not told of
                    continue
                break
            for frame in wire.frames(self._buffer, size):
                if conntrack_wire.is_end(frame):
                    self._take(conntrack_wire.parse_flow(frame.body))
        self.close()

    def close(self) -> None:
        """Ends it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _take(self, flow: Flow) -> None:
        looked = self._looked
        first = flow.original
        if flow.protocol != looked.protocol or first.source_port != looked.source_port:
            return
        if looked.source in (None, first.source) or looked.target == first.destination:
            self.gone.append(flow)
