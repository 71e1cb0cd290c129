"""A proxy's syncs in IPVS mode, against the least that they can cost, in the guest.

    python bench/sync.py [--sizes 1000,5000,10000] [--trials N]

N Services with 4 endpoints each, one of the four on this node.  For each size, in a fresh
namespace and a fresh process: a full sync from nothing and a restart onto a kernel that has it
all, each next to a C program that sends and reads the same netlink messages (``sync_floor.c``);
then single events.  "full" and "restart" are from decoded objects in memory to the kernel, a
first sync of a new Proxy: planning, observing, comparing, sending, and the few programs that the
iptables rules need (their share stands beside it; the bare dump leaves these out, a restart runs
iptables-save for each family).  Memory is the resident set of the process
that has the decoded objects and the Proxy.  Targets: full <= 3 x the floor and restart <= 2 x
the bare dump at 10 000, one endpoint <= 5 ms and flat, memory < 150 MiB at 10 000.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

import in_guest

if TYPE_CHECKING:
    from collections.abc import Callable

    from hairpin.kernel.apply import Kernel
    from hairpin.model.endpointslice import EndpointSlice
    from hairpin.model.service import Service
    from hairpin.proxy.proxy import Proxy

_VIPS, _REALS, _EACH = 0x0A600000, 0x0AF40000, 4  # as in floor.h
_LOCAL = 1  # of the endpoints of each Service
_NODE = "node1"
_EVENTS = 60  # of each kind
_TARGETED = 10_000  # Services; with fewer the programs that iptables needs are most of it
_LIMIT = 900  # seconds for one process
_MODULES = (
    "ip_vs", "ip_vs_rr", "bpfilter", "dummy", "nf_conntrack", "nf_conntrack_netlink", "nf_nat",
    "ip_set", "xt_set", "ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip",
    "ip_set_hash_ipportnet", "ip_set_bitmap_port", "ip_tables", "iptable_nat", "iptable_filter",
    "ip6_tables", "ip6table_nat", "ip6table_filter", "xt_comment", "xt_mark", "xt_MASQUERADE",
    "xt_conntrack", "xt_addrtype", "xt_physdev", "xt_ipvs", "ipt_REJECT", "ip6t_REJECT",
    "br_netfilter",
)  # fmt: skip
_CHILD = "--child"


def main() -> int:
    if _CHILD in sys.argv:
        paths, size, *_ = sys.argv[sys.argv.index(_CHILD) + 1 :]
        sys.path[:0] = paths.split(":")
        sys.dont_write_bytecode = True
        print(" ".join(f"{one:.6f}" for one in _child(int(size))))
        return 0
    if in_guest.MARK in sys.argv:
        in_guest.run(sys.argv, _compare)
    import argparse

    parser = argparse.ArgumentParser(description="A proxy's syncs, measured in the guest.")
    parser.add_argument("--sizes", default="1000,5000,10000", help="numbers of Services")
    parser.add_argument("--trials", type=int, default=3, help="of each size, an odd number (3)")
    arguments = parser.parse_args()
    words = [arguments.sizes, str(arguments.trials)]
    return in_guest.boot(__file__, ["sync_floor"], words, _MODULES)


def _compare(floors: str, arguments: list[str]) -> None:
    """In the guest: every size, floor and ours in turns."""
    sizes, trials = [int(one) for one in arguments[0].split(",")], int(arguments[1])
    for size in sizes:
        print(f"\n{size:,} Services with {_EACH} endpoints, {_LOCAL} of them local", flush=True)
        floor: list[list[float]] = []
        ours: list[list[float]] = []
        for _ in range(trials):
            if floors:
                floor.append(_floor(floors, size))
                in_guest.wait_for_cleaning()
            ours.append(
                _numbers(
                    [sys.executable, "-ISE", __file__, _CHILD, ":".join(sys.path[:3]), str(size)]
                )
            )
            in_guest.wait_for_cleaning()
        _report(ours, floor, size)


def _floor(floors: str, size: int) -> list[float]:
    """Seconds to make and to read everything, and their parts."""
    program = f"{floors}/sync_floor"
    shell = f"{program} fill {size} {_EACH} {_LOCAL} && {program} dump"
    lines = _numbers(["unshare", "-n", "sh", "-c", f"ip link set lo up && {shell}"])
    return [sum(lines[:3]), sum(lines[3:6]), *lines[:6]]


def _numbers(argv: list[str]) -> list[float]:
    import subprocess

    ended = subprocess.run(argv, capture_output=True, text=True, timeout=_LIMIT, check=False)
    if ended.returncode:
        raise RuntimeError(f"{argv[0]}: exit code {ended.returncode}: {ended.stderr}")
    return [float(word) for word in ended.stdout.split()]


_FIGURES = ("full", "full_cpu", "spawned", "restart", "restart_cpu", "added", "removed", "service",
            "bare", "decoded", "steady", "peak")  # fmt: skip
"""What a child prints: seconds (events: median), and MiB of resident memory."""


def _child(size: int) -> list[float]:
    from hairpin.kernel.apply import Kernel
    from hairpin.state.change import Change
    from hairpin.state.links import Link, Netns

    seen: dict[str, float] = {}
    kernel = Kernel(legacy_iptables=True)
    failed = kernel.apply(
        [
            Change(verb="add", netns="", object=Netns(name="node")),
            Change(verb="set", netns="node", object=Link(name="lo", type="loopback")),
        ]
    )
    assert not failed, failed
    seen["bare"] = _resident()
    services, slices = _objects(size)
    seen["decoded"] = _resident()
    proxy = _proxy(kernel, services, slices)
    kernel.spent.clear()
    seen["full"], seen["full_cpu"] = _timed(lambda: _sync(proxy))
    seen["spawned"] = kernel.spent.get("iptables", 0.0)
    del proxy
    proxy = _proxy(kernel, services, slices)
    seen["restart"], seen["restart_cpu"] = _timed(lambda: _sync(proxy))
    seen["steady"] = _resident()
    _events(proxy, services, slices, seen)
    seen["peak"] = _resident("VmHWM")
    kernel.close(destroy=True)
    return [seen[name] for name in _FIGURES]


def _events(
    proxy: Proxy, services: list[Service], slices: list[EndpointSlice], seen: dict[str, float]
) -> None:
    """One endpoint added and removed, one Service added: event to kernel, one at a time."""
    from ipaddress import IPv4Address

    from msgspec.structs import replace

    added, removed, new = [], [], []
    for turn in range(_EVENTS):
        before = slices[turn * 7919 % len(slices)]
        one = replace(before.endpoints[0], addresses=(IPv4Address(_REALS + (1 << 22) + turn),))
        after = replace(before, endpoints=(*before.endpoints, one))
        added.append(_timed(partial(_event, proxy, after))[0])
        removed.append(_timed(partial(_event, proxy, before))[0])
    for turn in range(_EVENTS):
        extra = [made[0] for made in _objects(1, first=len(services) + turn)]
        new.append(_timed(partial(_new_service, proxy, *extra))[0])
    seen["added"], seen["removed"] = statistics.median(added), statistics.median(removed)
    seen["service"] = statistics.median(new)


def _event(proxy: Proxy, changed: EndpointSlice) -> None:
    proxy.on_slice(changed.key, changed)
    _sync(proxy)


def _new_service(proxy: Proxy, service: Any, its_slice: Any) -> None:
    proxy.on_service(service.key, service)
    proxy.on_slice(its_slice.key, its_slice)
    _sync(proxy)


def _sync(proxy: Proxy) -> None:
    done = proxy.sync()
    if done.failed:
        raise RuntimeError(str(done.refused))


def _proxy(kernel: Kernel, services: list[Service], slices: list[EndpointSlice]) -> Proxy:
    from hairpin.model.configuration import KubeProxyConfiguration
    from hairpin.proxy.proxy import Proxy

    proxy = Proxy(kernel, "node", KubeProxyConfiguration(), _NODE)
    for service in services:
        proxy.on_service(service.key, service)
    for one in slices:
        proxy.on_slice(one.key, one)
    return proxy


def _objects(size: int, first: int = 0) -> tuple[list[Service], list[EndpointSlice]]:
    """As an API server would have handed them over, decoded one by one."""
    import msgspec

    from hairpin.model.decode import decode_objects

    services: list[Any] = []
    slices: list[Any] = []
    for number in range(first, first + size):
        raw = [_service(number), _slice(number)]
        service, one = decode_objects(msgspec.json.encode(raw))
        services.append(service)
        slices.append(one)
    return services, slices


def _service(number: int) -> dict[str, Any]:
    ip = _dotted(_VIPS + number)
    return {
        "kind": "Service",
        "metadata": {"name": f"s{number}", "namespace": "default"},
        "spec": {
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
            "selector": {"app": f"s{number}"},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
        },
    }


def _slice(number: int) -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"s{number}-abcde",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": f"s{number}"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [_dotted(_REALS + number * _EACH + other)],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "nodeName": _NODE if other < _LOCAL else f"node{2 + (number + other) % 20}",
                "targetRef": {"kind": "Pod", "namespace": "default", "name": f"s{number}-{other}"},
            }
            for other in range(_EACH)
        ],
    }


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds by the clock and of the CPU, with the programs that were spawned."""
    started, before = time.perf_counter(), os.times()
    work()
    took, after = time.perf_counter() - started, os.times()
    cpu = sum(after[:4]) - sum(before[:4])
    return took, cpu


