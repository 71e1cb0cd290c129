"""Packets as they pass the links of network namespaces, over AF_PACKET sockets.

One socket a namespace sees all of its links, in both directions, and changes nothing: it has
copies.  It ends with its descriptor, so that nothing is left however the process ends.
Source: packet(7), net/packet/af_packet.c.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netns import Netns
from hairpin.kernel.reactor import Reactor, Timer
from hairpin.trace.observation import Sighting

_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35  # asm-generic/socket.h: the old form, two longs
_PACKET_OUTGOING = 4
_SNAP = 2048  # bytes of a frame that are kept: a whole one of the usual MTU
_ROOM = 4 << 20  # bytes of buffer for packets that wait to be read
_MOST = 20_000  # packets of one capture that are kept
_PAUSE = 0.15  # seconds between readings, at least
_SHARE = 4  # times as long as a reading took, until the next
_TURN = 512  # packets read before other descriptors have their turn
_TIME = struct.Struct("@qq")
_CONTROL = socket.CMSG_SPACE(_TIME.size)

_TURNS = 64  # at most, so that traffic without end does not keep a reader

_ICMP, _ICMP6 = 1, 58
_VXLAN_PORTS = (8472, 4789)
_MOST_PORTS = 50


class Capture:
    """What passes the links of some namespaces from ``start`` to ``stop``.

    ``protocol`` is the number of the IP protocol that is kept, besides ARP, ICMP and VXLAN;
    ``ports`` are those that one end of a kept packet has, empty for any.
    """

    def __init__(self, reactor: Reactor, protocol: int, ports: Sequence[int] = ()) -> None:
        self._reactor = reactor
        self._program = program(protocol, ports)
        self._sockets: list[tuple[str, socket.socket]] = []
        self._seen: list[Sighting] = []
        self._timer: Timer | None = None
        self.missed = 0
        """Packets that there was no room for; all of them are known after ``stop``."""

    def start(self, places: Mapping[str, Netns]) -> None:
        """Listens in those namespaces, by their names.  Raises KernelError."""
        try:
            for name, netns in places.items():
                with netns.entered():
                    opened = _open(self._program)
                self._sockets.append((name, opened))
            self._timer = self._reactor.after(_PAUSE, self._empty)
        except OSError as error:
            self.stop()
            raise KernelError.of(error, "listening on links (AF_PACKET)") from None

    def forget(self) -> None:
        """Forgets what was seen so far, and what there was no room for."""
        for name, opened in self._sockets:
            for _ in range(_TURNS):
                if not self._read(name, opened):
                    break
            with suppress(OSError):  # to read the counters sets them to 0
                opened.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self._seen.clear()
        self.missed = 0

    def stop(self) -> list[Sighting]:
        """Ends it and gives what was seen, in the kernel's order.  May be called again."""
        if self._timer is not None:
            self._timer.cancel()
        for name, opened in self._sockets:
            while self._read(name, opened):
                pass
            with suppress(OSError):
                counts = opened.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
                self.missed += int(struct.unpack("=II", counts)[1])
            opened.close()
        self._sockets.clear()
        self._seen.sort(key=lambda one: one.at)
        return self._seen

    def _empty(self) -> None:
        """Makes room now and then; reading at once would slow down what is looked at.

        However much goes by, most of the time is left to others: a lab's servers among them.
        """
        began = self._reactor.now()
        for name, opened in self._sockets:
            self._read(name, opened)
        took = self._reactor.now() - began
        self._timer = self._reactor.after(max(_PAUSE, took * _SHARE), self._empty)

    def _read(self, netns: str, opened: socket.socket) -> bool:
        """Takes some of what waits; whether there is more."""
        for _ in range(_TURN):
            try:
                data, control, _flags, where = opened.recvmsg(_SNAP, _CONTROL, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno == errno.ENETDOWN:  # one link went away; the others go on
                    continue
                return False
            if len(self._seen) >= _MOST:
                self.missed += 1
                continue
            self._seen.append(
                Sighting(
                    netns=netns,
                    link=where[0],
                    way="out" if where[2] == _PACKET_OUTGOING else "in",
                    at=_time(control),
                    data=data,
                )
            )
        return True


def _open(code: bytes) -> socket.socket:
    """A socket for all links of the calling thread's namespace.

    What slips in before the filter is there does no harm: readers look at packets anyway.
    """
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    try:
        buffer = ctypes.create_string_buffer(code, len(code))
        # struct sock_fprog: how many instructions, and where they are
        opened.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)),
        )
        opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        with suppress(PermissionError):
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
    except BaseException:
        opened.close()
        raise
    return opened


