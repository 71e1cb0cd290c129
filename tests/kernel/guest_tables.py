"""The whole of a large table read at once: plain functions, run in a guest.

What is read fast must be what is read slowly, and what ipvsadm and ip say.
"""

from __future__ import annotations

import gc
import random
import resource
import time
from ipaddress import IPv4Address, IPv6Address

import msgspec

from hairpin.kernel import memory
from hairpin.kernel.apply import Kernel
from hairpin.model.address import ip
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address, Link
from tests.kernel.guest_ipvs_tables import asked, flat, random_table
from tests.kernel.guest_world import add, must, put, remove, world

Server = VirtualServer | RealServer


def slowly(kernel: Kernel, name: str = "node") -> list[Server]:
    found: list[Server] = []
    for seen in kernel.observe_ipvs(name):
        found += [seen.server, *(real.server for real in seen.real_servers)]
    return found


def untold(server: Server) -> Server:
    """Without the thresholds that ``observe_servers`` need not tell."""
    if isinstance(server, VirtualServer) or server.fwmark:
        return server
    return msgspec.structs.replace(server, upper=0, lower=0)


def check_tables_read_fast_are_what_is_read_slowly() -> None:
    for seed in range(12):
        dice = random.Random(seed)
        table = random_table(dice, dice.choice((1, 5, 60)))
        with world("node") as kernel:
            must(kernel, *map(add, flat(table)))
            seen = slowly(kernel)
            assert set(seen) == set(flat(table)), seed
            fast = kernel.observe_servers("node")
            assert [untold(one) for one in fast] == [untold(one) for one in seen], seed


def check_what_is_just_as_expected_is_given_back_itself() -> None:
    virtual = [
        VirtualServer(protocol="TCP", ip=ip(text), port=port)
        for text in ("10.96.0.1", "fd00::7")
        for port in (80, 443)
    ]
    behind = {
        one.key: [
            RealServer(
                protocol="TCP", vip=one.ip, vport=one.port, port=8080,
                ip=ip(f"10.0.0.{number}" if one.ip.version == 4 else f"fd00:1::{number:x}"),
                weight=1_234_567 if one.port == 443 else 1,
            )
            for number in range(1, 20)
        ]
        for one in virtual
    }  # fmt: skip
    every = [one for group in behind.values() for one in group]
    with world("node") as kernel:
        must(kernel, *map(add, virtual), *map(add, every))
        # /proc/net/ip_vs tells all once the servers of the checks before have gone.
        until = time.monotonic() + 20
        itself = False
        while not itself and time.monotonic() < until:
            seen = kernel.observe_groups("node", behind.__getitem__)
            assert {server for server, _ in seen.values()} == set(virtual)
            itself = all(found is behind[key] for key, (_, found) in seen.items())
        assert itself
        for name, value in (("weight", 123_456), ("port", 8081), ("forwarding", "route")):
            for of in virtual:
                group = behind[of.key]
                other = msgspec.structs.replace(group[7], **{name: value})
                like = {**behind, of.key: [*group[:7], other, *group[8:]]}
                there = kernel.observe_groups("node", like.__getitem__)[of.key][1]
                assert there is not like[of.key], (name, of)
                assert set(there) == set(group), (name, of)
        fewer = {key: group[1:] for key, group in behind.items()}
        assert all(
            set(found) == set(behind[key])
            for key, (_, found) in kernel.observe_groups("node", fewer.__getitem__).items()
        )


