"""ipset on a real kernel: plain functions, run in a guest.

The program ``ipset`` is the witness both ways: it lists what we made, and we read what it made.
"""

from __future__ import annotations

import errno
import random
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import pairwise

import msgspec

from hairpin.kernel.apply import Kernel
from hairpin.kernel.spawn import find, run
from hairpin.model.address import IP, ip
from hairpin.present.shell import commands
from hairpin.state.change import Change
from hairpin.state.ipset import IpSet, SetEntry, SetFamily, SetType
from hairpin.state.ipvs import Protocol
from tests.kernel.guest_world import add, must, put, remove, world

TYPES: tuple[SetType, ...] = (
    "hash:ip", "hash:ip,port", "hash:ip,port,ip", "hash:ip,port,net", "bitmap:port",
)  # fmt: skip
PROTOCOLS: tuple[Protocol, ...] = ("TCP", "UDP", "SCTP")
FAMILIES: tuple[SetFamily, ...] = ("inet", "inet6")
Table = dict[IpSet, set[SetEntry]]


def witness(kernel: Kernel, *arguments: str, stdin: str = "") -> str:
    """What the program ipset prints."""
    ended = run(kernel.namespaces["node"], [find(["ipset"]), *arguments], stdin)
    assert ended.code == 0, ended
    return ended.out


def saved(kernel: Kernel) -> dict[str, tuple[str, set[str]]]:
    """``ipset save``: what each set is, up to what the kernel chooses itself, and its entries."""
    found: dict[str, tuple[str, set[str]]] = {}
    for line in witness(kernel, "save").splitlines():
        verb, name, rest = line.split(" ", 2)
        if verb == "create":
            words = rest.split()
            kept = [
                f"{word} {value}"
                for word, value in pairwise(words)
                if word in ("family", "maxelem", "range")
            ]
            found[name] = (" ".join([words[0], *kept]), set())
        else:
            found[name][1].add(rest)
    return found


def texts(table: Table) -> dict[str, tuple[str, set[str]]]:
    """What ``saved`` should give for a table."""
    found = {}
    for one, entries in table.items():
        text = f"{one.type} family {one.family} maxelem {one.maxelem}"
        if one.type == "bitmap:port":
            text = "bitmap:port range 0-65535"
        found[one.name] = (text, {str(entry) for entry in entries})
    return found


def observed(kernel: Kernel, prefix: str = "") -> Table:
    found: Table = {}
    at: set[SetEntry] = set()
    for thing in kernel.observe_sets("node", prefix):
        if isinstance(thing, IpSet):
            at = found[thing] = set()
        else:
            assert thing not in at
            at.add(thing)
    return found


def random_address(dice: random.Random, family: SetFamily | None) -> IP:
    if family == "inet6":
        return IPv6Address(
            dice.choice((dice.getrandbits(128), (0xFD00 << 112) + dice.randrange(9)))
        )
    return IPv4Address(dice.randrange(1, 2**32))


def random_entry(dice: random.Random, of: IpSet) -> SetEntry:
    port = dice.randrange(65536)
    if of.type == "bitmap:port":
        return SetEntry(set=of.name, port=port)
    first, second = (random_address(dice, of.family) for _ in range(2))
    if of.type == "hash:ip":
        return SetEntry(set=of.name, ip=first)
    own = {"set": of.name, "ip": first, "protocol": dice.choice(PROTOCOLS), "port": port}
    if of.type == "hash:ip,port,ip":
        return SetEntry(**own, ip2=second)  # type: ignore[arg-type]  # a test's shorthand
    if of.type == "hash:ip,port,net":
        prefix = dice.randrange(1, 129 if of.family == "inet6" else 33)
        kind = IPv6Network if of.family == "inet6" else IPv4Network
        net = kind((int(second), prefix), strict=False)
        return SetEntry(**own, net=net)  # type: ignore[arg-type]  # a test's shorthand
    return SetEntry(**own)  # type: ignore[arg-type]  # a test's shorthand


def random_table(dice: random.Random, most: int) -> Table:
    table: Table = {}
    for type in TYPES:
        for family in FAMILIES if type != "bitmap:port" else (None,):
            name = f"KUBE-{len(table)}-" + "x" * dice.randrange(20)
            maxelem = 0 if family is None else dice.choice((65536, 65536, 5000))
            one = IpSet(name=name, type=type, family=family, maxelem=maxelem)
            table[one] = {random_entry(dice, one) for _ in range(dice.randrange(most))}
    return table


def making(table: Table) -> list[Change]:
    return [
        *(add(one) for one in table),
        *(add(entry) for entries in table.values() for entry in entries),
    ]


def check_random_sets_are_as_the_program_lists_them() -> None:
    dice = random.Random(11)
    for most in (2, 40, 2000):
        table = random_table(dice, most)
        with world("node") as kernel:
            must(kernel, *making(table))
            assert saved(kernel) == texts(table), most
            assert observed(kernel) == table, most
            must(kernel, *making(table))  # all of it is so already
            gone = [entry for entries in table.values() for entry in list(entries)[::2]]
            must(kernel, *map(remove, gone))
            must(kernel, *map(remove, gone))
            left = {one: entries - set(gone) for one, entries in table.items()}
            assert saved(kernel) == texts(left)
            assert observed(kernel) == left
            assert observed(kernel, "KUBE-3-") == {
                one: entries for one, entries in left.items() if one.name.startswith("KUBE-3-")
            }
            must(kernel, *map(remove, table), *map(remove, table))
            assert observed(kernel) == {}


