"""Worlds on the host's own kernel: what they see, what they may not change, how they end."""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hairpin.lab.session import LabError
from hairpin.world import directory, lifecycle
from hairpin.world.client import Client
from tests.world.watching import (
    LONG,
    eventually_not_running,
    eventually_nothing,
    host_network,
    keeper_of,
    processes_of,
    starter,
    wait_for_start,
)

pytestmark = pytest.mark.host

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "idle", "labels": {"app": "idle"}},
    "spec": {"containers": [{"name": "main", "command": ["sleep", "98765"]}]},
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "idle"},
    "spec": {"selector": {"app": "idle"}, "ports": [{"port": 80}]},
}


def run(client: Client, script: str, netns: str = "node_node") -> str:
    """What a shell prints in a namespace of the lab; a failure is a LabError."""
    output: str = client.call("run", netns=netns, argv=["sh", "-c", script])["output"]
    return output


def ours(folder: Path) -> dict[int, str]:
    """Processes by what each is, from PID 1 on."""
    found = {}
    for pid, arguments in processes_of(folder).items():
        if " hosted " in arguments:
            status = Path(f"/proc/{pid}/status").read_text()
            inside = status.partition("NSpid:")[2].splitlines()[0].split()[-1]
            found[pid] = "first" if inside == "1" else "lab" if inside == "2" else "other"
    return found


def test_it_is_the_host_s_kernel_in_namespaces_of_its_own(runtime_folder: str) -> None:
    with lifecycle.ephemeral("own", "host") as client:
        assert client.call("ping")["kernel"] == os.uname().release
        client.call("apply", objects=[POD])
        said = run(client, "readlink /proc/self/ns/net /proc/self/ns/mnt /proc/self/ns/pid")
        theirs = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("net", "mnt", "pid")]
        assert not set(said.split()) & set(theirs)
        assert "hosted" in run(client, "tr '\\0' ' ' < /proc/1/cmdline")
        assert run(client, "hostname") == "node\n"


@pytest.fixture
def tmp_file() -> Iterator[Path]:
    """A file of the host where a World has no folder of its own."""
    with tempfile.NamedTemporaryFile(prefix="hairpin-test-", dir="/var/tmp") as file:
        yield Path(file.name)


def test_nothing_of_the_host_changes(runtime_folder: str, tmp_file: Path) -> None:
    """Whatever root does inside: files, names of namespaces, settings, links, rules, mounts."""
    before = host_network()
    mounts = Path("/proc/self/mountinfo").read_text()
    hosts = Path("/etc/hosts").read_bytes()
    with lifecycle.ephemeral("safe", "host") as client:
        client.call("apply", objects=[POD])
        run(client, "echo 192.0.2.1 here >> /etc/hosts && touch /usr/lib/mine /srv/mine /mine")
        run(client, "ip netns add mine && ip netns exec mine ip link set lo up")
        run(client, "echo 0 > /proc/sys/net/ipv4/ip_forward && ip link add x0 type bridge")
        run(client, "iptables -A INPUT -s 192.0.2.9 -j DROP && mount -t tmpfs none /mnt")
        run(client, f"mkdir /var/lib/mine && rm {tmp_file} && ! test -e {tmp_file}")
        assert "mine" in run(client, "ip netns")
        with pytest.raises(LabError, match="Read-only"):
            run(client, "was=$(cat /proc/sys/vm/swappiness) && echo $was > /proc/sys/vm/swappiness")
        during = host_network()
        assert Path("/proc/self/mountinfo").read_text() == mounts
    after = host_network()
    assert during == before
    assert after == before
    assert Path("/etc/hosts").read_bytes() == hosts
    for path in ("/usr/lib/mine", "/srv/mine", "/mine", "/var/lib/mine", "/run/netns/mine"):
        assert not Path(path).exists()
    assert tmp_file.exists()


def test_pods_run_where_services_cannot_be_served(runtime_folder: str) -> None:
    with lifecycle.ephemeral("unserved", "host") as client:
        facts = lifecycle.facts(client.name)
        answer = client.call("apply", objects=[POD, SERVICE])
        pods = client.call("get", kind="pods")
        assert {pod["status"]["phase"] for pod in pods} == {"Running"}
        served = facts["abilities"]["ipvs"] and facts["abilities"]["dummy"]
        assert (answer["unserved"] is None) == served
        if served:
            return
        (service,) = (
            one for one in client.call("get", kind="services") if one["metadata"]["name"] == "idle"
        )
        assert service["status"]["conditions"][0]["message"] == answer["unserved"]
        assert client.call("get", kind="virtualservers") == []
        values = {one["name"]: one["value"] for one in client.call("get", kind="ingredients")}
        assert values["forwarding"] == "on"
        for name, ability in (("vip-local", "dummy"), ("ipvs-conntrack", "ipvs_conntrack")):
            if not facts["abilities"][ability]:
                assert values[name] == "absent"
                with pytest.raises(LabError, match=f"has no ingredient {name}") as caught:
                    client.call("set", ingredients={name: "off"})
                assert caught.value.exit_code == 2
        assert client.call("set", ingredients={"forward-accept": "off"})["commands"]


