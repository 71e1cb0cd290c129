"""What a command finds in the guest: a system of its own, that nothing leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hairpin.lab.names import node_netns
from hairpin.lab.session import LabError
from hairpin.world import lifecycle
from hairpin.world.client import Client
from hairpin.world.guest import DEVICE

pytestmark = pytest.mark.guest

Shell = Callable[[str], str]


def shell_of(client: Client) -> Shell:
    """Runs a line of shell in the guest's root network namespace."""
    client.call("bare", nodes=["n"])

    def run(line: str) -> str:
        argv = ["nsenter", "-t", "1", "-n", "sh", "-c", line]
        answer = client.call("run", netns=node_netns("n"), argv=argv)
        return str(answer["output"])

    return run


@pytest.fixture(scope="module")
def world(runtime_folder: str) -> Iterator[Client]:
    with lifecycle.ephemeral("system", "guest") as client:
        yield client


@pytest.fixture(scope="module")
def shell(world: Client) -> Shell:
    return shell_of(world)


def test_everything_can_be_written_and_nothing_reaches_the_host(shell: Shell) -> None:
    mark = f"hairpin-test-{os.getpid()}"
    for folder in ("/etc", "/usr/bin", "/root", "/run", "/tmp", "/var/lib"):
        assert shell(f"echo here > {folder}/{mark} && cat {folder}/{mark}") == "here\n"
        assert not Path(folder, mark).exists()


def test_iptables_is_the_legacy_one_by_any_name(shell: Shell) -> None:
    for command in ("iptables", "ip6tables"):
        for suffix in ("", "-save", "-restore"):
            for path in (command + suffix, f"/usr/sbin/{command}{suffix}"):
                assert "legacy" in shell(f"{path} --version"), path
    assert "-P FORWARD ACCEPT" in shell("iptables -S; ip6tables -S")


def test_the_kernel_brings_modules_when_they_are_needed(shell: Shell) -> None:
    assert "sctp" in shell("modprobe sctp && cat /proc/net/protocols")
    shell("ipvsadm -A -t 192.0.2.1:80 -s wlc && ipvsadm -D -t 192.0.2.1:80")


def test_the_channel_is_nobody_s_network(shell: Shell) -> None:
    links = json.loads(shell("ip -j -d addr"))
    assert {link["ifname"] for link in links} == {"lo", DEVICE}
    channel = next(link for link in links if link["ifname"] == DEVICE)
    assert channel["addr_info"] == []
    assert next(link for link in links if link["ifname"] == "lo")["operstate"] == "UNKNOWN"
    assert shell(f"cat /proc/sys/net/ipv6/conf/{DEVICE}/disable_ipv6") == "1\n"
    assert shell("cat /proc/sys/net/ipv6/conf/default/disable_ipv6") == "0\n"


def test_the_usual_places_are_there(shell: Shell) -> None:
    assert shell("hostname; cat /dev/stdin </dev/null; echo out >/dev/stdout").endswith("out\n")
    assert shell("stat -f -c %T /proc /sys /dev /dev/pts /dev/shm /run /tmp").split() == [
        "proc", "sysfs", "tmpfs", "devpts", "tmpfs", "tmpfs", "tmpfs"
    ]  # fmt: skip
    assert "nameserver" not in shell("cat /etc/resolv.conf")
    shell("ip netns add by-hand && ip netns exec by-hand true && ip netns del by-hand")


def test_orphans_are_reaped(shell: Shell) -> None:
    shell("for i in 1 2 3 4 5; do (true &) ; done; sleep 0.2")
    states = shell("cat /proc/[0-9]*/stat 2>/dev/null | sed 's/.*) //' | cut -c1")
    assert "Z" not in states


def test_a_lab_process_that_dies_ends_the_world_and_says_so(runtime_folder: str) -> None:
    client, owner = lifecycle.start("dies", "guest")
    shell, pid = shell_of(client), client.call("ping")["pid"]
    with pytest.raises(LabError, match="the lab process ended with wait status 0x9"):
        shell(f"kill -9 {pid}; sleep 10")
    owner.close()
    assert not client.path.exists()


def test_the_guest_s_changes_of_etc_are_its_own(runtime_folder: str) -> None:
    """It boots with links and files of its own in /etc: the host's stay as they are."""

    def etc() -> dict[str, str]:
        links = Path("/etc/alternatives").iterdir()
        seen = {str(link): str(link.readlink()) for link in links if link.is_symlink()}
        resolver = Path("/etc/resolv.conf")
        return {**seen, "resolver": resolver.read_text() if resolver.exists() else "none"}

    before = etc()
    with lifecycle.ephemeral("etc", "guest") as client:
        assert "legacy" in shell_of(client)("iptables -V")
    assert etc() == before


def test_it_refuses_to_be_anything_but_the_guest(tmp_path: Path) -> None:
    from hairpin.world import guest

    (tmp_path / "world.json").write_text('{"modules": "/lib/modules/6.1.176"}')
    with pytest.raises(RuntimeError, match="not the embedded kernel"):
        guest.main(str(tmp_path), [])