def check_what_the_program_made_is_read() -> None:
    dice = random.Random(12)
    table = random_table(dice, 300)
    with world("node") as kernel:
        lines = [line for change in making(table) for line in commands(change, "node")]
        text = "".join(line.removeprefix("ipset ") + "\n" for line in lines)
        witness(kernel, "restore", stdin=text.replace("'", "").replace('"', ""))
        assert saved(kernel) == texts(table)
        assert observed(kernel) == table
        must(kernel, *making(table))
        # Sets that we have no word for are not ours to speak of.  Of what an entry has besides
        # its address and port only nomatch is told.
        others = "create net hash:net\ncreate list list:set\nadd net 10.0.0.0/8\n"
        more = "create KUBE-T hash:ip,port timeout 600 counters comment\n"
        entries = "add KUBE-T 10.0.0.1,tcp:80 comment x\nadd KUBE-T 10.0.0.2,icmp:0/0\n"
        with suppress(AssertionError):  # the guest may lack the modules
            witness(kernel, "restore", stdin=others)
        witness(kernel, "restore", stdin=more + entries)
        more = "create KUBE-N hash:ip,port,net\nadd KUBE-N 10.0.0.1,tcp:80,10.0.0.0/8 nomatch\n"
        witness(kernel, "restore", stdin=more)
        one = IpSet(name="KUBE-T", type="hash:ip,port", family="inet", timeout=600)
        entry = SetEntry(set="KUBE-T", ip=ip("10.0.0.1"), protocol="TCP", port=80)
        two = IpSet(name="KUBE-N", type="hash:ip,port,net", family="inet")
        but = msgspec.structs.replace(
            entry, set="KUBE-N", net=IPv4Network("10.0.0.0/8"), nomatch=True
        )
        assert observed(kernel) == {**table, one: {entry}, two: {but}}


def check_errors_are_named_and_go_to_their_change() -> None:
    one = IpSet(name="KUBE-A", type="hash:ip,port", family="inet", maxelem=3)
    entries = [
        SetEntry(set="KUBE-A", ip=IPv4Address(0x0A000000 + n), protocol="TCP", port=80)
        for n in range(1, 9)
    ]
    orphan = SetEntry(set="KUBE-B", ip=ip("10.0.0.1"))
    six = SetEntry(set="KUBE-A", ip=ip("fd00::1"), protocol="TCP", port=80)
    port = SetEntry(set="KUBE-A", port=80)
    with world("node") as kernel:
        must(kernel, add(one))
        failed = kernel.apply([add(orphan), add(entries[0]), add(six), add(port), remove(orphan)])
        told = [(one.change.object, one.error.name) for one in failed]
        assert told[0] == (orphan, "ENOENT"), told
        assert [thing for thing, _ in told] == [orphan, six, port], told
        assert all(name.startswith("IPSET_ERR_") for _, name in told[1:]), told
        assert "no set KUBE-B" in str(failed[0].error)
        failed = kernel.apply([add(entry) for entry in entries[:3]])
        assert failed == []
        failed = kernel.apply([add(entry) for entry in entries])
        assert failed and {one.error.name for one in failed} == {"IPSET_ERR_HASH_FULL"}, failed
        assert "10.0.0.8,tcp:80 in set KUBE-A" in str(failed[-1].error), failed[-1].error
        others: list[tuple[IpSet, str]] = [
            (IpSet(name="KUBE-A", type="hash:ip", family="inet"), "of type hash:ip,port"),
            (IpSet(name="KUBE-A", type="hash:ip,port", family="inet6", maxelem=3), "family inet"),
            (IpSet(name="KUBE-A", type="hash:ip,port", family="inet"), "maxelem 3"),
        ]
        for other, words in others:
            (refused,) = kernel.apply([put(other, one)])
            assert refused.error.errno == errno.EEXIST, refused
            assert words in str(refused.error), refused
        (refused,) = kernel.apply(
            [add(IpSet(name="KUBE-C" + "x" * 30, type="hash:ip", family="inet"))]
        )
        assert refused.error.errno in (errno.ERANGE, errno.EINVAL), refused


def check_a_set_in_use_stays() -> None:
    one = IpSet(name="KUBE-A", type="hash:ip", family="inet")
    rule = ["-w", "-A", "FORWARD", "-m", "set", "--match-set", "KUBE-A", "dst", "-j", "ACCEPT"]
    with world("node") as kernel:
        must(kernel, add(one))
        ended = run(kernel.namespaces["node"], [find(["iptables-legacy"]), *rule])
        assert ended.code == 0, ended
        (refused,) = kernel.apply([remove(one)])
        assert refused.error.name == "IPSET_ERR_BUSY", refused
        assert "in use" in str(refused.error), refused
