"""The floor that bench/pods.py compares with: Pods without hairpin, in one process.

For each a namespace, a veth whose other end is a port of a bridge, an address and a route, over
raw rtnetlink: one message batch inside each namespace, and one for many ports.  Nothing is named
under /run/netns, nothing is looked up, nothing is read back.  It needs root, makes everything in
namespaces of its own, and prints the seconds it took.

    unshare -n python3 bench/pods_floor.py 200
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
import time

CLONE_NEWNET = 0x40000000
NEWLINK, NEWADDR, NEWROUTE = 16, 20, 24
REQUEST, ACK, CREATE, EXCL = 1, 4, 0x400, 0x200
UP = 1
BATCH = 64
libc = ctypes.CDLL(None, use_errno=True)


def check(code: int) -> None:
    """Raises OSError for the errno of a failed libc call."""
    if code:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", len(data) + 4, kind) + data + b"\0" * (-len(data) % 4)


def message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", len(body) + 16, kind, REQUEST | flags, 1, 0) + body


def link(index: int, flags: int, *attributes: bytes) -> bytes:
    return struct.pack("=BxHiII", 0, 0, index, flags, flags) + b"".join(attributes)


def name(text: str) -> bytes:
    return attribute(3, text.encode() + b"\0")


def info(kind: str, data: bytes = b"") -> bytes:
    inner = attribute(1, kind.encode()) + (attribute(2, data) if data else b"")
    return attribute(18, inner)


def talk(opened: socket.socket, messages: list[bytes]) -> None:
    """Sends messages, the last with an ACK wanted; raises OSError for the first error."""
    last = bytearray(messages[-1])
    struct.pack_into("=H", last, 6, struct.unpack_from("=H", last, 6)[0] | ACK)
    opened.send(b"".join([*messages[:-1], bytes(last)]))
    code = -struct.unpack_from("=i", opened.recv(65536), 16)[0]
    if code:
        raise OSError(code, os.strerror(code))


def pod(number: int, node: int) -> list[bytes]:
    """What is sent inside the namespace of a Pod; its link gets the index 2."""
    address = struct.pack("!I", 0x0AF40000 + 2 + number)
    peer = link(0, 0, name(f"v{number}"), attribute(28, struct.pack("=i", node)))
    way = attribute(5, struct.pack("!I", 0x0AF40001)) + attribute(4, struct.pack("=i", 2))
    return [
        message(NEWLINK, 0, link(1, UP)),
        message(
            NEWLINK, CREATE | EXCL, link(2, UP, name("eth0"), info("veth", attribute(1, peer)))
        ),
        message(
            NEWADDR,
            CREATE | EXCL,
            struct.pack("=BBBBI", 2, 16, 0, 0, 2) + attribute(2, address) + attribute(1, address),
        ),
        message(NEWROUTE, CREATE | EXCL, struct.pack("=8BI", 2, 0, 0, 0, 254, 4, 0, 1, 0) + way),
    ]


def main(count: int) -> float:
    """Builds ``count`` Pods, and gives the seconds from the first to the last."""
    check(libc.unshare(CLONE_NEWNET))
    node = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    here = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    talk(here, [message(NEWLINK, CREATE | EXCL, link(0, UP, name("cni0"), info("bridge")))])
    talk(
        here,
        [
            message(
                NEWADDR,
                CREATE,
                struct.pack("=BBBBI", 2, 16, 0, 0, 2) + attribute(2, b"\x0a\xf4\0\1"),
            )
        ],
    )
    kept = []
    started = time.monotonic()
    for number in range(count):
        check(libc.unshare(CLONE_NEWNET))
        kept.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as inside:
            talk(inside, pod(number, node))
    check(libc.setns(node, CLONE_NEWNET))
    ports = [
        message(NEWLINK, 0, link(0, UP, name(f"v{n}"), attribute(10, struct.pack("=i", 2))))
        for n in range(count)
    ]
    for start in range(0, count, BATCH):
        talk(here, ports[start : start + BATCH])
    return time.monotonic() - started


if __name__ == "__main__":
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))
    print(f"{main(int(sys.argv[1])):.4f}")