def _time(control: list[tuple[int, int, bytes]]) -> float:
    for _, kind, value in control:
        if kind == _SO_TIMESTAMPNS and len(value) >= _TIME.size:
            seconds, nanoseconds = _TIME.unpack_from(value)
            return float(seconds) + float(nanoseconds) / 1e9
    return 0.0


_LD_H, _LD_B, _LDX_MSH, _LD_H_X = 0x28, 0x30, 0xB1, 0x48  # linux/bpf_common.h
_JEQ, _RET = 0x15, 0x06


def program(protocol: int, ports: Sequence[int] = ()) -> bytes:
    """The classic BPF that keeps ARP, ICMP, VXLAN and ``protocol``, by ``ports`` if there are any.

    IPv6's extension headers are not looked behind.  A jump leads at most 255 instructions on, so
    that more than 50 ports count as none.
    """
    few = list(dict.fromkeys(ports))
    few = few if len(few) <= _MOST_PORTS else []
    lines: list[tuple[int, str | int, str | int, int]] = []
    labels: dict[str, int] = {}

    def at(name: str) -> None:
        labels[name] = len(lines)

    def test(value: int, yes: str | int, no: str | int = 0) -> None:
        lines.append((_JEQ, yes, no, value))

    def ports_of(load: int, base: int) -> None:
        for offset in (base, base + 2):
            lines.append((load, 0, 0, offset))
            for port in few:
                test(port, "keep")
        lines.append((_RET, 0, 0, 0))

    lines.append((_LD_H, 0, 0, 12))
    test(0x0806, "keep")
    test(0x86DD, "six")
    test(0x0800, 0, "drop")
    lines.append((_LD_B, 0, 0, 23))
    test(_ICMP, "keep")
    test(protocol, "four-ports" if few else "keep")
    test(socket.IPPROTO_UDP, 0, "drop")
    lines.append((_LDX_MSH, 0, 0, 14))
    lines.append((_LD_H_X, 0, 0, 16))
    for port in _VXLAN_PORTS:
        test(port, "keep")
    lines.append((_RET, 0, 0, 0))
    at("six")
    lines.append((_LD_B, 0, 0, 20))
    test(_ICMP6, "keep")
    test(protocol, "six-ports" if few else "keep")
    test(socket.IPPROTO_UDP, 0, "drop")
    lines.append((_LD_H, 0, 0, 56))
    for port in _VXLAN_PORTS:
        test(port, "keep")
    at("drop")
    lines.append((_RET, 0, 0, 0))
    if few:
        # The tests are repeated with VXLAN's ports where the protocol is UDP itself.
        few += _VXLAN_PORTS if protocol == socket.IPPROTO_UDP else ()
        at("four-ports")
        lines.append((_LDX_MSH, 0, 0, 14))
        ports_of(_LD_H_X, 14)
        at("six-ports")
        ports_of(_LD_H, 54)
    at("keep")
    lines.append((_RET, 0, 0, 0xFFFF))

    return _assembled(lines, labels)


def _assembled(
    lines: Sequence[tuple[int, str | int, str | int, int]], labels: Mapping[str, int]
) -> bytes:
    """struct sock_filter of each line; labels become distances (linux/filter.h)."""

    def jump(here: int, to: str | int) -> int:
        return labels[to] - here - 1 if isinstance(to, str) else to

    return b"".join(
        struct.pack("=HBBI", code, jump(here, yes), jump(here, no), value)
        for here, (code, yes, no, value) in enumerate(lines)
    )
