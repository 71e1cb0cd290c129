"""What the tests of nftables mode share: a routing node with Pods, servers, clients, ``nft``."""

from __future__ import annotations

import errno
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from hairpin.kernel.apply import Kernel
from hairpin.model.address import ip, network
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.snapshot import Snapshot
from hairpin.plan import whole
from hairpin.plan.node import node_facts
from hairpin.present.nft import listing
from hairpin.proxy.proxy import Proxy
from hairpin.state.change import Change, Object
from hairpin.state.links import Address, Link, Netns, Route
from hairpin.state.nftables import NftChain, NftElement, NftFamily, NftObject, NftSet, NftTable
from hairpin.state.sysctl import Sysctl
from tests.proxy.cluster import NODE

CONFIG = KubeProxyConfiguration(mode="nftables", cluster_cidr="10.244.0.0/16,fd00:244::/48")
CIDRS = (network("10.96.0.0/16"), network("fd00:96::/112"))
KINDS = (NftTable, NftSet, NftChain, NftElement)
OUTSIDE = "192.0.2.2"
TABLE = "kube-proxy"
PODS = {"pa": 1, "pb": 2, "pc": 3}
"""Pods, and the number in the third place of their addresses: 10.244.1.2, fd00:244:0:1::2."""
SERVED = 8080
_PATIENCE = 0.25  # seconds: nothing here is further away than a few context switches


class CountingKernel(Kernel):
    """Counts how often a table is read."""

    read = 0

    def observe_nft(
        self,
        name: str,
        family: NftFamily,
        table: str,
        expected: Sequence[NftChain] = (),
    ) -> list[NftObject]:
        self.read += 1
        return super().observe_nft(name, family, table, expected)


def must(kernel: Kernel, *changes: Change) -> None:
    failed = kernel.apply(changes)
    assert not failed, "\n".join(map(str, failed))


def add(thing: Object, netns: str = "node") -> Change:
    return Change(verb="add", netns=netns, object=thing)


def put(thing: Object, netns: str = "node") -> Change:
    return Change(verb="set", netns=netns, object=thing)


@contextmanager
def bare_node(kernel: Kernel | None = None) -> Iterator[Kernel]:
    """A namespace ``node`` with addresses of both families and nothing behind it."""
    kernel = kernel if kernel is not None else Kernel()
    try:
        must(
            kernel,
            add(Netns(name="node"), ""),
            add(Address(link="lo", ip=ip("192.0.2.1"), prefix=32)),
            add(Address(link="lo", ip=ip("2001:db8::1"), prefix=128)),
        )
        yield kernel
    finally:
        kernel.close(destroy=True)


@contextmanager
def routing_node(kernel: Kernel | None = None) -> Iterator[Kernel]:
    """A node, three Pods that it routes between, each with a server, and somebody ``outside``."""
    kernel = kernel if kernel is not None else Kernel()
    servers: list[_Server] = []
    try:
        must(
            kernel,
            *(add(Netns(name=name), "") for name in ("node", "outside", *PODS)),
            put(Sysctl(name="net.ipv4.ip_forward", value="1")),
            put(Sysctl(name="net.ipv6.conf.all.forwarding", value="1")),
            # A refusal is an ICMP message: none may be held back for coming too soon.
            put(Sysctl(name="net.ipv4.icmp_ratelimit", value="0")),
            put(Sysctl(name="net.ipv6.icmp.ratelimit", value="0")),
        )
        _joined(kernel, "outside", [(OUTSIDE, "192.0.2.1", 24), ("2001:db8::2", "2001:db8::1", 64)])
        must(kernel, add(Route(to=network("0.0.0.0/0"), via=ip(OUTSIDE))))
        for name, at in PODS.items():
            four, six = f"10.244.{at}", f"fd00:244:0:{at}:"
            _joined(kernel, name, [(f"{four}.2", f"{four}.1", 24), (f"{six}:2", f"{six}:1", 64)])
            servers.append(_Server(kernel, name))
        yield kernel
    finally:
        for server in servers:
            server.close()
        kernel.close(destroy=True)


