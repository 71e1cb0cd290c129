"""Netlink sockets: requests out in batches, verdicts attributed, dumps in.

The kernel works off a batch inside the send call and reports every failing request by its
sequence number, even one that asked for no ACK.  So only the last request of a chunk asks for
one: when its verdict is there, all are.  What may not happen is that the receive buffer is full
meanwhile, since the kernel drops a verdict then without a word (netlink_ack in
net/netlink/af_netlink.c): chunks are small enough for all of them to fail.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from collections.abc import Iterator, Sequence

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netns import Netns
from hairpin.netlink import message as wire
from hairpin.netlink.message import Frame, Request

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_SIOCGIFINDEX = 0x8933

# A verdict with its explanation takes 768 to 1 280 bytes of buffer (truesize), an answer with a
# whole link about 4 KiB.  The default buffer is 212 992 bytes on 64-bit machines.
_SMALL_CHUNK = 64
_CHUNK = 256
_PACKED = 512  # their verdicts quote nothing else; they need 640 KiB of the megabyte below
_QUESTIONS = 32
_ROOM_FOR_CHUNK = 512 * 1024  # which the kernel doubles (sock_setsockopt)
_CHUNK_BYTES = 64 * 1024  # below SO_SNDBUF's default; more is EMSGSIZE
_DUMP_TRIES = 8
_LAST_SEQUENCE = 0x7000_0000
_WAIT = 10.0  # seconds; the kernel answers within the send call, so this is for broken kernels

# The kernel fills at most 32 KiB per read of a dump.  One buffer for all sockets: touching fresh
# memory is what costs in the embedded kernel, and a socket is used by one thread.
_BUFFER = bytearray(64 * 1024)


class NetlinkSocket:
    """A socket for one netlink protocol in one network namespace.

    ``netns`` None is the calling thread's.  Raises OSError (EPROTONOSUPPORT: the kernel lacks
    the protocol).  All sockets belong to one thread.
    """

    def __init__(self, protocol: int, netns: Netns | None = None) -> None:
        if netns is None:
            self._socket = _open(protocol)
        else:
            with netns.entered():
                self._socket = _open(protocol)
        self.families: dict[str, int] = {}
        """Numbers of generic netlink families that were asked for here."""
        self._sequence = 0
        self._roomy = False
        self._writable = _CHUNK_BYTES * 2

    def batch(self, requests: Sequence[Request]) -> list[KernelError | None]:
        """Sends requests in order and gives each one's verdict: None, or why not.

        A request that fails does not stop the later ones.  Raises KernelError when the kernel
        does not answer at all.
        """
        verdicts: list[KernelError | None] = []
        for chunk in self._chunks(requests, self._room(len(requests))):
            first = len(verdicts)
            verdicts += [None] * len(chunk)
            for position, frame in self._exchange(chunk).items():
                verdicts[first + position] = _verdict(frame)
        return verdicts

    def room(self, count: int) -> int:
        """How many of ``count`` messages may go into one ``packed``."""
        return min(count, _PACKED if self._room(count) == _CHUNK else _SMALL_CHUNK)

    def packed(self, data: bytes, count: int) -> dict[int, KernelError]:
        """Sends messages that the caller packed; gives the errors by position.

        They are numbered from ``wire.FIRST_PACKED``, and the last asks for an ACK.  At most
        ``room`` of them.  Else as ``batch``.
        """
        self._transmit(data)
        errors: dict[int, KernelError] = {}
        last = wire.FIRST_PACKED + count - 1
        size = self._read()
        if wire.is_consent(_BUFFER, size, last):
            return errors
        done = False
        while not done:
            for frame in wire.frames(_BUFFER, size):
                position = frame.sequence - wire.FIRST_PACKED
                done |= frame.kind == wire.NLMSG_ERROR and frame.sequence == last
                error = _verdict(frame) if 0 <= position < count else None
                if error is not None:
                    errors[position] = error
            if not done:
                size = self._read()
        return errors

    def transaction(
        self, requests: Sequence[Request], begin: Request, end: Request
    ) -> tuple[dict[int, KernelError], KernelError | None]:
        """Sends requests of which the kernel does all or none (nfnetlink's batch).

        Gives the errors by position; and the one that is of no request: the kernel has no such
        subsystem, or refused what all of them together come to.  Nothing of either: it is done.
        The kernel has said all when the send call ends, so nothing is waited for.
        """
        first = self._sequence + 1
        data = wire.batch([begin, *requests, end], first)
        self._sequence = first + len(requests) + 1
        if self._sequence >= _LAST_SEQUENCE:
            self._sequence = 0
        if len(data) > self._writable:
            self._make_writable(len(data))
        self._transmit(data)
        errors: dict[int, KernelError] = {}
        whole: KernelError | None = None
        while True:
            try:
                size = self._socket.recv_into(_BUFFER, 0, socket.MSG_TRUNC | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return errors, whole
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more verdicts than there is room for
                    raise KernelError.of(error, "receiving from netlink") from None
                continue
            for frame in wire.frames(_BUFFER, size):
                position = frame.sequence - first - 1
                refusal = _verdict(frame)
                if refusal is None:
                    continue
                if 0 <= position < len(requests):
                    errors.setdefault(position, refusal)
                elif position in (-1, len(requests)):
                    whole = whole or refusal

    def ask(self, requests: Sequence[Request]) -> list[Frame | KernelError]:
        """Sends requests that are each answered by one message, and gives the answers.

        Raises KernelError when the kernel does not answer at all.
        """
        answers: list[Frame | KernelError] = []
        for chunk in self._chunks(requests, _QUESTIONS):
            found = self._exchange(chunk)
            for position in range(len(chunk)):
                frame = found.get(position)
                if frame is not None and frame.kind != wire.NLMSG_ERROR:
                    answers.append(frame)
                else:
                    nothing = KernelError(errno.ENODATA, "the kernel said yes and nothing else")
                    answers.append((frame and _verdict(frame)) or nothing)
        return answers

    def dump(self, request: Request) -> list[Frame]:
        """Everything that a dump request gives.

        Asked again when the kernel says that things changed meanwhile (NLM_F_DUMP_INTR).
        Raises KernelError; EAGAIN when they never stop changing.
        """
        for _ in range(_DUMP_TRIES):
            found = self._dump_once(request)
            if found is not None:
                return found
        raise KernelError(errno.EAGAIN, f"changed during each of {_DUMP_TRIES} dumps")

    def stream(self, request: Request) -> Iterator[Frame]:
        """Everything that a dump request gives, as it comes: nothing is kept.

        It must be read to its end before anything else is asked here.  Raises KernelError; at
        the end EAGAIN when things changed meanwhile (NLM_F_DUMP_INTR).
        """
        self._sequence += 1
        number = self._sequence
        self._transmit(wire.frame(request, number))
        interrupted = False
        while True:
            for frame in self._receive():
                if frame.sequence != number:
                    continue
                interrupted |= bool(frame.flags & wire.NLM_F_DUMP_INTR)
                if frame.kind in (wire.NLMSG_DONE, wire.NLMSG_ERROR):
                    ack = wire.parse_ack(frame)
                    if ack.code or interrupted:
                        raise KernelError(ack.code or errno.EAGAIN, ack.text)
                    return
                yield frame

    def link_index(self, name: str) -> int:
        """The number of a link here.  Raises KernelError (ENODEV)."""
        if len(name.encode()) > 15:  # IFNAMSIZ; cutting it off would name another link
            raise KernelError(errno.ENODEV, f"no link {name}")
        try:
            answer = fcntl.ioctl(
                self._socket, _SIOCGIFINDEX, struct.pack("=15sx24x", name.encode())
            )
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, f"no link {name}") from None
        return int(struct.unpack_from("=i", answer, 16)[0])

    def close(self) -> None:
        self._socket.close()

    def _exchange(self, chunk: Sequence[Request]) -> dict[int, Frame]:
        """Sends one chunk; gives what came back, by the request's position."""
        last = self._send(chunk)
        first = last - len(chunk) + 1
        found: dict[int, Frame] = {}
        done = False
        while not done:
            for frame in self._receive():
                done |= frame.kind == wire.NLMSG_ERROR and frame.sequence == last
                if first <= frame.sequence <= last:
                    # The verdict "yes" on the last request must not hide its answer.
                    found.setdefault(frame.sequence - first, frame)
        return found

    def _chunks(self, requests: Sequence[Request], most: int) -> list[Sequence[Request]]:
        chunks: list[Sequence[Request]] = []
        start = size = 0
        for position, request in enumerate(requests):
            own = wire.HEADER_SIZE + len(request.body) + 3
            if position > start and (position - start == most or size + own > _CHUNK_BYTES):
                chunks.append(requests[start:position])
                start = position
                size = 0
            size += own
        if start < len(requests):
            chunks.append(requests[start:])
        return chunks

    def _room(self, count: int) -> int:
        """How many requests may fail at once; makes more room for many."""
        if count > _SMALL_CHUNK and not self._roomy:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM_FOR_CHUNK)
                self._roomy = True
            except PermissionError:  # only root of the initial user namespace may
                return _SMALL_CHUNK
        return _CHUNK if self._roomy else _SMALL_CHUNK

    def _make_writable(self, size: int) -> None:
        """Lets one message be that long, where the kernel allows it; else it is EMSGSIZE."""
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, size)
        except PermissionError:  # only root of the initial user namespace may
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        self._writable = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 64

    def _send(self, requests: Sequence[Request]) -> int:
        """Sends them in one call, the last with an ACK wanted; returns its sequence number."""
        data = wire.batch(requests, self._sequence + 1)
        last = self._sequence + len(requests)
        self._sequence = last if last < _LAST_SEQUENCE else 0
        self._transmit(data)
        return last

    def _transmit(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except BlockingIOError:
            raise KernelError(errno.ETIMEDOUT, "the kernel took no netlink message") from None

    def _receive(self) -> list[Frame]:
        return list(wire.frames(_BUFFER, self._read()))

    def _read(self) -> int:
        """Fills the buffer; gives how many bytes."""
        try:
            size = self._socket.recv_into(_BUFFER, 0, socket.MSG_TRUNC)
        except BlockingIOError:
            text = f"no netlink answer in {_WAIT:g} seconds"
            raise KernelError(errno.ETIMEDOUT, text) from None
        except OSError as error:
            raise KernelError.of(error, "receiving from netlink") from None
        if size > len(_BUFFER):
            raise KernelError(errno.EMSGSIZE, f"a netlink answer of {size} bytes")
        return size

    def _dump_once(self, request: Request) -> list[Frame] | None:
        self._sequence += 1
        number = self._sequence
        self._transmit(wire.frame(request, number))
        found: list[Frame] = []
        interrupted = False
        while True:
            for frame in self._receive():
                if frame.sequence != number:
                    continue
                interrupted |= bool(frame.flags & wire.NLM_F_DUMP_INTR)
                if frame.kind in (wire.NLMSG_DONE, wire.NLMSG_ERROR):
                    ack = wire.parse_ack(frame)
                    if ack.code:
                        raise KernelError(ack.code, ack.text)
                    return None if interrupted else found
                found.append(frame)


def _verdict(frame: Frame) -> KernelError | None:
    """Why a request failed, None when it did not."""
    if frame.kind != wire.NLMSG_ERROR:
        return None
    ack = wire.parse_ack(frame)
    return KernelError(ack.code, ack.text) if ack.code else None


def _open(protocol: int) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    try:
        opened.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        opened.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        # The kernel's own time limit: Python's would add a poll to every read.
        limit = struct.pack("@ll", int(_WAIT), 0)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    except BaseException:
        opened.close()
        raise
    return opened