def check_memory_at_hand_costs_no_page_faults() -> None:
    """And it is given back: what stays is less than half of it."""
    size = 12 << 20

    def faults(at_hand: int) -> int:
        with memory.at_hand(at_hand, at_hand // 4):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            made = [(number, str(number)) for number in range(size // 128)]
            after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        del made
        return after - before

    gc.disable()
    try:
        plain = faults(0)
        dear = resident()
        had = faults(size * 5 // 4)
    finally:
        gc.enable()
    assert plain > size // 4096 // 2, plain
    assert had < plain // 10, (had, plain)
    assert resident() < dear + size // 2


def resident() -> int:
    """Bytes."""
    with open("/proc/self/statm", encoding="ascii") as sizes:
        return int(sizes.read().split()[1]) * 4096


def check_weights_and_many_real_servers_are_read() -> None:
    server = VirtualServer(protocol="SCTP", ip=ip("fd00::7"), port=1)
    four = VirtualServer(protocol="TCP", ip=ip("10.96.0.1"), port=65535)
    reals: list[Server] = [
        RealServer(
            protocol="SCTP", vip=server.ip, vport=1, ip=IPv6Address((0xFD00 << 112) + number),
            port=number, weight=weight,
        )
        for number, weight in enumerate((0, 1, 99_999, 100_000, 999_999, 1_000_000, 2**31 - 1), 1)
    ]  # fmt: skip
    reals += [
        RealServer(
            protocol="TCP", vip=four.ip, vport=65535, ip=IPv4Address(0x0A000000 + number),
            port=1 + number, weight=dict(enumerate((1_000_000, 100_000))).get(number, number),
        )
        for number in range(600)
    ]  # fmt: skip
    with world("node", "other") as kernel:
        must(kernel, add(server), add(four), *map(add, reals), add(server, "other"))
        seen = kernel.observe_servers("node")
        assert len(seen) == len(reals) + 2
        assert set(seen) == {server, four, *reals}
        assert kernel.observe_servers("other") == [server]
        assert asked(kernel, "-Sn").count("\n") == len(seen)


def check_namespaces_do_not_hide_each_others_servers() -> None:
    """/proc/net/ip_vs passes over some of a namespace when others have virtual servers too."""
    tables = {
        name: {
            VirtualServer(protocol="TCP", ip=IPv4Address(first + number), port=80)
            for number in range(500)
        }
        for name, first in (("node", 0x0A600000), ("other", 0x0A700000))
    }
    with world(*tables) as kernel:
        for name, servers in tables.items():
            reals = [
                RealServer(protocol="TCP", vip=one.ip, vport=80, ip=ip("10.0.0.1"), port=8080)
                for one in servers
            ]
            must(kernel, *(add(one, name) for one in servers))
            must(kernel, *(add(one, name) for one in reals))
        for name, servers in tables.items():
            seen = kernel.observe_servers(name)
            assert len(seen) == 2 * len(servers)
            assert set(seen[::2]) == servers
            assert all(
                isinstance(real, RealServer)
                and isinstance(one, VirtualServer)
                and real.vip == one.ip
                for one, real in zip(seen[::2], seen[1::2], strict=True)
            )


def check_addresses_of_one_link_are_read() -> None:
    own = [
        Address(link="kube-ipvs0", ip=IPv4Address(0x0A600000 + number), prefix=32)
        for number in range(1500)
    ]
    own += [
        Address(link="kube-ipvs0", ip=IPv6Address((0xFD96 << 112) + number), prefix=128)
        for number in range(700)
    ]
    others = [
        Address(link="br0", ip=ip("172.31.0.2"), prefix=24),
        Address(link="br0", ip=ip("fd31::2"), prefix=64),
    ]
    with world("node") as kernel:
        must(
            kernel,
            add(Link(name="kube-ipvs0", type="dummy", up=False)),
            add(Link(name="br0", type="bridge")),
            *map(add, others),
            *map(add, own),
        )
        assert sorted(kernel.observe_addresses("node", "kube-ipvs0"), key=str) == sorted(
            own, key=str
        )
        assert kernel.observe_addresses("node", "nope") == []
        every = [thing for thing in kernel.observe("node") if isinstance(thing, Address)]
        assert set(every) == set(kernel.observe_addresses("node")) == {*own, *others}
        must(kernel, *map(add, own), *map(put, others), *map(remove, own), *map(remove, own))
        assert kernel.observe_addresses("node", "kube-ipvs0") == []
