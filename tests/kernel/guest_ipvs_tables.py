"""Random tables over all that IPVS can hold, on a real kernel: plain functions, run in a guest.

``ipvsadm`` is the independent witness of what we programmed: its own text must be what we write
for our values, byte by byte.  Run by ``guest_init``.
"""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import msgspec

from hairpin.kernel.apply import Kernel
from hairpin.kernel.spawn import find, run
from hairpin.model.address import IP, ip
from hairpin.plan.diff import diff
from hairpin.present import ipvsadm
from hairpin.present.shell import commands
from hairpin.state.change import Change, KernelState, Wanted
from hairpin.state.ipvs import (
    FLAG_NAMES,
    SCHEDULERS,
    Forwarding,
    Persistence,
    Protocol,
    RealServer,
    SchedulerFlag,
    Timeouts,
    Tunnel,
    VirtualServer,
    by_mark,
    prefix_mask,
)
from tests.kernel.guest_world import add, must, put, remove, world

ABSENT_SCHEDULERS = ("twos",)  # not built for the guest's kernel

Server = VirtualServer | RealServer
Table = dict[VirtualServer, set[RealServer]]


def asked(kernel: Kernel, *arguments: str, name: str = "node") -> str:
    """What ipvsadm prints."""
    ended = run(kernel.namespaces[name], [find(["ipvsadm"]), *arguments])
    assert ended.code == 0, ended
    return ended.out


def observed(kernel: Kernel, name: str = "node") -> Table:
    """The table as our own dump tells it."""
    return {
        seen.server: {real.server for real in seen.real_servers}
        for seen in kernel.observe_ipvs(name)
    }


def flat(table: Table) -> list[Server]:
    """Each virtual server, then its real servers, in an order that does not change."""
    found: list[Server] = []
    for server, real in table.items():
        found += [server, *sorted(real, key=lambda one: (one.ip.packed, one.port))]
    return found


def state(servers: list[Server]) -> KernelState:
    return KernelState(
        Wanted(netns="node", object=server, owner="test", why="test") for server in servers
    )


def agree(kernel: Kernel, table: Table, seed: object) -> None:
    """What is wanted, what we read and what ipvsadm reads are the same."""
    wanted = flat(table)
    seen = observed(kernel)
    assert seen == table, (seed, seen, table)
    assert diff(state(wanted), state(flat(seen))) == [], seed
    text = asked(kernel, "-Sn")
    assert ipvsadm.save(wanted) == text, (seed, ipvsadm.save(wanted), text)
    bare = {
        one.key: msgspec.structs.replace(one, upper=0, lower=0)
        if isinstance(one, RealServer)
        else one
        for one in wanted
    }
    assert {one.key: one for one in ipvsadm.parse(text)} == bare, seed
    assert thresholds(kernel) == sorted(
        (ipvsadm.endpoint(one.ip, one.port), one.upper, one.lower)
        for one in wanted
        if isinstance(one, RealServer)
    ), seed


def thresholds(kernel: Kernel) -> list[tuple[str, int, int]]:
    """Which -S does not show, but the list does, its addresses cut off."""
    found = []
    for line in asked(kernel, "-Ln", "--thresholds").splitlines():
        words = line.split()
        if words[0] == "->" and words[1] != "RemoteAddress:Port":
            found.append((words[1], int(words[2]), int(words[3])))
    return sorted(found)


def random_table(dice: random.Random, size: int) -> Table:
    table: Table = {}
    for number in range(size):
        server = random_server(dice, number)
        table[server] = set()
        for position in range(dice.randrange(5)):
            table[server].add(random_real(dice, server, position))
    return table


def random_server(dice: random.Random, number: int) -> VirtualServer:
    """A virtual server that no other number gives."""
    version = 6 if dice.random() < 0.4 else 4
    address: IP = IPv4Address(0x0A600000 + number)
    if version == 6:
        address = IPv6Address((0xFD00 << 112) + number)
    protocol: Protocol = dice.choice(("TCP", "UDP", "SCTP"))
    server = VirtualServer(
        protocol=protocol, ip=address, port=dice.choice((1, 53, 80, 8080, 65535))
    )
    if dice.random() < 0.25:  # below 2^31, as ipvsadm prints signed numbers
        mark = (1 << dice.randrange(12, 31)) - 1 - number
        server = by_mark(mark, 6 if version == 6 else 4)
    return with_options(dice, server)


