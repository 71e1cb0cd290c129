"""A proxy's syncs in nftables and iptables mode, on the host's kernel.

    python bench/sync_host.py [--modes nftables,iptables-nft,iptables-legacy]
                              [--sizes 1000,5000,10000] [--trials N] [--no-tool]

The Services, the events and what is measured are those of ``sync.py``, which does the same for
IPVS in the guest.  Beside a full sync stands what the mode's own tool takes for the same text in
a fresh namespace: ``nft -f`` and ``iptables-restore``.  kube-proxy 1.36.2 with nft 1.0.6 on such a
machine took 41 s for 10 000 Services from empty, and 4.3 s for one endpoint of them.  Targets:
nftables from empty in a tenth of that, one endpoint in 20 ms and flat; the iptables-restore of a
full sync within 1.2 x the bare program, which may flush the tables as a proxy may not.
Needs root, for namespaces.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

import sync

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hairpin.kernel.apply import Kernel

_KUBE_PROXY = {10_000: (41.0, 4.3)}  # seconds: a first sync, one endpoint
_LIMIT = 900  # seconds for one process
_MODES = ("nftables", "iptables-nft", "iptables-legacy")
_CHILD = "--child"
_FIGURES = ("full", "full_cpu", "written", "restored", "restart", "added", "removed", "service",
            "idle", "decoded", "steady", "peak", "tool")  # fmt: skip
"""What a child prints: seconds (events: median), and MiB of resident memory."""


def main() -> int:
    if _CHILD in sys.argv:
        paths, *words = sys.argv[sys.argv.index(_CHILD) + 1 :]
        sys.path[:0] = paths.split(":")
        print(" ".join(f"{one:.6f}" for one in _child(words[0], int(words[1]), words[2] == "1")))
        return 0
    import argparse

    parser = argparse.ArgumentParser(description="A proxy's syncs, measured on this kernel.")
    parser.add_argument("--modes", default=",".join(_MODES), help="which modes")
    parser.add_argument("--sizes", default="1000,5000,10000", help="numbers of Services")
    parser.add_argument("--trials", type=int, default=3, help="of each, an odd number (3)")
    parser.add_argument("--no-tool", action="store_true", help="without the mode's own tool")
    arguments = parser.parse_args()
    for mode in arguments.modes.split(","):
        for size in map(int, arguments.sizes.split(",")):
            print(f"\n{mode}: {size:,} Services with 4 endpoints, 1 of them local", flush=True)
            paths = ":".join(filter(None, sys.path))
            tool = str(int(not arguments.no_tool))
            argv = [sys.executable, "-ISE", __file__, _CHILD, paths, mode, str(size), tool]
            _report(mode, size, [sync._numbers(argv) for _ in range(arguments.trials)])
    return 0


def _child(mode: str, size: int, tool: bool) -> list[float]:
    from hairpin.kernel.apply import Kernel
    from hairpin.model.address import ip
    from hairpin.state.change import Change
    from hairpin.state.links import Address, Netns

    seen: dict[str, float] = {}
    mode, _, variant = mode.partition("-")
    kernel = Kernel(iptables=variant or None)  # type: ignore[arg-type]
    failed = kernel.apply(
        [
            Change(verb="add", netns="", object=Netns(name="node")),
            Change(
                verb="add",
                netns="node",
                object=Address(link="lo", ip=ip("192.168.7.2"), prefix=32),
            ),
        ]
    )
    assert not failed, failed
    services, slices = sync._objects(size)
    seen["decoded"] = sync._resident()
    gc.collect()
    proxy = _proxy(kernel, mode, services, slices)
    kernel.spent.clear()
    with _restoring() as restored:
        seen["full"], seen["full_cpu"] = sync._timed(lambda: sync._sync(proxy))
    seen["written"] = kernel.spent.get("iptables", 0.0)
    seen["restored"] = sum(restored)
    seen["idle"], _ = sync._timed(lambda: sync._sync(proxy))
    del proxy
    gc.collect()
    proxy = _proxy(kernel, mode, services, slices)
    seen["restart"], _ = sync._timed(lambda: sync._sync(proxy))
    seen["steady"] = sync._resident()
    sync._events(proxy, services, slices, seen)
    seen["peak"] = sync._resident("VmHWM")
    seen["tool"] = _with_tool(kernel, mode, variant) if tool else 0.0
    kernel.close(destroy=True)
    return [seen[name] for name in _FIGURES]


def _proxy(kernel: Kernel, mode: Any, services: list[Any], slices: list[Any]) -> Any:
    from hairpin.model.configuration import KubeProxyConfiguration
    from hairpin.proxy.proxy import Proxy

    config = KubeProxyConfiguration(mode=mode, cluster_cidr="10.244.0.0/16")
    proxy = Proxy(kernel, "node", config, sync._NODE)
    for service in services:
        proxy.on_service(service.key, service)
    for one in slices:
        proxy.on_slice(one.key, one)
    return proxy


@contextmanager
def _restoring() -> Iterator[list[float]]:
    """How long each iptables-restore takes."""
    from hairpin.kernel import spawn

    run, took = spawn.run, []

    def timed(netns: Any, argv: Any, *more: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return run(netns, argv, *more, **named)
        finally:
            if "-restore" in argv[0]:
                took.append(time.perf_counter() - began)

    spawn.run = timed
    try:
        yield took
    finally:
        spawn.run = run


def _with_tool(kernel: Kernel, mode: str, variant: str) -> float:
    """Seconds that the tool takes for what the node holds, in a namespace of its own."""
    import subprocess

    from hairpin.kernel.netns import Netns
    from hairpin.plan.iptables_names import COUNTERS
    from hairpin.state.change import Change
    from hairpin.state.netfilter import PacketCounter

    program = f"iptables-{variant}" if variant else "iptables"
    save, restore = {
        "nftables": (["nft", "list", "ruleset"], ["nft", "-f", "-"]),
        "iptables": ([f"{program}-save"], [f"{program}-restore"]),
    }[mode]
    with kernel.namespaces["node"].entered():
        text = subprocess.run(save, check=True, capture_output=True).stdout
    other = Netns.create("other")
    kernel.adopt(other)
    if mode == "iptables":  # what rules count in must be there before
        kernel.apply(
            Change(verb="add", netns="other", object=PacketCounter(name=one)) for one in COUNTERS
        )
    try:
        with other.entered():
            began = time.perf_counter()
            subprocess.run(restore, input=text, check=True, capture_output=True, timeout=_LIMIT)
            return time.perf_counter() - began
    finally:
        kernel.namespaces.pop("other").close()


def _report(mode: str, size: int, ours: list[list[float]]) -> None:
    seen = dict(zip(_FIGURES, zip(*ours, strict=True), strict=True))
    middle = {name: float(statistics.median(each)) for name, each in seen.items()}
    line = f"  {'full':<22}{sync._time(middle['full'])}  (CPU {sync._time(middle['full_cpu'])})"
    if middle["tool"]:
        ratio = statistics.median(a / b for a, b in zip(seen["full"], seen["tool"], strict=True))
        tool = "nft -f" if mode == "nftables" else "iptables-restore"
        line += f"  {ratio:.2f} x {tool}'s {sync._time(middle['tool']).strip()}"
        if mode != "nftables":
            line += f"\n  {'of that writing':<22}{sync._time(middle['written'])}"
            pairs = zip(seen["restored"], seen["tool"], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
            line += f"\n  {'of that the program':<22}{sync._time(middle['restored'])}"
            line += f"  {ratio:.2f} x, target 1.2: {'met' if ratio <= 1.2 else 'MISSED'}"
    known = _KUBE_PROXY.get(size) if mode == "nftables" else None
    if known:
        line += f"  {middle['full'] / known[0]:.3f} of kube-proxy's {known[0]:g} s, target 0.1: "
        line += "met" if middle["full"] <= known[0] / 10 else "MISSED"
    print(line)
    print(f"  {'restart':<22}{sync._time(middle['restart'])}")
    for name, words in (
        ("added", "one endpoint added"),
        ("removed", "one endpoint removed"),
        ("service", "one Service added"),
        ("idle", "nothing changed"),
    ):
        line = f"  {words:<22}{sync._time(middle[name])}"
        if mode == "nftables" and name in ("added", "removed"):
            line += f"  target 20 ms: {'met' if middle[name] <= 0.02 else 'MISSED'}"
        print(line)
    print(
        f"  resident memory: {middle['decoded']:.0f} MiB with the objects, "
        f"{middle['steady']:.0f} with the Proxy, {middle['peak']:.0f} at most",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
