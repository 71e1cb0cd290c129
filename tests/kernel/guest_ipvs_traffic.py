"""What IPVS does with packets, and what it tells of it: run in a guest by ``guest_init``."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from hairpin.kernel.apply import Kernel
from hairpin.kernel.modules import Modules
from hairpin.kernel.spawn import find, run
from hairpin.model.address import ip, network
from hairpin.state.ipvs import (
    Counters,
    Persistence,
    Rates,
    RealServer,
    VirtualServer,
    VirtualServerSeen,
    by_mark,
)
from hairpin.state.links import Address, Route
from hairpin.state.netfilter import ChainPolicy, Rule
from hairpin.state.sysctl import Sysctl
from tests.kernel.guest_world import add, must, pods, put, remove, world

MODULE_FOLDER = ""  # set by guest_init


def check_counters_and_connections_after_real_traffic() -> None:
    server = VirtualServer(protocol="TCP", ip=ip("10.96.0.1"), port=80)
    real = [
        RealServer(
            protocol="TCP", vip=server.ip, vport=80, ip=IPv4Address(0x0AF40000 + n), port=8080
        )
        for n in (2, 3)
    ]
    with world("node", "foo", "bar") as kernel, ExitStack() as stack:
        pods(kernel, "foo", "bar")
        must(kernel, add(server), *map(add, real))
        listeners = {}
        for name in ("foo", "bar"):
            with kernel.namespaces[name].entered():
                listeners[name] = stack.enter_context(socket.create_server(("", 8080)))
        clients = []
        answered = []
        for _ in range(6):
            with kernel.namespaces["node"].entered():
                client = stack.enter_context(socket.create_connection(("10.96.0.1", 80), timeout=3))
            clients.append(client)
            ready = select.select(list(listeners.values()), [], [], 3)[0]
            (accepted,) = (ready[0].accept()[0],)
            stack.enter_context(accepted)
            accepted.sendall(b"hello")
            assert client.recv(5) == b"hello"
            answered.append(next(name for name, one in listeners.items() if one is ready[0]))
        assert sorted(answered[:2]) == ["bar", "foo"], answered
        assert answered == answered[:2] * 3, answered  # round robin: strictly in turn

        seen = counted(kernel, 6)
        assert [one.counters.connections for one in seen.real_servers] == [3, 3]
        assert [one.active for one in seen.real_servers] == [3, 3]
        assert seen.counters.packets_in >= 6 * 3
        assert seen.counters.bytes_out > 6 * 5
        table = kernel.connections("node")
        assert len(table) == 6
        ports = {client.getsockname()[1] for client in clients}
        assert {one.client_port for one in table} == ports
        assert {one.state for one in table} == {"ESTABLISHED"}
        assert {(one.vip, one.vport, one.server_port) for one in table} == {(server.ip, 80, 8080)}
        assert {one.server for one in table} == {one.ip for one in real}
        assert all(0 < one.expires <= 900 for one in table)
        assert kernel.connections("foo") == []


def counted(kernel: Kernel, connections: int) -> VirtualServerSeen:
    """The kernel sums its counters up every two seconds (ip_vs_est.c); waits for that."""
    for _ in range(60):
        seen = next(one for one in kernel.observe_ipvs("node") if one.real_servers)
        if seen.counters.connections == connections:
            break
        time.sleep(0.1)
    assert seen.counters.connections == connections, seen
    return seen


def check_udp_and_conntrack_flush() -> None:
    server = VirtualServer(protocol="UDP", ip=ip("10.96.0.1"), port=53)
    real = RealServer(protocol="UDP", vip=server.ip, vport=53, ip=ip("10.244.0.2"), port=5353)
    with world("node", "foo") as kernel, ExitStack() as stack:
        pods(kernel, "foo")
        must(
            kernel,
            add(server),
            add(real),
            put(Sysctl(name="net.ipv4.vs.conntrack", value="1")),
            put(ChainPolicy(table="filter", chain="FORWARD", target="DROP")),
            add(
                Rule(
                    table="nat",
                    chain="POSTROUTING",
                    spec=(
                        "-s",
                        "10.244.0.0/24",
                        "-m",
                        "comment",
                        "--comment",
                        'the "hair" pin',
                        "-j",
                        "MASQUERADE",
                    ),
                )
            ),
        )
        rules = kernel.observe_rules("node")
        assert ChainPolicy(table="filter", chain="FORWARD", target="DROP") in rules
        assert 'the "hair" pin' in next(one for one in rules if isinstance(one, Rule)).spec
        with kernel.namespaces["foo"].entered():
            answerer = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            answerer.bind(("", 5353))
            answerer.settimeout(3)
        with kernel.namespaces["node"].entered():
            client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            client.settimeout(3)
        client.sendto(b"?", ("10.96.0.1", 53))
        data, source = answerer.recvfrom(10)
        answerer.sendto(data + b"!", source)
        assert client.recvfrom(10) == (b"?!", ("10.96.0.1", 53))
        (entry,) = kernel.connections("node")
        assert (entry.protocol, entry.server, entry.server_port) == ("UDP", real.ip, 5353)
        assert int(kernel.read_sysctl("node", "net.netfilter.nf_conntrack_count").value) > 0
        kernel.flush_conntrack("node")
        assert kernel.read_sysctl("node", "net.netfilter.nf_conntrack_count").value == "0"


def usable(kernel: Kernel, addresses: dict[str, tuple[str, ...]]) -> None:
    """Waits: an IPv6 address gets its route in a work queue of the kernel's, without DAD too
    (addrconf_dad_start in net/ipv6/addrconf.c)."""
    tentative = 0x40
    for name, wanted in addresses.items():
        missing = {ip(one).packed.hex() for one in wanted}
        for _ in range(100):
            with kernel.namespaces[name].entered():
                lines = Path("/proc/thread-self/net/if_inet6").read_text(encoding="ascii")
            seen = [line.split() for line in lines.splitlines()]
            missing -= {words[0] for words in seen if not int(words[4], 16) & tentative}
            if not missing:
                break
            time.sleep(0.1)
        assert not missing, (name, missing)


@contextmanager
def echoing(kernel: Kernel, name: str, address: str) -> Iterator[Callable[[str, int], int]]:
    """A Pod that listens on TCP port 8080, and a function that connects to it from the node.

    It gives the client's port; connections stay open until the end.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with ExitStack() as stack:
        with kernel.namespaces[name].entered():
            server = stack.enter_context(socket.create_server((address, 8080), family=family))
        server.settimeout(3)

        def connect(vip: str, port: int) -> int:
            with kernel.namespaces["node"].entered():
                client = stack.enter_context(socket.create_connection((vip, port), timeout=3))
            accepted = stack.enter_context(server.accept()[0])
            accepted.sendall(b"x" * 4000)
            while len(client.recv(4096, socket.MSG_PEEK)) < 1:
                pass
            return int(client.getsockname()[1])

        yield connect