def with_options(dice: random.Random, server: VirtualServer) -> VirtualServer:
    """The same virtual server with everything else by chance."""
    scheduler = dice.choice([one for one in SCHEDULERS if one not in ABSENT_SCHEDULERS])
    flags: list[SchedulerFlag] = [*FLAG_NAMES.get(scheduler, {1: "", 2: "", 3: ""})]
    persistence = None
    if dice.random() < 0.5:
        mask: IP | None = None
        if dice.random() < 0.5:
            bits = dice.randrange(1, 128)
            mask = prefix_mask(bits) if server.ip.version == 6 else IPv4Address(1 << bits % 32)
        persistence = Persistence(timeout=dice.choice((1, 10800, 86400)), mask=mask)
    return msgspec.structs.replace(
        server,
        scheduler=scheduler,
        scheduler_flags=frozenset(flag for flag in flags if dice.random() < 0.3),
        persistence=persistence,
        one_packet=dice.random() < 0.3,
    )


def random_real(dice: random.Random, of: VirtualServer, position: int) -> RealServer:
    """A real server that no other position gives."""
    forwarding: Forwarding = dice.choice(("masquerade", "masquerade", "route", "tunnel"))
    tunnel = None
    is_v6 = of.ip.version == 6
    if forwarding == "tunnel":
        is_v6 = dice.random() < 0.5  # of whatever family the virtual server is
        port = dice.randrange(1, 65536)
        tunnel = dice.choice(
            (
                None,
                Tunnel(type="gre", checksum=dice.choice(("none", "full"))),
                Tunnel(type="gue", port=port, checksum=dice.choice(("none", "full", "remote"))),
            )
        )
    address: IP = IPv4Address(0x0AF40000 + dice.randrange(1 << 12) * 8 + position)
    if is_v6:
        address = IPv6Address((0xFD01 << 112) + dice.randrange(1 << 20) * 8 + position)
    upper = dice.choice((0, 0, 1, 4_000_000_000))
    return RealServer(
        protocol=of.protocol,
        vip=of.ip,
        vport=of.port,
        fwmark=of.fwmark,
        ip=address,
        port=dice.randrange(1, 65536) if forwarding == "masquerade" else of.port,
        weight=dice.choice((0, 1, 2, 100, 65535, 2**31 - 1)),
        forwarding=forwarding,
        upper=upper,
        lower=dice.randrange(upper + 1),
        tunnel=tunnel,
    )


def check_random_tables_read_back_equal() -> None:
    for seed in range(14):
        dice = random.Random(seed)
        table = random_table(dice, dice.randrange(1, 40))
        with world("node") as kernel:
            must(kernel, *map(add, flat(table)))
            agree(kernel, table, seed)
            must(kernel, *map(add, flat(table)))  # again
            changes, table = random_walk(dice, table)
            must(kernel, *changes)
            agree(kernel, table, (seed, "walked"))


def random_walk(dice: random.Random, table: Table) -> tuple[list[Change], Table]:
    """Random removals and new properties; and what must come of them."""
    changes: list[Change] = []
    after: Table = {}
    for server, real in table.items():
        if dice.random() < 0.3:
            changes += [remove(server), remove(server)]
            continue
        kept = set()
        for one in sorted(real, key=lambda one: (one.ip.packed, one.port)):
            match dice.randrange(3):
                case 0:
                    changes.append(remove(one))
                case 1:
                    other = random_real(dice, server, 0)
                    if other.ip.version != one.ip.version:
                        continue_with = msgspec.structs.replace(one, weight=dice.randrange(1000))
                    else:
                        continue_with = msgspec.structs.replace(other, ip=one.ip, port=one.port)
                    changes.append(put(continue_with, one))
                    kept.add(continue_with)
                case _:
                    kept.add(one)
        new = with_options(dice, server)
        changes.append(put(new, server))
        after[new] = kept
    return changes, after


def check_a_difference_leads_from_any_table_to_any_other() -> None:
    for seed in range(4):
        dice = random.Random(f"difference {seed}")
        first, second = random_table(dice, 20), random_table(dice, 20)
        with world("node") as kernel:
            must(kernel, *map(add, flat(first)))
            changes = diff(state(flat(second)), state(flat(observed(kernel))))
            must(kernel, *changes)
            agree(kernel, second, seed)


