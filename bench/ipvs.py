"""Programming IPVS: ours against a C program, ``ipvsadm -R`` and pyroute2, in the guest.

    python bench/ipvs.py [--trials N] [--quick | --full]

A table of 1 000 and of 10 000 virtual servers with 4 real servers each, into a fresh namespace
per trial, in turns.  Medians, and the median ratio to the neighbouring trial of the C program
(``ipvs_floor.c``, compiled here: without gcc there is no floor and so no ratio).  "ours" is
``Kernel.apply`` of Changes that exist already, as a program that has computed a difference calls
it; what it costs to make those values stands beside it.  Then one weight at a time in the large
table.  ``--full`` also has pyroute2 do the large table, which takes minutes.  Targets: tables
<= 1.5 x the floor, a weight <= 2 x.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

import in_guest

if TYPE_CHECKING:
    from hairpin.kernel.apply import Kernel
    from hairpin.kernel.netns import Netns
    from hairpin.state.change import Change

# What the floor has too, see there.
_VIPS, _REALS, _EACH = 0x0A600000, 0x0AF40000, 4
_SMALL, _LARGE = 1_000, 10_000
_WEIGHTS = 400
# How many times as many trials as asked for: a single ratio strays by half on a shared machine,
# the more the shorter it takes, so that their median needs this many to stray by a twentieth.
_TIMES = {_SMALL: 40, _LARGE: 3}
# Trials of what is known to be slow, by way and size.
_AT_MOST = {
    ("ipvsadm", _SMALL): 3,
    ("ipvsadm", _LARGE): 1,
    ("pyroute2", _SMALL): 1,
    ("pyroute2", _LARGE): 1,
}
_LIMIT = 900.0  # seconds, for what is known to be slow
_MODULES = ("ip_vs", "ip_vs_rr")


def main() -> int:
    if in_guest.MARK in sys.argv:
        in_guest.run(sys.argv, _measure)
    import argparse

    parser = argparse.ArgumentParser(description="Programming IPVS, measured in the guest.")
    parser.add_argument("--trials", type=int, default=5, help="of each, an odd number (5)")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="tables by ours and the floor only")
    extent.add_argument("--full", action="store_true", help="pyroute2 with the large table too")
    arguments = parser.parse_args()
    how = "full" if arguments.full else "quick" if arguments.quick else "usual"
    return in_guest.boot(__file__, ["ipvs_floor"], [str(arguments.trials), how], _MODULES)


def _measure(floors: str, arguments: list[str]) -> None:
    trials, extent = arguments
    bench = Bench(f"{floors}/ipvs_floor" if floors else "", int(trials))
    ways = ("floor", "ours") if extent == "quick" else ("floor", "ours", "ipvsadm")
    bench.table(_SMALL, ways if extent == "quick" else (*ways, "pyroute2"))
    bench.table(_LARGE, (*ways, "pyroute2") if extent == "full" else ways)
    bench.weights()


class Bench:
    """The measurements, each in namespaces of its own."""

    def __init__(self, floor: str, trials: int) -> None:
        self._floor = floor
        self._trials = trials

    def table(self, size: int, ways: tuple[str, ...]) -> None:
        """A whole table by each of the ways; those known to be slow once when it is large."""
        print(f"\n{size:,} virtual servers with {_EACH} real servers each", flush=True)
        started = time.monotonic()
        changes = _changes(size)
        making = time.monotonic() - started
        took: dict[str, list[float]] = {way: [] for way in ways if way != "floor" or self._floor}
        trials = self._trials * _TIMES[size]
        for trial in range(trials):
            for way, seconds in took.items():
                if trial < _AT_MOST.get((way, size), trials):
                    seconds.append(self._fresh(way, size, changes))
        for way, seconds in took.items():
            target = 1.5 if way == "ours" else None
            _report(way, seconds, took.get("floor"), target)
        print(f"  {'making the values':<18}{_time(making)}", flush=True)

    def weights(self) -> None:
        """One weight at a time in the large table."""
        from hairpin.kernel.spawn import find, run

        print(f"\none weight in {_LARGE:,} virtual servers, median of {_WEIGHTS}", flush=True)
        took: dict[str, list[float]] = {}
        changes = _changes(_LARGE)
        kernel, netns = _namespace()
        _must(kernel, changes)
        for _ in range(self._trials):
            if self._floor:
                ended = run(netns, [self._floor, "weight", str(_LARGE), str(_WEIGHTS)])
                took.setdefault("floor", []).append(float(ended.out))
            took.setdefault("ours", []).append(_weights(kernel))
        argv = [find(["ipvsadm"]), "-e", "-t", "10.96.0.0:80", "-r", "10.244.0.0:8080", "-m"]
        for weight in range(7, 12):
            started = time.monotonic()
            _ended(run(netns, [*argv, "-w", str(weight)]))
            took.setdefault("ipvsadm", []).append(time.monotonic() - started)
        kernel.close(destroy=True)
        for way, seconds in took.items():
            _report(way, seconds, took.get("floor"), 2.0 if way == "ours" else None)

    def _fresh(self, way: str, size: int, changes: list[Change]) -> float:
        """Seconds of one way in a fresh namespace; what was made is counted."""
        kernel, netns = _namespace()
        gc.collect()
        try:
            took = _WAYS[way](self._floor, kernel, netns, size, changes)
            with netns.entered(), open("/proc/thread-self/net/ip_vs", encoding="ascii") as table:
                made = sum(line.startswith(("TCP", "  ->")) for line in table) - 1
            if made != size * (1 + _EACH):
                raise RuntimeError(f"{way} made {made} servers")
            return took
        finally:
            kernel.close(destroy=True)
            in_guest.wait_for_cleaning()


def _by_floor(floor: str, kernel: Kernel, netns: Netns, size: int, changes: list[Change]) -> float:
    from hairpin.kernel.spawn import run

    return float(_ended(run(netns, [floor, "table", str(size), str(_EACH)])))


def _by_ours(floor: str, kernel: Kernel, netns: Netns, size: int, changes: list[Change]) -> float:
    started = time.monotonic()
    _must(kernel, changes)
    return time.monotonic() - started


def _by_ipvsadm(
    floor: str, kernel: Kernel, netns: Netns, size: int, changes: list[Change]
) -> float:
    from hairpin.kernel.spawn import find, run

    lines = []
    for number in range(size):
        vip = f"{_dotted(_VIPS + number)}:80"
        lines.append(f"-A -t {vip} -s rr\n")
        for other in range(_EACH):
            real = _dotted(_REALS + number * _EACH + other)
            lines.append(f"-a -t {vip} -r {real}:8080 -m -w 1\n")
    text = "".join(lines)
    program = find(["ipvsadm"])
    started = time.monotonic()
    _ended(run(netns, [program, "-R"], text, _LIMIT))
    return time.monotonic() - started


def _by_pyroute2(
    floor: str, kernel: Kernel, netns: Netns, size: int, changes: list[Change]
) -> float:
    from pyroute2 import IPVS, IPVSDest, IPVSService  # the import is not counted

    with netns.entered():
        started = time.monotonic()
        with IPVS() as ipvs:
            for number in range(size):
                service: Any = IPVSService(
                    addr=_dotted(_VIPS + number), port=80, protocol=6, sched_name="rr"
                )
                ipvs.service("add", service=service)
                for other in range(_EACH):
                    address = _dotted(_REALS + number * _EACH + other)
                    real: Any = IPVSDest(addr=address, port=8080, fwd_method=0)
                    ipvs.dest("add", service=service, dest=real)
        return time.monotonic() - started


_Way = Callable[..., float]
_WAYS: dict[str, _Way] = {
    "floor": _by_floor,
    "ours": _by_ours,
    "ipvsadm": _by_ipvsadm,
    "pyroute2": _by_pyroute2,
}


def _changes(size: int) -> list[Change]:
    from ipaddress import IPv4Address

    from hairpin.state.change import Change
    from hairpin.state.ipvs import RealServer, VirtualServer

    made = []
    for number in range(size):
        vip = IPv4Address(_VIPS + number)
        server = VirtualServer(protocol="TCP", ip=vip, port=80, scheduler="rr")
        made.append(Change(verb="add", netns="node", object=server))
        for other in range(_EACH):
            ip = IPv4Address(_REALS + number * _EACH + other)
            real = RealServer(protocol="TCP", vip=vip, vport=80, ip=ip, port=8080)
            made.append(Change(verb="add", netns="node", object=real))
    return made


def _weights(kernel: Kernel) -> float:
    """The median of the seconds of one change of a weight, the same ones as the floor's."""
    from ipaddress import IPv4Address

    from hairpin.state.change import Change
    from hairpin.state.ipvs import RealServer

    took = []
    for turn in range(_WEIGHTS):
        number = turn * 7919 % _LARGE
        real = RealServer(
            protocol="TCP",
            vip=IPv4Address(_VIPS + number),
            vport=80,
            ip=IPv4Address(_REALS + number * _EACH),
            port=8080,
            weight=2 + turn % 90,
        )
        change = Change(verb="set", netns="node", object=real)
        started = time.perf_counter()
        failed = kernel.apply([change])
        took.append(time.perf_counter() - started)
        assert not failed, failed
    return statistics.median(took)


