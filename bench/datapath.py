"""What a packet pays for going through a Service, in each mode, as ratios to direct traffic.

    python bench/datapath.py [--sizes 1,1000,10000] [--trials N] [--worlds host,guest]
                             [--results FILE] [--svg docs/datapath.svg]

A client Pod and a server Pod behind one node that routes between them; N Services whose one
endpoint is the server.  "direct" is from Pod to Pod beside it, behind a node of the same kind that
has no proxy; "through" is to one of the N Services chosen by chance, for each connection anew; they
take turns, so that what else the machine does falls on both.  "passing" is from Pod to Pod on the
node with the proxy, to no Service: what everybody there pays for its rules.  A connection is
TCP's handshake and its reset, one after the other; a packet is a datagram there and back on a
flow that is known already.  ``datapath_load.c`` makes the traffic.  nftables and iptables run on
the host's kernel, IPVS and iptables-legacy in the guest: each is compared with direct traffic in
its own kernel, so ratios can be held against each other, times cannot.  Needs root, for namespaces.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import sys
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

import in_guest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from hairpin.kernel.apply import Kernel

    Load = Callable[[str, int, int, tuple[int, int]], tuple[float, float]]
    """Address, number of them, port, and how many connections and packets: seconds of each."""

_VIPS = 0x0A600000  # 10.96.0.0
_CLIENT, _SERVER = "10.244.0.2", "10.244.1.2"
_PORT, _NODE = 8080, "node1"
_LOAD = "datapath_load"
_TURNS = 15  # of one trial
_TRAFFIC = {"host": (400, 2000), "guest": (100, 300)}  # connections, packets of a turn
_MODES = {"host": ("nftables", "iptables"), "guest": ("ipvs", "iptables")}
_MODULES = (
    "ip_vs", "ip_vs_rr", "bpfilter", "dummy", "veth", "nf_conntrack", "nf_conntrack_netlink",
    "nf_nat", "ip_set", "xt_set", "ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip",
    "ip_set_hash_ipportnet", "ip_set_bitmap_port", "ip_tables", "iptable_nat", "iptable_filter",
    "ip6_tables", "ip6table_nat", "ip6table_filter", "xt_comment", "xt_mark", "xt_MASQUERADE",
    "xt_conntrack", "xt_addrtype", "xt_physdev", "xt_ipvs", "xt_nat", "xt_tcpudp", "xt_statistic",
    "ipt_REJECT", "ip6t_REJECT", "br_netfilter", "iptable_mangle", "ip6table_mangle",
)  # fmt: skip
_CHILD = "--child"


def main() -> int:
    if _CHILD in sys.argv:
        paths, *words = sys.argv[sys.argv.index(_CHILD) + 1 :]
        sys.path[:0] = paths.split(":")
        _child(*words)
        return 0
    if in_guest.MARK in sys.argv:
        in_guest.run(sys.argv, lambda folder, words: _measure("guest", folder, *words[:2]))
    import argparse

    parser = argparse.ArgumentParser(description="What a packet pays for going through a Service.")
    parser.add_argument("--sizes", default="1,1000,10000", help="numbers of Services")
    parser.add_argument("--trials", type=int, default=3, help="of each mode and size (3)")
    parser.add_argument("--worlds", default="host,guest", help="which kernels")
    parser.add_argument("--svg", help="where to draw it")
    parser.add_argument("--results", help="a file of results: read, and written with the new ones")
    arguments = parser.parse_args()
    found = _known(arguments.results)
    for world in filter(None, arguments.worlds.split(",")):
        words = [arguments.sizes, str(arguments.trials)]
        for one in _results(_Seen(), world, words):
            found[one["world"], one["mode"], one["size"]] = one
    from pathlib import Path

    if arguments.results:
        lines = "".join(f"{json.dumps(one)}\n" for one in found.values())
        Path(arguments.results).write_text(lines, encoding="utf-8")
    if arguments.svg:
        Path(arguments.svg).write_text(_svg(found.values()), encoding="utf-8")
    return 0 if found else 1


def _known(file: str | None) -> dict[tuple[str, str, int], dict[str, Any]]:
    """The results in a file, one a line, by world, mode and size."""
    from pathlib import Path

    if file is None or not Path(file).exists():
        return {}
    each = map(json.loads, Path(file).read_text(encoding="utf-8").splitlines())
    return {(one["world"], one["mode"], one["size"]): one for one in each}


class _Seen(io.StringIO):
    """What is printed while it is caught: results are kept, and told in words on stderr."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[dict[str, Any]] = []
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.startswith("{"):
                self.results.append(json.loads(line))
                print(_said(self.results[-1]), file=sys.stderr, flush=True)
            else:
                print(line, file=sys.stderr, flush=True)
        return len(text)


