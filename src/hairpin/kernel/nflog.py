"""Listening to what netfilter logs in one namespace: the rules that traced packets met.

Source: net/netfilter/nf_log.c, nfnetlink_log.c.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.netns import Netns
from hairpin.netlink import message as wire
from hairpin.netlink import nflog
from hairpin.netlink.conntrack import NETLINK_NETFILTER
from hairpin.netlink.message import Request
from hairpin.state.nftrace import LoggedRule

_SO_RCVBUFFORCE = 33
_ROOM = 4 << 20  # bytes
_NONE = "NONE"  # what the setting says where a family has no logger
_SETTING = {4: "/proc/sys/net/netfilter/nf_log/2", 6: "/proc/sys/net/netfilter/nf_log/10"}


class LogListener:
    """TRACE's messages of one namespace from now on, until ``close``.

    Meanwhile nfnetlink_log is the namespace's logger for that version of IP; the one before comes
    back.  Where the process is killed it stays: only for namespaces that go with the process.
    Raises OSError, KernelError (EBUSY: another program listens).
    """

    def __init__(self, netns: Netns, version: int) -> None:
        self.lost = False
        """Whether messages came faster than they were read."""
        self.roomy = False
        """Whether there is room for a connection's messages, so that they can be read later."""
        self._netns = netns
        self._version = version
        self._buffer = bytearray(64 * 1024)
        self._before = self._read_setting()
        with netns.entered():
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        try:
            with suppress(PermissionError):  # only root of the initial user namespace may
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
                self.roomy = True
            for request in (*nflog.bind(), nflog.logger(version, on=True)):
                self._must(request)
        except BaseException:
            self._socket.close()
            raise

    def _must(self, request: Request) -> None:
        """The kernel answers within the send call, so that nothing is waited for."""
        self._socket.send(wire.frame(request, 1, wire.NLM_F_ACK))
        while True:
            try:
                size = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                raise KernelError(errno.ENODATA, "nfnetlink_log gave no answer") from None
            for frame in wire.frames(self._buffer, size):
                if frame.kind == wire.NLMSG_ERROR:
                    ack = wire.parse_ack(frame)
                    if ack.code:
                        raise KernelError(ack.code, ack.text or "binding nfnetlink_log")
                    return

    def fileno(self) -> int:
        """The descriptor that is readable when there are messages."""
        return self._socket.fileno()

    def read(self) -> list[LoggedRule]:
        """What has come and was not read, in its order.  Raises KernelError."""
        found: list[LoggedRule] = []
        while True:
            try:
                size = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise KernelError.of(error, "receiving logged packets") from None
                self.lost = True
                continue
            for frame in wire.frames(self._buffer, size):
                one = nflog.parse(frame)
                if one is not None:
                    found.append(one)

    def close(self) -> None:
        """Ends it, and gives the namespace its logger back.  May be called again."""
        if self._socket.fileno() < 0:
            return
        self._socket.close()
        with suppress(KernelError, OSError):
            other = NetlinkSocket(NETLINK_NETFILTER, self._netns)
            try:
                other.batch([nflog.logger(self._version, on=False)])
            finally:
                other.close()
            if self._before != _NONE:
                self._write_setting(self._before)

    def _read_setting(self) -> str:
        with self._netns.entered(), suppress(OSError), open(_SETTING[self._version]) as setting:
            return setting.read().strip()
        return _NONE

    def _write_setting(self, name: str) -> None:
        with self._netns.entered():
            fd = os.open(_SETTING[self._version], os.O_WRONLY)
            try:
                os.write(fd, name.encode())
            finally:
                os.close(fd)