def _resident(field: str = "VmRSS") -> float:
    """MiB."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def _report(ours: list[list[float]], floor: list[list[float]], size: int) -> None:
    seen = dict(zip(_FIGURES, zip(*ours, strict=True), strict=True))

    def median(name: str) -> float:
        return float(statistics.median(seen[name]))

    for number, name in enumerate(("full", "restart")):
        line = f"  {name:<22}{_time(median(name))}  (CPU {_time(median(f'{name}_cpu')).strip()}"
        line += f", iptables {_time(median('spawned')).strip()})" if name == "full" else ")"
        if floor:
            least = [one[number] for one in floor]
            ratio = statistics.median(a / b for a, b in zip(seen[name], least, strict=True))
            target = (3.0, 2.0)[number]
            line += f"  {ratio:.2f} x {_time(statistics.median(least)).strip()}"
            if size == _TARGETED:
                line += f", target {target:g}: {'met' if ratio <= target else 'MISSED'}"
        print(line)
    if floor:
        parts = [statistics.median(one[at] for one in floor) for at in range(2, 8)]
        for name, three in (("making", parts[:3]), ("reading", parts[3:])):
            kinds = zip(("IPVS", "addresses", "sets"), three, strict=True)
            said = ", ".join(f"{kind} {_time(one).strip()}" for kind, one in kinds)
            print(f"    floor of {name:<11}{said}")
    for name, words in (
        ("added", "one endpoint added"),
        ("removed", "one endpoint removed"),
        ("service", "one Service added"),
    ):
        print(f"  {words:<22}{_time(median(name))}")
    print(
        f"  resident memory: {median('bare'):.0f} MiB with nothing, {median('decoded'):.0f} with "
        f"the objects, {median('steady'):.0f} with the Proxy, {median('peak'):.0f} at most",
        flush=True,
    )


def _time(seconds: float) -> str:
    if seconds < 0.1:
        return f"{seconds * 1e3:8.2f} ms"
    return f"{seconds:8.3f} s "


def _dotted(number: int) -> str:
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


if __name__ == "__main__":
    sys.exit(main())
