"""What nf_tables costs the kernel: kube-proxy's structure, and one without anonymous maps.

In a network namespace of the host to throw away: so many Services with four endpoints, made from
nothing, one endpoint changed, the table read back; each with the endpoints of a Service in an
anonymous map (as kube-proxy 1.36 has them) and in a row of rules (``numgen random mod 4 0 dnat``).
``--nft`` also lets ``nft -f`` make the first one from its text.

    sudo .venv/bin/python bench/nft_door.py [--services 1000 5000 10000] [--trials 3] [--nft]

Needs root.  Seconds of CPU are this process's, with the kernel's work inside its system calls;
they suffer less from others on the machine than seconds by the clock.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from hairpin.kernel.apply import Kernel
from hairpin.kernel.netns import Netns
from hairpin.model.address import IP, from_packed
from hairpin.state.change import Change
from hairpin.state.nftables import (
    Chance,
    Dnat,
    Field,
    Hook,
    Match,
    NftChain,
    NftElement,
    NftObject,
    NftRule,
    NftSet,
    NftTable,
    RandomDnat,
    Target,
    Verdict,
    VerdictMap,
)

NODE = "bench"
TABLE = "bench"
ENDPOINTS = 4
KEY: tuple[Field, ...] = ("ip daddr", "meta l4proto", "th dport")
TCP = Match(field="meta l4proto", value="TCP")
Shape = Callable[[tuple[Target, ...]], tuple[NftRule, ...]]


def in_a_map(targets: tuple[Target, ...]) -> tuple[NftRule, ...]:
    """As kube-proxy."""
    return (NftRule((TCP, RandomDnat(targets=targets))),)


def in_a_row(targets: tuple[Target, ...]) -> tuple[NftRule, ...]:
    """The first of four takes a quarter of the packets, the second a third of the rest …"""
    rules = []
    for at, target in enumerate(targets):
        left = len(targets) - at
        chance = (Chance(of=left),) if left > 1 else ()
        rules.append(NftRule((TCP, *chance, Dnat(ip=target.ip, port=target.port))))
    return tuple(rules)


SHAPES: dict[str, Shape] = {"map": in_a_map, "rules": in_a_row}


def address(number: int) -> IP:
    return from_packed(number.to_bytes(4, "big"))


def frame() -> list[NftObject]:
    jump = (NftRule((Verdict("jump", "services"),)),)
    hooks = {
        "nat-prerouting": Hook(type="nat", hook="prerouting", priority=-100),
        "nat-output": Hook(type="nat", hook="output", priority=-100),
    }
    return [
        NftTable(family="ip", name=TABLE),
        NftSet(family="ip", table=TABLE, name="cluster-ips", types=("ipv4_addr",)),
        NftSet(
            family="ip",
            table=TABLE,
            name="service-ips",
            types=("ipv4_addr", "inet_proto", "inet_service"),
            verdicts=True,
        ),
        *(
            NftChain(family="ip", table=TABLE, name=name, rules=jump, hook=hook)
            for name, hook in hooks.items()
        ),
        NftChain(
            family="ip",
            table=TABLE,
            name="services",
            rules=(NftRule((VerdictMap(fields=KEY, map="service-ips"),)),),
        ),
    ]


def chain(number: int, shape: Shape, first_port: int = 8080) -> NftChain:
    base = 0x0AC0_0000 + number * ENDPOINTS
    targets = tuple(Target(address(base + at), first_port) for at in range(ENDPOINTS))
    name = f"service-ABCD{number:05d}-default/service-{number}/tcp/p"
    return NftChain(family="ip", table=TABLE, name=name, rules=shape(targets))


def service(number: int, shape: Shape) -> list[NftObject]:
    own = chain(number, shape)
    ip = address(0x0A60_0000 + number)
    goto = Verdict("goto", own.name)
    return [
        own,
        NftElement(family="ip", table=TABLE, set="cluster-ips", of=(ip,)),
        NftElement(family="ip", table=TABLE, set="service-ips", of=(ip, "TCP", 80), verdict=goto),
    ]


def spent(what: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    what()
    return time.perf_counter() - clock, time.process_time() - cpu


def must(kernel: Kernel, changes: list[Change]) -> None:
    failed = kernel.apply(changes)
    if failed:
        raise SystemExit(f"{len(failed)} refused, the first: {failed[0]}")


def trial(count: int, shape: Shape, told: dict[str, list[tuple[float, float]]]) -> None:
    kernel = Kernel()
    kernel.adopt(Netns.create(NODE))
    objects = frame() + [one for number in range(count) for one in service(number, shape)]
    adds = [Change(verb="add", netns=NODE, object=one) for one in objects]
    told.setdefault("from empty", []).append(spent(lambda: must(kernel, adds)))
    for turn in range(20):
        changed = chain(count // 2, shape, 9000 + turn)
        one = [Change(verb="set", netns=NODE, object=changed)]
        told.setdefault("one Service's endpoints", []).append(spent(partial(must, kernel, one)))
    wanted = [one for one in objects if isinstance(one, NftChain)]
    for name, expected in (("read all", []), ("read, chains expected", wanted)):
        told.setdefault(name, []).append(
            spent(partial(kernel.observe_nft, NODE, "ip", TABLE, expected))
        )
    kernel.close(destroy=True)


def by_nft(count: int) -> tuple[float, float]:
    """``nft -f`` of the same table as text."""
    kernel = Kernel()
    handle = Netns.create(NODE)
    kernel.adopt(handle)
    must(kernel, [Change(verb="add", netns=NODE, object=one) for one in frame()])
    lines = []
    for number in range(count):
        (own, *_), ip = service(number, in_a_map), address(0x0A60_0000 + number)
        assert isinstance(own, NftChain)
        choice = own.rules[0].statements[1]
        assert isinstance(choice, RandomDnat)
        ends = ", ".join(f"{at} : {t.ip} . {t.port}" for at, t in enumerate(choice.targets))
        lines += [
            f"add chain ip {TABLE} {own.name}",
            f"add rule ip {TABLE} {own.name} meta l4proto tcp"
            f" dnat ip to numgen random mod {ENDPOINTS} map {{ {ends} }}",
            f"add element ip {TABLE} cluster-ips {{ {ip} }}",
            f"add element ip {TABLE} service-ips {{ {ip} . tcp . 80 : goto {own.name} }}",
        ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    clock = time.perf_counter()
    with handle.entered():
        subprocess.run(["nft", "-f", "-"], input="\n".join(lines), text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    kernel.close(destroy=True)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - clock, cpu


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--services", type=int, nargs="+", default=[1000, 5000, 10000])
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--nft", action="store_true", help="nft -f as well (a minute at 10000)")
    arguments = parser.parse_args()
    if os.geteuid():
        parser.error("needs root, for a network namespace")
    print(f"{'services':>8}  {'endpoints in':12} {'what':24} {'clock s':>9} {'CPU s':>9}")
    for count in arguments.services:
        told: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for _ in range(arguments.trials):
            for name, shape in SHAPES.items():  # by turns: the machine's mood hits both
                found: dict[str, list[tuple[float, float]]] = {}
                trial(count, shape, found)
                for what, times in found.items():
                    told.setdefault((name, what), []).extend(times)
            if arguments.nft:
                told.setdefault(("map", "from empty, nft -f"), []).append(by_nft(count))
        for (name, what), times in told.items():
            clock, cpu = (statistics.median(column) for column in zip(*times, strict=True))
            print(f"{count:8}  {name:12} {what:24} {clock:9.4f} {cpu:9.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