def check_shell_commands_do_what_we_do() -> None:
    sticky = Persistence(timeout=600, mask=ip("255.255.0.0"))
    call = VirtualServer(
        protocol="UDP", ip=ip("10.96.0.1"), port=5060, one_packet=True, persistence=sticky,
        persistence_engine="sip",
    )  # fmt: skip
    six = VirtualServer(
        protocol="SCTP", ip=ip("fd00::1"), port=80, scheduler="sh", persistence=Persistence(
            timeout=9, mask=prefix_mask(64)
        ), scheduler_flags=frozenset((1, 2)),
    )  # fmt: skip
    mark = by_mark(9, 6, scheduler="wrr", scheduler_flags=frozenset((3,)))

    def real(of: VirtualServer, **more: Any) -> RealServer:
        given = {"ip": ip("10.244.0.2"), "port": of.port} | more
        return RealServer(protocol=of.protocol, vip=of.ip, vport=of.port, fwmark=of.fwmark, **given)

    gue = Tunnel(type="gue", port=6080, checksum="remote")
    table: Table = {
        call: {real(call, port=99, weight=0, upper=20, lower=10), real(call, ip=ip("10.0.0.9"))},
        six: {
            real(six, forwarding="tunnel", tunnel=gue),
            real(six, ip=ip("10.0.0.3"), forwarding="tunnel"),
            real(six, ip=ip("fd00::3"), forwarding="tunnel", tunnel=Tunnel(type="gre")),
            real(six, ip=ip("fd00::4"), forwarding="route", upper=1),
        },
        mark: {real(mark, ip=ip("fd00::5"), port=8080)},
    }
    first = {msgspec.structs.replace(one, scheduler="rr"): set[RealServer]() for one in table}
    timeouts = Timeouts(tcp=100, tcp_fin=10, udp=1)
    with world("node") as kernel:
        for wanted in (first, table, {}):
            held = state(flat(observed(kernel)))
            for change in diff(state(flat(wanted)), held):
                said(kernel, change)
            agree(kernel, wanted, "shell")
        said(kernel, put(timeouts))
        assert kernel.ipvs("node").timeouts() == timeouts


def said(kernel: Kernel, change: Change) -> None:
    for line in commands(change, "node"):
        ended = run(kernel.namespaces["node"], [find(["sh"]), "-c", line])
        assert ended.code == 0, (line, ended)


def check_what_ipvsadm_cannot_say() -> None:
    """Forwarding to the node itself and past it, large marks, the flag without a name."""
    server = by_mark(2**32 - 1, scheduler="sh", scheduler_flags=frozenset((3,)))
    ways: tuple[Forwarding, ...] = ("local", "bypass")
    real = {
        RealServer(
            protocol="TCP", vip=server.ip, vport=0, fwmark=server.fwmark,
            ip=IPv4Address(0x0AF40000 + number), port=80, forwarding=way,
        )
        for number, way in enumerate(ways)
    }  # fmt: skip
    with world("node") as kernel:
        must(kernel, *map(add, flat({server: real})))
        assert observed(kernel) == {server: real}


def check_a_persistence_engine() -> None:
    server = VirtualServer(
        protocol="UDP",
        ip=ip("10.96.0.1"),
        port=5060,
        persistence=Persistence(timeout=60),
        persistence_engine="sip",
    )
    with world("node") as kernel:
        must(kernel, add(server))
        agree(kernel, {server: set()}, "engine")
        bare = msgspec.structs.replace(server, persistence_engine="")
        must(kernel, put(bare, server))
        agree(kernel, {bare: set()}, "none")
        unknown = msgspec.structs.replace(server, port=1, persistence_engine="nope")
        (failed,) = kernel.apply([add(unknown)])
        assert failed.error.name == "ENOENT" and "ip_vs_pe_nope" in str(failed), failed


def check_timeouts() -> None:
    with world("node", "foo") as kernel:
        usual = kernel.ipvs("node").timeouts()
        assert usual == Timeouts(tcp=900, tcp_fin=120, udp=300)
        must(kernel, put(Timeouts(tcp=1000, tcp_fin=60, udp=30), usual))
        assert "1000 60 30" in asked(kernel, "-L", "--timeout")
        must(kernel, put(Timeouts(udp=31)))  # 0 leaves a timeout as it is
        now = kernel.ipvs("node").timeouts()
        assert now == Timeouts(tcp=1000, tcp_fin=60, udp=31)
        assert kernel.ipvs("foo").timeouts() == usual
        (failed,) = kernel.apply([put(Timeouts(tcp=2**31))])
        assert failed.error.name == "EINVAL", failed
        assert kernel.ipvs("node").timeouts() == now
        assert diff(
            KernelState([Wanted(netns="node", object=now, owner="", why="")]),
            KernelState([Wanted(netns="node", object=now, owner="", why="")]),
        ) == []  # fmt: skip


def check_flush_and_info() -> None:
    dice = random.Random("flush")
    table = random_table(dice, 10)
    with world("node", "foo") as kernel:
        info = kernel.ipvs("node").info()
        said = asked(kernel, "-Ln").splitlines()[0]
        assert "{}.{}.{}".format(*info.version) in said, (info, said)
        assert f"(size={info.connection_table_size})" in said, (info, said)
        for name in ("node", "foo"):
            must(kernel, *(add(server, name) for server in flat(table)))
        kernel.ipvs("node").flush()
        assert observed(kernel) == {}
        assert observed(kernel, "foo") == table


def check_adding_a_large_table_again_is_no_slower_than_that() -> None:
    """Each server that was there is found once, not searched for among all."""
    dice = random.Random("again")
    table = random_table(dice, 1500)
    with world("node") as kernel:
        must(kernel, *map(add, flat(table)))
        must(kernel, *map(add, flat(table)))
        assert observed(kernel) == table