def _results(seen: _Seen, world: str, words: list[str]) -> list[dict[str, Any]]:
    with redirect_stdout(seen):
        if world == "guest":
            in_guest.boot(__file__, [_LOAD], words, _MODULES)
        else:
            import subprocess
            import tempfile
            from pathlib import Path

            with tempfile.TemporaryDirectory(prefix="hairpin-bench-") as folder:
                source = Path(__file__).with_name(f"{_LOAD}.c")
                subprocess.run(["cc", "-O2", "-o", f"{folder}/{_LOAD}", str(source)], check=True)
                _measure("host", folder, *words)
    return seen.results


def _said(one: dict[str, Any]) -> str:
    kind = f"{one['mode']} ({one['world']})"
    text = f"{kind:<18}{one['size']:>7,} Services"
    for what in ("connection", "packet"):
        text += f"  {what} {one[what]:6.2f} x {one[f'direct_{what}'] * 1e6:7.1f} us"
        text += f" (passing {one[f'passing_{what}']:5.2f} x)"
    return text


def _measure(world: str, folder: str, sizes: str, trials: str) -> None:
    """Every mode and size, each trial in a process and namespaces of its own."""
    import subprocess

    for size in sizes.split(","):
        for mode in _MODES[world]:
            seen: list[dict[str, float]] = []
            for _ in range(int(trials)):
                paths = ":".join(filter(None, sys.path))
                argv = [sys.executable, "-ISE", __file__, _CHILD, paths, world, folder, mode, size]
                ended = subprocess.run(argv, capture_output=True, text=True, check=False)
                if ended.returncode:
                    print(f"{mode} ({world}), {size} Services: {ended.stderr[-2000:]}", flush=True)
                    break
                seen.append(json.loads(ended.stdout))
                if world == "guest":
                    in_guest.wait_for_cleaning()
            if seen:
                middle = {name: statistics.median(one[name] for one in seen) for name in seen[0]}
                print(json.dumps({"world": world, "mode": mode, "size": int(size), **middle}))
                sys.stdout.flush()


def _child(world: str, folder: str, mode: str, size: str) -> None:
    from hairpin.kernel.apply import Kernel

    # One CPU, as two would add their distance; not the first, on which guests run.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    kernel = Kernel(legacy_iptables=world == "guest")
    program = f"{folder}/{_LOAD}"
    try:
        with _pods(kernel, program, "bare-") as bare, _pods(kernel, program, "") as served:
            _serve(kernel, mode, int(size))
            print(json.dumps(_compared(world, bare, served, int(size))))
    finally:
        kernel.close(destroy=True)


def _compared(world: str, bare: Load, served: Load, size: int) -> dict[str, float]:
    """Seconds of direct traffic, and ratios to them, each of the best of many short turns: a
    machine that others use too is slower at times, and never faster."""
    traffic = _TRAFFIC[world]
    turns = [
        (
            bare(_SERVER, 1, _PORT, traffic),
            served(_dotted(_VIPS), size, 80, traffic),
            served(_SERVER, 1, _PORT, traffic),
        )
        for _ in range(_TURNS + 1)
    ][1:]  # in the first one they find the way
    found: dict[str, float] = {}
    for at, what in enumerate(("connection", "packet")):
        direct, through, passing = (min(turn[kind][at] for turn in turns) for kind in range(3))
        found[f"direct_{what}"] = direct
        found[what] = through / direct
        found[f"passing_{what}"] = passing / direct
    return found