def check_persistence_shows_templates() -> None:
    server = VirtualServer(
        protocol="TCP",
        ip=ip("10.96.0.1"),
        port=80,
        persistence=Persistence(timeout=500, mask=ip("255.255.255.0")),
    )
    real = RealServer(protocol="TCP", vip=server.ip, vport=80, ip=ip("10.244.0.2"), port=8080)
    with world("node", "foo") as kernel:
        pods(kernel, "foo")
        must(kernel, add(server), add(real))
        with echoing(kernel, "foo", "10.244.0.2") as connect:
            ports = {connect("10.96.0.1", 80) for _ in range(3)}
            table = kernel.ipvs("node").connections()
            (template,) = (one for one in table if one.client_port == 0)
            assert template.state in ("NONE", "ASSURED"), template
            assert template.client == ip("10.96.0.0"), template  # under the mask
            assert (template.vip, template.vport, template.server) == (server.ip, 80, real.ip)
            assert 0 < template.expires <= 500
            assert {one.client_port for one in table} == {0, *ports}
            (seen,) = kernel.observe_ipvs("node")
            assert seen.real_servers[0].persistent == 1
            assert seen.real_servers[0].active == 3


def check_a_firewall_mark_takes_any_address() -> None:
    server = by_mark(7)
    real = RealServer(
        protocol="TCP", vip=server.ip, vport=0, fwmark=7, ip=ip("10.244.0.2"), port=8080
    )
    spec = ("-p", "tcp", "-m", "tcp", "--dport", "82:8080", "-j", "MARK", "--set-xmark", "7/0xff")
    with world("node", "foo") as kernel:
        pods(kernel, "foo")
        must(kernel, add(server), add(real))
        must(kernel, add(Rule(table="mangle", chain="OUTPUT", spec=spec)))
        with echoing(kernel, "foo", "10.244.0.2") as connect:
            for port in (82, 88):
                connect("10.96.0.1", port)
            table = kernel.ipvs("node").connections()
            assert {(one.vport, one.server_port) for one in table} == {(82, 8080), (88, 8080)}
            # With persistence IPVS keeps the port that the client used (ip_vs_sched_persist).
            must(kernel, put(by_mark(7, persistence=Persistence(timeout=60)), server))
            connect("10.96.0.1", 8080)
            table = kernel.ipvs("node").connections()
            (template,) = (one for one in table if not one.client_port)
            assert (template.protocol, template.vip) == ("IP", ip("0.0.0.7")), template