def _namespace() -> tuple[Kernel, Netns]:
    from hairpin.kernel.apply import Kernel
    from hairpin.state.change import Change
    from hairpin.state.links import Netns

    kernel = Kernel(legacy_iptables=True)
    _must(kernel, [Change(verb="add", netns="", object=Netns(name="node"))])
    return kernel, kernel.namespaces["node"]


def _must(kernel: Kernel, changes: list[Change]) -> None:
    failed = kernel.apply(changes)
    if failed:
        raise RuntimeError(str(failed[0]))


def _ended(ended: Any) -> str:
    if ended.code:
        raise RuntimeError(f"exit code {ended.code}: {ended.err}")
    return str(ended.out)


def _report(
    way: str, seconds: list[float], floor: list[float] | None, target: float | None
) -> None:
    median = statistics.median(seconds)
    line = f"  {way:<18}{_time(median)}  (best {_time(min(seconds)).strip()}, n={len(seconds)})"
    if floor:
        # Of trials that ran one after the other, since the machine's speed changes meanwhile.
        ratio = statistics.median(one / least for one, least in zip(seconds, floor, strict=False))
        line += f"  {ratio:7.2f} x"
        if target is not None:
            verdict = "met" if ratio <= target else "MISSED"
            line += f", target {target:g}: {verdict}"
    print(line, flush=True)


def _time(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:8.1f} us"
    return f"{seconds * 1e3:8.1f} ms"


def _dotted(number: int) -> str:
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


if __name__ == "__main__":
    sys.exit(main())
