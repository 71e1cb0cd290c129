"""What else only a kernel with IPVS can tell: plain functions, each run in a guest as root.

Run by ``guest_init``.
"""

from __future__ import annotations

import errno
import random
import time
from ipaddress import IPv4Address

from hairpin.kernel.apply import Kernel
from hairpin.kernel.modules import Modules
from hairpin.kernel.netns import Netns as Handle
from hairpin.model.address import ip, network
from hairpin.state.change import Change
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address, Link, Netns, Route
from tests.kernel.guest_ipvs_tables import observed
from tests.kernel.guest_world import add, must, pods, put, remove, told, world

MODULES: Modules | None = None


def before_ipvs_is_loaded_the_error_says_so() -> None:
    with world("node") as kernel:
        server = VirtualServer(protocol="TCP", ip=ip("10.96.0.1"), port=80)
        (failed,) = kernel.apply([add(server)])
        assert "this kernel has no IPVS" in str(failed.error), failed
        assert kernel.apply([remove(server)]) == []
        for ask in (kernel.observe_ipvs, kernel.connections):
            try:
                ask("node")
                raise AssertionError("no error")
            except OSError as error:
                assert "this kernel has no IPVS" in str(error)


def check_adding_what_is_there_otherwise_sets_it() -> None:
    old = VirtualServer(protocol="TCP", ip=ip("10.96.0.1"), port=80)
    new = VirtualServer(protocol="TCP", ip=ip("10.96.0.1"), port=80, scheduler="sh")
    weights = [
        RealServer(protocol="TCP", vip=old.ip, vport=80, ip=ip("10.0.0.1"), port=8080, weight=w)
        for w in (1, 5, 0)
    ]
    with world("node") as kernel:
        must(kernel, add(old), add(weights[0]))
        must(kernel, add(new), add(weights[1]))
        assert observed(kernel) == {new: {weights[1]}}
        # What a later Change of the same run says is what counts.
        must(kernel, add(weights[0]), put(weights[2], weights[0]))
        assert observed(kernel) == {new: {weights[2]}}
        must(kernel, add(weights[0]), remove(weights[0]))
        assert observed(kernel) == {new: set()}


def check_errors_go_to_the_change_that_caused_them() -> None:
    dice = random.Random(7)
    good = [
        VirtualServer(protocol="TCP", ip=IPv4Address(0x0A600000 + number), port=80)
        for number in range(700)
    ]
    changes: list[Change] = [add(server) for server in good]
    orphan = RealServer(protocol="TCP", vip=ip("10.1.1.1"), vport=80, ip=ip("10.0.0.1"), port=8080)
    wrong = [
        (
            add(VirtualServer(protocol="TCP", ip=ip("10.97.0.1"), port=1, scheduler="nope")),
            "ENOENT",
        ),
        (add(orphan), "ESRCH"),
        (put(VirtualServer(protocol="UDP", ip=ip("10.97.0.2"), port=1)), "ESRCH"),
        (
            put(RealServer(protocol="TCP", vip=good[0].ip, vport=80, ip=ip("10.0.0.1"), port=1)),
            "ENOENT",
        ),
    ]
    for change, _ in wrong:
        changes.insert(dice.randrange(1, len(changes)), change)
    with world("node") as kernel:
        failed = kernel.apply(changes)
        names = {one.change.object.key: one.error.name for one in failed}
        assert names == {change.object.key: name for change, name in wrong}, names
        assert "ip_vs_nope" in next(
            str(one)
            for one in failed
            if one.error.name == "ENOENT" and isinstance(one.change.object, VirtualServer)
        )
        assert set(observed(kernel)) == set(good)
        all_wrong = [put(orphan)] * 1000
        failed = kernel.apply(all_wrong)
        assert [one.error.errno for one in failed] == [errno.ESRCH] * 1000


def check_lo_must_be_up_before_real_servers() -> None:
    kernel = Kernel()
    try:
        kernel.adopt(Handle.create("node", lo_up=False))
        server = VirtualServer(protocol="TCP", ip=ip("10.96.0.1"), port=80)
        real = RealServer(protocol="TCP", vip=server.ip, vport=80, ip=ip("10.0.0.1"), port=80)
        (failed,) = kernel.apply([add(server), add(real)])
        assert failed.change.object == real
        assert failed.error.errno == errno.EINVAL
        assert "lo" in failed.error.text
    finally:
        kernel.close(destroy=True)


def check_module_loads_are_idempotent_and_named_when_missing() -> None:
    assert MODULES is not None
    MODULES.load("sch_fq", "sch-fq", "ip_vs")
    MODULES.load("sch_fq")
    try:
        MODULES.load("no_such_thing")
        raise AssertionError("no error")
    except OSError as error:
        assert "no_such_thing" in str(error)


def check_links_and_sysctls_read_back() -> None:
    with world("node", "foo") as kernel:
        pods(kernel, "foo")
        seen = {thing.key: thing for thing in kernel.observe("node")}
        port = seen["link", "veth-foo"]
        assert isinstance(port, Link)
        assert (port.peer, port.peer_netns, port.master) == ("eth0", "foo", "cni0")
        must(kernel, put(Link(name="veth-foo", type="veth", master="cni0", hairpin=True), port))
        port = {thing.key: thing for thing in kernel.observe("node")}["link", "veth-foo"]
        assert isinstance(port, Link) and port.hairpin
        assert kernel.read_sysctl("node", "net.ipv4.ip_forward").value == "1"
        assert kernel.read_sysctl("foo", "net.ipv4.ip_forward").value == "0"


def check_speed() -> None:
    """Told, not judged: what one Pod costs, and a large table."""
    count = 50
    names = [f"pod{number}" for number in range(count)]
    with world("node") as kernel:
        must(
            kernel,
            add(Link(name="cni0", type="bridge")),
            add(Address(link="cni0", ip=ip("10.244.0.1"), prefix=16)),
        )
        start = time.monotonic()
        for number, name in enumerate(names, 2):
            must(
                kernel,
                add(Netns(name=name)),
                add(Link(name="eth0", type="veth", peer=f"veth-{name}", peer_netns="node"), name),
                add(Address(link="eth0", ip=IPv4Address(0x0AF40000 + number), prefix=16), name),
                add(Route(to=network("0.0.0.0/0"), via=ip("10.244.0.1")), name),
                put(Link(name=f"veth-{name}", type="veth", master="cni0")),
            )
        built = time.monotonic()
        told(f"note {count} Pods, {(built - start) * 1000 / count:.2f} ms each")
        seen = kernel.observe("node")
        told(f"note {len(seen)} objects observed in {(time.monotonic() - built) * 1000:.1f} ms")
        start = time.monotonic()
        kernel.observe_rules("node")
        told(f"note iptables-save in {(time.monotonic() - start) * 1000:.1f} ms")
    with world("node") as kernel:
        changes: list[Change] = []
        for number in range(2000):
            server = VirtualServer(protocol="TCP", ip=IPv4Address(0x0A600000 + number), port=80)
            changes.append(add(server))
            for other in range(4):
                real = IPv4Address(0x0AF40000 + number * 4 + other)
                changes.append(
                    add(RealServer(protocol="TCP", vip=server.ip, vport=80, ip=real, port=8080))
                )
        start = time.monotonic()
        must(kernel, *changes)
        applied = time.monotonic()
        kernel.observe_ipvs("node")
        took = (applied - start, time.monotonic() - applied)
        told(f"note 2000 x 4 applied in {took[0]:.3f} s, dumped in {took[1]:.3f} s")
