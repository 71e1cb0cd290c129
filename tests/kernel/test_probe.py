"""Abilities of kernels: what is said of them is so, and trying leaves nothing."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from hairpin.kernel import probe, throwaway
from hairpin.kernel.errors import KernelError
from hairpin.world.client import Client

_SET_DUMPABLE = 4  # PR_SET_DUMPABLE, prctl(2); changing the user takes it away
NAMES = [row.name for row in probe.ABILITIES]

WITNESSES = {
    "dummy": ["ip", "link", "add", "x0", "type", "dummy"],
    "veth": ["ip", "link", "add", "x0", "type", "veth"],
    "bridge": ["ip", "link", "add", "x0", "type", "bridge"],
    "vxlan": ["ip", "link", "add", "x0", "type", "vxlan", "id", "7", "dstport", "4789"],
    "netem": ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"],
    "ipset": ["ipset", "create", "x", "hash:ip,port"],
    "nft-nat-ip": ["nft", "add table ip x; add chain ip x y { type nat hook output priority 0; }"],
    "iptables": ["iptables", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE"],
    "conntrack-netlink": ["conntrack", "-L"],
    "ipv6": ["ip", "-6", "address", "add", "2001:db8::1/64", "dev", "lo"],
}
"""The same by a program, in a namespace of its own."""


def able(results: list[probe.Result]) -> dict[str, bool]:
    return {one.name: one.able for one in results}


def test_every_row_is_a_different_one_with_its_words() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(row.purpose and row.remedy for row in probe.ABILITIES)
    assert all(row.needs in ("", *NAMES) for row in probe.ABILITIES)
    assert set(probe.FOR_LABS) <= set(NAMES)


@pytest.mark.host
def test_programs_agree_with_what_is_said_of_the_host() -> None:
    found = able(probe.attempt())
    assert list(found) == NAMES
    for name, command in WITNESSES.items():
        done = subprocess.run(["unshare", "-n", *command], capture_output=True, check=False)
        assert (done.returncode == 0) == found[name], (name, done.stderr)


@pytest.mark.host
def test_trying_leaves_nothing() -> None:
    looks = (["ip", "-j", "link"], ["ip", "netns"], ["nft", "list", "ruleset"])

    def seen() -> list[bytes]:
        outputs = [subprocess.run(look, capture_output=True, check=True).stdout for look in looks]
        lines = [line for output in outputs for line in output.splitlines()]
        mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
        return [line for line in [*lines, *mounts] if b"hairpin-test-" not in line]

    before = seen()
    probe.attempt()
    assert seen() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.host
def test_a_part_of_what_is_missing_is_not_tried() -> None:
    def no() -> None:
        raise KernelError(errno.ENOENT, "there is none")

    def never() -> None:
        raise AssertionError

    rows = [probe.Ability("base", "x", "y", no), probe.Ability("part", "x", "y", never, "base")]
    assert probe._try_all(rows) == [
        probe.Result("base", False, "there is none"),
        probe.Result("part", False, "needs base"),
    ]


def test_what_a_lab_must_know() -> None:
    def found(*absent: str) -> list[probe.Result]:
        return [probe.Result(name, name not in absent, f"no {name}") for name in probe.FOR_LABS]

    assert probe.abilities(found()).unserved is None
    assert probe.abilities(found("ipvs")).unserved == "no ipvs"
    assert probe.abilities(found("dummy")).unserved == "no dummy"
    legacy = probe.abilities(found("iptables"))
    assert (legacy.iptables, legacy.legacy_iptables, legacy.lacking) == (True, True, {})
    neither = probe.abilities(found("iptables", "iptables-legacy", "br-netfilter"))
    assert (neither.iptables, neither.legacy_iptables, neither.br_netfilter) == (False,) * 3
    assert neither.lacking["br_netfilter"] == "no br-netfilter"


@pytest.mark.host
def test_work_in_a_namespace_to_throw_away() -> None:
    def spaces() -> list[str]:
        return [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("net", "mnt")]

    said = throwaway.run(spaces)
    assert isinstance(said, list)
    assert not set(said) & set(spaces())
    with pytest.raises(KernelError, match="ZeroDivisionError"):
        throwaway.run(lambda: 1 // 0)
    with pytest.raises(KernelError) as caught:
        throwaway.run(lambda: time.sleep(30), limit=0.1)
    assert caught.value.errno == errno.ETIMEDOUT


@pytest.mark.guest
def test_the_guest_has_what_services_need(guest: Client) -> None:
    answer = guest.call("abilities", load=True)
    found = able(msgspec.convert(answer["results"], list[probe.Result]))
    assert list(found) == NAMES
    nat = {"nft-nat-ip", "nft-nat-ip6"}
    assert {name for name in probe.FOR_LABS if not found[name]} == nat, "docs/decisions.md says so"
    assert all(found[f"ipvs-{name}"] for name in ("rr", "lc", "sh", "mh", "ipv6", "sctp"))


@pytest.mark.host
def test_an_ordinary_user_is_told_what_root_is() -> None:
    """The one of whom it speaks: the trial itself runs in a user namespace then."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            ctypes.CDLL(None).prctl(_SET_DUMPABLE, 1)  # or /proc/self is root's
            code = 0 if probe.attempt(["user-namespaces"])[0].able else 2
        finally:
            os._exit(code)
    able = probe.attempt(["user-namespaces"])[0].able
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (0 if able else 2)