@contextmanager
def _pods(kernel: Kernel, program: str, prefix: str) -> Iterator[Load]:
    """A node that routes between a client and a server, and how to make traffic there."""
    import subprocess

    _build(kernel, prefix)
    client, server = (kernel.namespaces[f"{prefix}{name}"].fd for name in ("client", "server"))

    def load(address: str, count: int, port: int, traffic: tuple[int, int]) -> tuple[float, float]:
        words = [str(client), "load", address, str(count), str(port), *map(str, traffic)]
        argv = [program, *words]
        ended = subprocess.run(argv, pass_fds=[client], capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(f"{address}: {ended.stderr}")
        connections, packets = map(float, ended.stdout.split())
        return connections / traffic[0], packets / traffic[1]

    with subprocess.Popen(
        [program, str(server), "serve", str(_PORT)],
        pass_fds=[server], stdout=subprocess.PIPE, text=True,
    ) as serving:  # fmt: skip
        try:
            assert serving.stdout is not None and serving.stdout.readline() == "ready\n"
            yield load
        finally:
            serving.kill()


def _build(kernel: Kernel, prefix: str) -> None:
    """The node, and a client and a server each on a link of its own."""
    from hairpin.model.address import ip, network
    from hairpin.state.change import Change, Object
    from hairpin.state.links import Address, Link, Netns, Route
    from hairpin.state.sysctl import Sysctl

    changes: list[Change] = []
    node, client, server = (f"{prefix}{name}" for name in ("node", "client", "server"))

    def add(thing: Object, netns: str = "", verb: Any = "add") -> None:
        changes.append(Change(verb=verb, netns=netns, object=thing))

    for name in (node, client, server):
        add(Netns(name=name))
    for name, peer, address in ((client, "veth-client", _CLIENT), (server, "veth-server", _SERVER)):
        gateway = ip(address.rpartition(".")[0] + ".1")
        add(Link(name="eth0", type="veth", peer=peer, peer_netns=node), name)
        add(Link(name=peer, type="veth", peer="eth0", peer_netns=name), node, "set")
        add(Address(link=peer, ip=gateway, prefix=24), node)
        add(Address(link="eth0", ip=ip(address), prefix=24), name)
        add(Route(to=network("0.0.0.0/0"), via=gateway), name)
    add(Sysctl(name="net.ipv4.ip_local_port_range", value="1024\t65535"), client, "set")
    add(Sysctl(name="net.ipv4.ip_forward", value="1"), node, "set")
    failed = kernel.apply(changes)
    if failed:
        raise RuntimeError("\n".join(map(str, failed)))


def _serve(kernel: Kernel, mode: Any, size: int) -> None:
    """N Services with the server behind each of them, TCP and UDP, made true in one sync."""
    import msgspec

    from hairpin.model.configuration import KubeProxyConfiguration
    from hairpin.model.decode import decode_objects
    from hairpin.proxy.proxy import Proxy

    config = KubeProxyConfiguration(mode=mode, cluster_cidr="10.244.0.0/16")
    proxy = Proxy(kernel, "node", config, _NODE)
    for number in range(size):
        # The packets go to the first one; a UDP port for each would double what connections meet.
        protocols = ("TCP", "UDP") if number == 0 else ("TCP",)
        raw = [_service(number, protocols), _slice(number, protocols)]
        for one in decode_objects(msgspec.json.encode(raw)):
            told: Any = proxy.on_service if type(one).__name__ == "Service" else proxy.on_slice
            told(one.key, one)
    done = proxy.sync()
    if done.failed:
        raise RuntimeError(f"{done.failed} refused: {done.refused}")


def _service(number: int, protocols: Sequence[str]) -> dict[str, Any]:
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
            "ports": [
                {"name": each.lower(), "port": 80, "protocol": each, "targetPort": _PORT}
                for each in protocols
            ],
        },
    }


