"""Connection tracking on a real kernel: plain functions, run in a guest.

The program ``conntrack`` is the witness both ways.
"""

from __future__ import annotations

import random
import re
import resource
import time
from ipaddress import IPv4Address, IPv6Address

import msgspec

from hairpin.kernel.apply import Kernel
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.spawn import find, run
from hairpin.model.address import IP, ip
from hairpin.netlink import conntrack as wire
from hairpin.netlink import message
from hairpin.netlink.message import NLM_F_CREATE, NLM_F_EXCL, Request
from hairpin.state.conntrack import Flow, Tuple
from tests.kernel.guest_world import told, world

NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
ENDS = re.compile(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)")


def program(kernel: Kernel, *arguments: str) -> str:
    ended = run(kernel.namespaces["node"], [find(["conntrack"]), *arguments])
    assert ended.code == 0, ended
    return ended.out


def listed(kernel: Kernel) -> set[Flow]:
    """What the program lists, but for the status bits, which it tells in part."""
    found = set()
    for line in (
        program(kernel, "-L", "-f", "ipv4", "-o", "id").splitlines()
        + program(kernel, "-L", "-f", "ipv6", "-o", "id").splitlines()
    ):
        numbers = {name: int(value) for name, value in re.findall(r"\b(mark|id|zone)=(\d+)", line)}
        original, reply = (
            Tuple(ip(one[0]), int(one[2]), ip(one[1]), int(one[3])) for one in ENDS.findall(line)
        )
        protocol = NUMBERS[line.split()[0]]
        found.add(Flow(protocol=protocol, original=original, reply=reply, **numbers))
    return found


def observed(kernel: Kernel) -> set[Flow]:
    return {msgspec.structs.replace(one, status=0) for one in kernel.flows("node")}


def turned(ends: Tuple, source: IP | None = None) -> Tuple:
    return Tuple(source or ends.destination, ends.destination_port, ends.source, ends.source_port)


def insert(socket: NetlinkSocket, flow: Flow) -> Request:
    """A flow that the kernel shall have: IPCTNL_MSG_CT_NEW, with CTA_TIMEOUT."""
    request = wire.delete(flow)
    reply = wire.render_flow(flow)[len(request.body) :][: len(request.body) - 4]
    timeout = message.attribute(7, (600).to_bytes(4, "big"))
    mark = message.attribute(8, flow.mark.to_bytes(4, "big"))
    body = request.body + reply + timeout + mark
    return Request(1 << 8, NLM_F_CREATE | NLM_F_EXCL, body)


def random_flow(dice: random.Random, number: int) -> Flow:
    def address() -> IP:
        if number % 3 == 0:
            return IPv6Address((0xFD00 << 112) + dice.getrandbits(64))
        return IPv4Address(0x0A000000 + dice.getrandbits(20))

    original = Tuple(address(), 1 + number % 65535, address(), dice.randrange(1, 65536))
    dnat = address() if dice.random() < 0.5 else None
    return Flow(
        protocol=dice.choice((17, 17, 132)) if number % 2 else 17,
        original=original,
        reply=turned(original, dnat),
        mark=dice.choice((0, 0x4000)),
    )


def check_flows_are_as_the_program_lists_them() -> None:
    dice = random.Random(5)
    flows = [random_flow(dice, number) for number in range(200)]
    with world("node") as kernel:
        socket = NetlinkSocket(wire.NETLINK_NETFILTER, kernel.namespaces["node"])
        try:
            verdicts = socket.batch([insert(socket, flow) for flow in flows])
        finally:
            socket.close()
        assert verdicts == [None] * len(flows), verdicts
        program(
            kernel, "-I", "-p", "udp", "-s", "10.9.0.1", "-d", "10.96.0.10", "--sport", "4000",
            "--dport", "53", "-r", "10.244.0.7", "-q", "10.9.0.1", "--reply-port-src", "5353",
            "--reply-port-dst", "4000", "-t", "600", "-m", "7",
        )  # fmt: skip
        seen = observed(kernel)
        assert seen == listed(kernel)
        bare = {msgspec.structs.replace(one, id=0) for one in seen}
        assert set(flows) < bare
        assert len(seen) == len(flows) + 1
        (one,) = (one for one in seen if one.mark == 7)
        assert (one.original, one.reply) == (
            Tuple(ip("10.9.0.1"), 4000, ip("10.96.0.10"), 53),
            Tuple(ip("10.244.0.7"), 5353, ip("10.9.0.1"), 4000),
        )
        udp = {one for one in seen if one.protocol == 17}
        got = [msgspec.structs.replace(one, status=0) for one in kernel.flows("node", "UDP")]
        assert set(got) == udp and len(got) == len(udp)
        assert {one.protocol for one in kernel.flows("node", "SCTP")} == {132}
        assert list(kernel.flows("node", "TCP")) == []
        gone = [flow for flow in seen if dice.random() < 0.5]
        other = [msgspec.structs.replace(one, id=one.id ^ 1) for one in seen if one not in gone]
        assert kernel.delete_flows("node", [*gone, *gone, *other]) == [None] * (
            2 * len(gone) + len(other)
        )
        assert observed(kernel) == listed(kernel) == seen - set(gone)
        kernel.flush_conntrack("node")
        assert list(kernel.flows("node")) == []


def check_many_flows_are_not_all_in_memory() -> None:
    count = 40_000
    # A bucket takes only so many, and the guest is small.
    for name in ("max", "buckets"):
        with open(f"/proc/sys/net/netfilter/nf_conntrack_{name}", "w", encoding="ascii") as setting:
            setting.write("65536")
    with world("node") as kernel:
        socket = NetlinkSocket(wire.NETLINK_NETFILTER, kernel.namespaces["node"])
        ends = Tuple(ip("10.9.0.1"), 1, ip("10.96.0.10"), 53)
        try:
            for start in range(0, count, 1000):
                requests = []
                for number in range(start, start + 1000):
                    source = IPv4Address(0x0A090000 + number)
                    one = Tuple(source, 4000, ends.destination, 53)
                    flow = Flow(protocol=17, original=one, reply=turned(one))
                    requests.append(insert(socket, flow))
                verdicts = [error for error in socket.batch(requests) if error is not None]
                assert not verdicts, verdicts[0]
        finally:
            socket.close()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start_time = time.monotonic()
        assert sum(1 for _ in kernel.flows("node", "UDP")) == count
        took = time.monotonic() - start_time
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        told(f"note {count} flows listed in {took:.2f} s, {more} KiB more memory")
        assert more < 2_000, more
        # One that is not read to its end holds nothing up.
        assert next(kernel.flows("node")).protocol == 17
        assert sum(1 for _ in kernel.flows("node", "UDP")) == count