@pytest.mark.parametrize("victim", ["keeper", "first", "lab"])
def test_kill_9_leaves_nothing(runtime_folder: str, victim: str) -> None:
    """The other processes end, who waits for an answer is told, the next start works."""
    folder = directory.path_of("struck")
    with starter("struck", "auto", "keep", "host") as process:
        wait_for_start(process)
    client = lifecycle.connect("struck")
    client.call("apply", objects=[POD])
    idle = int(run(client, "pgrep -n -f 'sleep 98765'"))
    assert idle > 2, "the Pod's process is in the World's PID namespace"
    found = ours(folder)
    with client.stream("sink", bytes=1) as waiting:
        if victim == "keeper":
            os.kill(keeper_of(folder), signal.SIGKILL)
        else:
            os.kill(next(pid for pid, what in found.items() if what == victim), signal.SIGKILL)
        with pytest.raises(LabError, match="ended before it answered"):
            list(waiting.frames())
    eventually_nothing(folder)
    for _ in range(500):
        if not any("sleep\x0098765" in one for one in _command_lines()):
            break
        time.sleep(0.02)
    else:
        pytest.fail("the Pod's process is left")
    eventually_not_running("struck")
    assert not folder.exists()
    lifecycle.start("struck", "host")[1].close()


def _command_lines() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            found.append((entry / "cmdline").read_text() if entry.name.isdigit() else "")
        except (OSError, UnicodeDecodeError):
            continue
    return found


def test_kill_9_at_any_moment_of_the_start(runtime_folder: str) -> None:
    chance = random.Random(11)
    folder = directory.path_of("soon")
    for _ in range(50 if LONG else 8):
        with starter("soon", kernel="host") as process:
            time.sleep(chance.uniform(0.0, 0.4))
            process.kill()
        eventually_nothing(folder)
        eventually_not_running("soon")
        assert not folder.exists()
    lifecycle.start("soon", "host")[1].close()


def test_down_ends_it_and_the_owner_s_end_too(runtime_folder: str) -> None:
    folder = directory.path_of("ends")
    with starter("ends", then="keep", kernel="host") as process:
        wait_for_start(process)
    lifecycle.stop("ends")
    assert not processes_of(folder)
    assert not folder.exists()
    with starter("ends", kernel="host") as process:
        wait_for_start(process)
        assert len(processes_of(folder)) >= 3
        process.send_signal(signal.SIGINT)
    eventually_nothing(folder)


def test_several_nodes_meet_on_the_host_s_kernel(runtime_folder: str) -> None:
    """Pods of two nodes by their own addresses, in both families; no Service is needed for it."""
    nodes = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"n{number}"},
            "spec": {"podCIDRs": [f"10.244.{number}.0/24", f"fd00:10:244:{number}::/64"]},
        }
        for number in (1, 2)
    ]
    pods = [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "nodeName": node,
                "hostNetwork": host,
                "containers": [{"name": "echo", "ports": [{"containerPort": port}]}],
            },
        }
        for name, node, host, port in (
            ("a", "n1", False, 8080),
            ("b", "n2", False, 8080),
            ("h", "n2", True, 9376),
        )
    ]
    with lifecycle.ephemeral("meeting", "host") as client:
        answer = client.call("apply", objects=[*nodes, *pods])
        assert not answer["warnings"]
        shown = {one["metadata"]["name"]: one for one in client.call("get", kind="pods")}
        for family in (0, 1):
            own = shown["a"]["status"]["podIPs"][family]["ip"]
            for name, port in (("b", 8080), ("h", 9376)):
                ip = shown[name]["status"]["podIPs"][family]["ip"]
                attempt = {"netns": "a", "probe": {"ip": ip, "port": port}}
                ((seen,),) = client.call("probe", attempts=[attempt])
                said = json.loads(seen["body"])
                assert (said["pod"], said["node"], said["client"]) == (name, "n2", own)
        assert run(client, "hostname", "node_n2") == "n2\n"