def _joined(kernel: Kernel, name: str, addresses: list[tuple[str, str, int]]) -> None:
    """A link between a namespace and the node: its own address, the node's, and the prefix."""
    near = Link(name="eth0", type="veth", peer=f"veth-{name}", peer_netns="node")
    far = Link(name=f"veth-{name}", type="veth", peer="eth0", peer_netns=name)
    must(kernel, add(near, name), put(far))
    for own, gateway, prefix in addresses:
        everywhere = network("0.0.0.0/0" if prefix == 24 else "::/0")
        must(
            kernel,
            add(Address(link="eth0", ip=ip(own), prefix=prefix), name),
            add(Address(link=far.name, ip=ip(gateway), prefix=prefix)),
            add(Route(to=everywhere, via=ip(gateway)), name),
        )


class _Server:
    """Says which Pod it is, and whom it sees, over TCP and UDP of both families."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self._name = name
        with kernel.namespaces[name].entered():
            self._tcp = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
            self._udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for one in (self._tcp, self._udp):
            one.bind(("::", SERVED))
        self._tcp.listen(64)
        for work in (self._accept, self._echo):
            threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        for one in (self._tcp, self._udp):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                joined, peer = self._tcp.accept()
                with joined:
                    joined.sendall(self._said(peer[0]))

    def _echo(self) -> None:
        with suppress(OSError):
            while True:
                data, peer = self._udp.recvfrom(64)
                if not data:  # shut down
                    return
                self._udp.sendto(self._said(peer[0]), peer)

    def _said(self, peer: str) -> bytes:
        return f"{self._name} {peer.removeprefix('::ffff:')}".encode()


def ask(
    kernel: Kernel, netns: str, to: str, port: int = 80, *, udp: bool = False, source: int = 0
) -> str:
    """Who answered and whom they saw; or "refused", "dropped"; or another error's name."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with (
        kernel.namespaces[netns].entered(),
        socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM) as asking,
    ):
        asking.settimeout(_PATIENCE)
        if source:
            asking.bind(("", source))
        try:
            asking.connect((to, port))
            if udp:
                asking.send(b"?")
            return asking.recv(100).decode()
        except TimeoutError:
            return "dropped"
        except ConnectionRefusedError:
            return "refused"
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, "?")


def answering(kernel: Kernel, netns: str, to: str, port: int = 80, tries: int = 24) -> set[str]:
    """What comes of that many connections."""
    return {ask(kernel, netns, to, port) for _ in range(tries)}


def proxy(kernel: Kernel, config: KubeProxyConfiguration = CONFIG, **more: object) -> Proxy:
    return Proxy(kernel, "node", config, NODE, service_cidrs=CIDRS, **more)  # type: ignore[arg-type]


def held(kernel: Kernel) -> dict[tuple[object, ...], NftObject]:
    """All that both tables hold."""
    seen = [one for family in ("ip", "ip6") for one in kernel.observe_nft("node", family, TABLE)]
    return {one.key: one for one in seen}


def fresh(snapshot: Snapshot, kernel: Kernel) -> dict[tuple[object, ...], Object]:
    """What a fresh plan says that ``held`` should be."""
    own = [one.ip for one in kernel.observe_addresses("node")]
    facts = node_facts(NODE, snapshot.nodes.get(("", NODE)), own, CIDRS)
    plan = whole.plan(snapshot, CONFIG, facts, "node")
    return {one.object.key: one.object for one in plan if isinstance(one.object, KINDS)}


def same(kernel: Kernel, snapshot: Snapshot) -> str:
    """Where the tables differ from a fresh plan, in words; "" for nowhere."""
    have, want = held(kernel), fresh(snapshot, kernel)
    lines = [f"missing {want[one]}" for one in want.keys() - have.keys()]
    lines += [f"too much {have[one]}" for one in have.keys() - want.keys()]
    lines += [
        f"{have[one]} instead of {want[one]}"
        for one in want.keys() & have.keys()
        if have[one] != want[one]
    ]
    return "\n".join(lines)


def nft(kernel: Kernel, *argv: str, stdin: str | None = None) -> str:
    """What ``nft`` prints in the node's namespace."""
    with kernel.namespaces["node"].entered():
        return subprocess.run(
            ["nft", *argv], input=stdin, check=True, capture_output=True, text=True
        ).stdout


def witnessed(kernel: Kernel) -> str:
    """Where ``nft list ruleset`` prints something else than we do; "" for nowhere."""
    ours = listing(held(kernel).values()).splitlines()
    odd = set(ours) ^ set(nft(kernel, "list", "ruleset").splitlines())
    return "\n".join(sorted(odd))
