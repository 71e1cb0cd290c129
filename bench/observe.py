"""Reading back all that a large table is, in the guest: ours against a bare loop over ``recv``.

    python bench/observe.py [--trials N]

10 000 virtual servers with 4 real servers each, 10 000 addresses of kube-ipvs0 and 50 000 set
entries, in one namespace.  "bare" sends the same dump requests and receives into one buffer,
looking at nothing but the end; for IPVS once over netlink (a dump for each virtual server) and
once as ours goes, by one netlink dump and /proc/net/ip_vs.  "ours" gives state values.  Medians of
trials in turns; the first of a process pays for fresh memory and is told apart.  Target: all of
it <= 1.4 x the bare netlink dumps.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

import in_guest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hairpin.kernel.apply import Kernel
    from hairpin.kernel.netlink_socket import NetlinkSocket
    from hairpin.netlink.message import Request
    from hairpin.state.change import Change, Object

_SERVERS, _EACH, _ENTRIES = 10_000, 4, 50_000
_MODULES = (
    "ip_vs", "ip_vs_rr", "dummy", "ip_set", "ip_set_hash_ipport", "ip_set_hash_ipportip",
    "ip_set_hash_ip",
)  # fmt: skip
_NODE, _DUMMY = "node", "kube-ipvs0"


def main() -> int:
    if in_guest.MARK in sys.argv:
        in_guest.run(sys.argv, _compare)
    import argparse

    parser = argparse.ArgumentParser(description="Reading back a large table, in the guest.")
    parser.add_argument("--trials", type=int, default=5, help="of each, an odd number (5)")
    arguments = parser.parse_args()
    return in_guest.boot(__file__, (), (str(arguments.trials),), _MODULES)


def _compare(floors: str, arguments: list[str]) -> None:
    from hairpin.kernel.apply import Kernel

    kernel = Kernel()
    _fill(kernel)
    ways = _ways(kernel)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 + int(arguments[0])):
        for name, way in ways.items():
            start = time.monotonic()
            way()
            times[name].append(time.monotonic() - start)
    print(f"{'':32} {'median':>8} {'first':>8}")
    for name, took in times.items():
        print(f"{name:32} {statistics.median(took[1:]):7.3f}s {took[0]:7.3f}s")
    medians = {name: statistics.median(took[1:]) for name, took in times.items()}
    parts = ("addresses", "sets")
    bare = sum(medians[f"bare {part}"] for part in parts)
    ours = sum(medians[f"ours {part}"] for part in ("servers", *parts))
    netlink, proc = medians["bare servers, netlink"] + bare, medians["bare servers, /proc"] + bare
    print(f"all: {ours:.3f}s, {ours / netlink:.2f} x bare netlink ({netlink:.3f}s)")
    print(f"     {ours / proc:.2f} x bare of the way that is taken ({proc:.3f}s)")
    kernel.close(destroy=True)


def _fill(kernel: Kernel) -> None:
    from ipaddress import IPv4Address

    from hairpin.state.change import Change
    from hairpin.state.ipset import IpSet, SetEntry
    from hairpin.state.ipvs import RealServer, VirtualServer
    from hairpin.state.links import Address, Link, Netns

    objects: list[Object] = [Link(name=_DUMMY, type="dummy", up=False)]
    objects += [
        IpSet(name="KUBE-CLUSTER-IP", type="hash:ip,port", family="inet"),
        IpSet(name="KUBE-LOOP-BACK", type="hash:ip,port,ip", family="inet"),
        IpSet(name="KUBE-IPVS-IPS", type="hash:ip", family="inet"),
    ]
    entries: list[Object] = []
    for number in range(_SERVERS):
        vip = IPv4Address(0x0A600000 + number)
        objects.append(VirtualServer(protocol="TCP", ip=vip, port=80))
        entries.append(SetEntry(set="KUBE-CLUSTER-IP", ip=vip, protocol="TCP", port=80))
        entries.append(SetEntry(set="KUBE-IPVS-IPS", ip=vip))
        for other in range(_EACH):
            ip = IPv4Address(0x0AF40000 + number * _EACH + other)
            real = RealServer(protocol="TCP", vip=vip, vport=80, ip=ip, port=8080)
            objects.append(real)
            if len(entries) < _ENTRIES:
                own = SetEntry(set="KUBE-LOOP-BACK", ip=ip, protocol="TCP", port=8080, ip2=ip)
                entries.append(own)
    addresses = [
        Address(link=_DUMMY, ip=IPv4Address(0x0A600000 + number), prefix=32)
        for number in range(_SERVERS)
    ]
    made = [Change(verb="add", netns="", object=Netns(name=_NODE))]
    made += _adding([*objects, *entries, *addresses])
    failed = kernel.apply(made)
    assert not failed, failed[0]


def _adding(objects: Sequence[Object]) -> list[Change]:
    from hairpin.state.change import Change

    return [Change(verb="add", netns=_NODE, object=one) for one in objects]


def _ways(kernel: Kernel) -> dict[str, Callable[[], object]]:
    from hairpin.kernel import ipvs
    from hairpin.kernel.netlink_socket import NetlinkSocket
    from hairpin.netlink import ipset, route
    from hairpin.netlink import ipvs as wire
    from hairpin.netlink.conntrack import NETLINK_NETFILTER
    from hairpin.netlink.generic import NETLINK_GENERIC
    from hairpin.netlink.link import NETLINK_ROUTE

    handle = kernel.namespaces[_NODE]
    generic, netfilter, link = (
        NetlinkSocket(protocol, handle)
        for protocol in (NETLINK_GENERIC, NETLINK_NETFILTER, NETLINK_ROUTE)
    )
    number = ipvs.family(generic)
    virtual = wire.dump_virtual_servers(number)
    servers = [seen.server for seen in kernel.observe_ipvs(_NODE)]
    each = [wire.dump_real_servers(number, server) for server in servers]

    def proc() -> None:
        _drain(generic, [virtual])
        with handle.entered():
            fd = os.open("/proc/thread-self/net/ip_vs", os.O_RDONLY)
        while os.read(fd, 16384):
            pass
        os.close(fd)

    return {
        "bare servers, netlink": lambda: _drain(generic, [virtual, *each]),
        "bare servers, /proc": proc,
        "ours servers": lambda: kernel.observe_servers(_NODE),
        "bare addresses": lambda: _drain(link, [route.dump_addresses()]),
        "ours addresses": lambda: kernel.observe_addresses(_NODE, _DUMMY),
        "bare sets": lambda: _drain(netfilter, [ipset.dump()]),
        "ours sets": lambda: kernel.observe_sets(_NODE, "KUBE-"),
        "ours servers with counters": lambda: kernel.observe_ipvs(_NODE),
    }


def _drain(asked: NetlinkSocket, requests: Sequence[Request]) -> None:
    """The least that Python can do: every answer is received, none is looked at."""
    from struct import Struct

    from hairpin.netlink import message

    opened = asked._socket
    kind = Struct("=4xH").unpack_from
    buffer = bytearray(64 * 1024)
    for data in [message.frame(request, 1) for request in requests]:
        opened.send(data)
        while True:
            opened.recv_into(buffer)
            # A dump ends with a message of its own.
            if kind(buffer)[0] == message.NLMSG_DONE:
                break


if __name__ == "__main__":
    sys.exit(main())