def _slice(number: int, protocols: Sequence[str]) -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"s{number}-abcde",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": f"s{number}"},
        },
        "addressType": "IPv4",
        "ports": [{"name": e.lower(), "port": _PORT, "protocol": e} for e in protocols],
        "endpoints": [{"addresses": [_SERVER], "conditions": {"ready": True}, "nodeName": _NODE}],
    }


def _dotted(number: int) -> str:
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


# Drawn

_COLOURS = {
    "nftables (host)": "#2a78b5",
    "iptables (host)": "#c8553d",
    "ipvs (guest)": "#3a8f5c",
    "iptables (guest)": "#b98a1d",
}
_WIDE, _HIGH, _LEFT, _TOP = 330, 240, 50, 50


def _svg(found: Iterable[dict[str, Any]]) -> str:
    """Two panels, connections and packets: ratio to direct by the number of Services."""
    series: dict[str, dict[int, dict[str, Any]]] = {}
    for one in found:
        series.setdefault(f"{one['mode']} ({one['world']})", {})[one["size"]] = one
    sizes = sorted({size for each in series.values() for size in each})
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 370" font-size="12"'
        ' font-family="system-ui, sans-serif">',
        '<rect width="800" height="370" fill="#fff"/>',
        '<text x="20" y="22" font-size="15">Through a Service, compared with direct traffic from'
        " Pod to Pod (1 = no cost)</text>",
    ]
    for number, (what, title) in enumerate(
        (("connection", "time of a new TCP connection"), ("packet", "time of a packet and answer"))
    ):
        lines += _panel(_LEFT + number * (_WIDE + 60), what, title, series, sizes)
    for number, name in enumerate(series):
        x = _LEFT + number * 180
        lines.append(f'<rect x="{x}" y="345" width="12" height="12" fill="{_COLOURS[name]}"/>')
        lines.append(f'<text x="{x + 18}" y="355">{name}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _panel(
    left: int,
    what: str,
    title: str,
    series: dict[str, dict[int, dict[str, Any]]],
    sizes: Sequence[int],
) -> Iterator[str]:
    from math import log10

    most = max((one[what] for each in series.values() for one in each.values()), default=1.0)
    top = max(log10(most) * 1.08, log10(2))
    below = _TOP + _HIGH + 20

    def x(size: int) -> float:
        return left + _WIDE * (0.06 + 0.88 * sizes.index(size) / max(len(sizes) - 1, 1))

    def y(ratio: float) -> float:
        return _TOP + _HIGH * (1 - max(log10(ratio), -0.05) / top)

    yield f'<text x="{left}" y="{_TOP - 8}">{title}</text>'
    for tick in (1, 2, 5, 10, 20, 50, 100):
        if log10(tick) <= top:
            yield (
                f'<path d="M{left} {y(tick):.1f}h{_WIDE}" stroke="#ddd"/>'
                f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick} ×</text>'
            )
    for size in sizes:
        yield f'<text x="{x(size):.1f}" y="{below}" text-anchor="middle">{size:,}</text>'
    yield f'<text x="{left + _WIDE / 2}" y="{below + 18}" text-anchor="middle">Services</text>'
    for name, each in series.items():
        points = [
            (x(size), y(each[size][what]), each[size][what]) for size in sizes if size in each
        ]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py, _ in points)
        yield f'<polyline points="{path}" fill="none" stroke="{_COLOURS[name]}" stroke-width="2"/>'
        for px, py, ratio in points:
            yield (
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{_COLOURS[name]}">'
                f"<title>{name}: {ratio:.2f} ×</title></circle>"
            )


if __name__ == "__main__":
    sys.exit(main())