def check_ipv6_traffic_counts_and_goes_to_zero() -> None:
    vip, pod = "fd00:96::1", "fd00:244::2"
    server = VirtualServer(protocol="TCP", ip=ip(vip), port=80)
    other = VirtualServer(protocol="UDP", ip=ip(vip), port=80)
    real = RealServer(protocol="TCP", vip=server.ip, vport=80, ip=ip(pod), port=8080)
    with world("node", "foo") as kernel:
        for name in ("node", "foo"):  # no waiting for duplicates of an address
            for which in ("all", "default"):
                setting = Sysctl(name=f"net.ipv6.conf.{which}.accept_dad", value="0")
                must(kernel, put(setting, netns=name))
        pods(kernel, "foo")
        must(
            kernel,
            add(Address(link="cni0", ip=ip("fd00:244::1"), prefix=64)),
            add(Address(link="kube-ipvs0", ip=ip(vip), prefix=128)),
            add(Address(link="eth0", ip=ip(pod), prefix=64), "foo"),
            add(server),
            add(other),
            add(real),
        )
        must(kernel, add(Route(to=network("::/0"), via=ip("fd00:244::1")), "foo"))
        usable(kernel, {"node": ("fd00:244::1", vip), "foo": (pod,)})
        with echoing(kernel, "foo", pod) as connect:
            port = connect(vip, 80)
            (entry,) = kernel.ipvs("node").connections()
            assert (entry.vip, entry.server, entry.client_port) == (server.ip, real.ip, port)
            seen = counted(kernel, 1)
            assert seen.rates.bytes_out > 0, seen
            assert seen.counters.bytes_out > 4000, seen
            kernel.ipvs("node").zero(other)
            assert counted(kernel, 1).counters.bytes_out > 4000
            kernel.ipvs("node").zero(server)
            seen = counted(kernel, 0)
            assert (seen.counters, seen.rates) == (Counters(), Rates())
            assert seen.real_servers[0].counters == Counters()
            assert seen.real_servers[0].active == 1
            connect(vip, 80)
            counted(kernel, 1)
            kernel.ipvs("node").zero()
            counted(kernel, 0)


def check_one_packet_scheduling_leaves_no_connection() -> None:
    real = RealServer(protocol="UDP", vip=ip("10.96.0.1"), vport=53, ip=ip("10.244.0.2"), port=5353)
    for one_packet, entries in ((True, 0), (False, 1)):
        server = VirtualServer(protocol="UDP", ip=real.vip, port=53, one_packet=one_packet)
        with world("node", "foo") as kernel, ExitStack() as stack:
            pods(kernel, "foo")
            must(kernel, add(server), add(real))
            with kernel.namespaces["foo"].entered():
                answerer = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                answerer.bind(("", 5353))
                answerer.settimeout(3)
            with kernel.namespaces["node"].entered():
                client = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            client.sendto(b"?", ("10.96.0.1", 53))
            assert answerer.recv(10) == b"?"
            assert len(kernel.ipvs("node").connections()) == entries


def check_zz_ip_vs_may_be_unloaded_and_loaded_again() -> None:
    """Its netlink number is another one then; an open socket finds it.  Last, for the others."""
    server = VirtualServer(protocol="TCP", ip=ip("10.96.0.1"), port=80)
    with world("node") as kernel:
        must(kernel, add(server), remove(server))
        node = kernel.namespaces["node"]
        with open("/proc/modules", encoding="ascii") as table:
            loaded = [line.split()[0] for line in table]
        # Modules that use others come first there.
        gone = [name for name in loaded if name == "ip_vs" or name.startswith("ip_vs_")]
        for name in gone:
            ended = run(node, [find(["rmmod"]), name])
            assert ended.code == 0, ended
        (failed,) = kernel.apply([add(server)])
        assert "this kernel has no IPVS" in str(failed), failed
        assert kernel.apply([remove(server)]) == []
        Modules(MODULE_FOLDER).load("ip_vs_rr")
        must(kernel, add(server))
        assert [seen.server for seen in kernel.observe_ipvs("node")] == [server]
