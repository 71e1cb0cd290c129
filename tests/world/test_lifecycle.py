"""Worlds start, are found, end; and whatever is killed, nothing stays."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
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
    kernel_of,
    processes_of,
    starter,
    wait_for_start,
)

pytestmark = pytest.mark.guest

ROOT = Path(__file__).parents[2]
ISOLATIONS = pytest.mark.parametrize("isolation", ["pidns", "guard"])


def test_a_world_answers_and_is_found(guest: Client) -> None:
    facts = guest.call("ping")
    assert facts["kernel"] != os.uname().release
    assert facts["uptime"] >= 0
    assert guest.name in lifecycle.running()
    assert lifecycle.connect(guest.name).call("ping")["pid"] == facts["pid"]


def test_one_name_one_world(guest: Client) -> None:
    with pytest.raises(LabError, match="running already") as caught:
        lifecycle.start(guest.name, "guest")
    assert caught.value.exit_code == 2
    guest.call("ping")


def test_no_world_is_said_with_the_remedy(runtime_folder: str) -> None:
    for use in (lifecycle.connect, lifecycle.stop):
        with pytest.raises(LabError, match='no lab named "nobody" is running') as caught:
            use("nobody")
        assert caught.value.exit_code == 2
        assert caught.value.remedy is not None
        assert caught.value.remedy.startswith("start one with: hairpin up --lab nobody -f FILE")


@pytest.mark.parametrize("name", ["", "../up", "UPPER", "a" * 50, "-dash"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(LabError, match="not a name"):
        directory.path_of(name)


def test_an_unknown_verb_and_bad_requests_fail_alone(guest: Client) -> None:
    with pytest.raises(LabError):
        guest.call("no-such-verb")
    with pytest.raises(LabError, match="must be a number"):
        guest.call("source", bytes="many")
    with guest.stream("ping") as stream:
        stream.send(3, b"{}")
        list(stream.frames())
    guest.call("ping")


@ISOLATIONS
def test_the_world_ends_with_its_owner(runtime_folder: str, isolation: str) -> None:
    """Ended in order, by Ctrl-C, and by kill -9."""
    for end in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        folder = directory.path_of("owned")
        with starter("owned", isolation) as process:
            wait_for_start(process)
            assert len(processes_of(folder)) >= 3
            process.send_signal(end)
        eventually_nothing(folder)
        eventually_not_running("owned")
        assert not folder.exists()


def test_a_kept_world_outlives_its_owner_until_stopped(runtime_folder: str) -> None:
    with starter("kept", then="keep") as process:
        wait_for_start(process)
    folder = directory.path_of("kept")
    lifecycle.connect("kept").call("ping")
    lifecycle.stop("kept")
    assert not processes_of(folder)
    assert not folder.exists()


@pytest.mark.parametrize("isolation", ["pidns", "guard"])
@pytest.mark.parametrize("victim", ["keeper", "kernel"])
def test_kill_9_leaves_nothing(runtime_folder: str, victim: str, isolation: str) -> None:
    """The other processes end, who waits for an answer is told, the next start works."""
    folder = directory.path_of("victim")
    with starter("victim", isolation, "keep") as process:
        wait_for_start(process)
    client = lifecycle.connect("victim")
    before = processes_of(folder)
    with client.stream("sink", bytes=1) as waiting:
        os.kill({"keeper": keeper_of, "kernel": kernel_of}[victim](folder), signal.SIGKILL)
        with pytest.raises(LabError, match="ended before it answered"):
            list(waiting.frames())
    eventually_nothing(folder, before)
    eventually_not_running("victim")
    with pytest.raises(LabError, match="is running"):
        lifecycle.connect("victim")
    assert not folder.exists(), "what a dead World left is removed by whoever meets it"
    lifecycle.start("victim", "guest", isolation=isolation)[1].close()


def test_the_guard_s_own_death_leaves_nothing(runtime_folder: str) -> None:
    folder = directory.path_of("unguarded")
    with starter("unguarded", "guard", "keep") as process:
        wait_for_start(process)
    kernel = kernel_of(folder)
    guard = int(Path(f"/proc/{kernel}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(guard, signal.SIGKILL)
    eventually_nothing(folder)
    eventually_not_running("unguarded")


@ISOLATIONS
def test_kill_9_at_any_moment_of_the_start(runtime_folder: str, isolation: str) -> None:
    chance = random.Random(7)
    folder = directory.path_of("early")
    for _ in range(50 if LONG else 8):
        with starter("early", isolation) as process:
            time.sleep(chance.uniform(0.0, 0.8))
            process.kill()
        eventually_nothing(folder)
        eventually_not_running("early")
        assert not folder.exists()
    lifecycle.start("early", "guest", isolation=isolation)[1].close()


def test_a_world_that_ended_says_its_last_words(runtime_folder: str) -> None:
    client, owner = lifecycle.start("words", "guest")
    (client.path / directory.CONSOLE).write_text("Kernel panic - not syncing: for a test\n")
    with client.stream("sink", bytes=1) as waiting:
        os.kill(kernel_of(client.path), signal.SIGKILL)
        with pytest.raises(LabError, match="not syncing: for a test"):
            list(waiting.frames())
    owner.close()
    assert not client.path.exists()


def test_a_guest_that_says_it_is_broken_is_given_up(runtime_folder: str) -> None:
    """As when one of its helper processes was killed; silence alone is waited for much longer."""
    client, owner = lifecycle.start("broken", "guest")
    with client.stream("sink", bytes=1) as waiting:
        os.kill(kernel_of(client.path), signal.SIGSTOP)
        with (client.path / directory.CONSOLE).open("a") as console:
            console.write("wait_stub_done : failed to wait for SIGTRAP, pid = 58\n")
        with pytest.raises(LabError, match="killed from outside"):
            list(waiting.frames())
    owner.close()


def test_inherited_output_is_let_go(runtime_folder: str) -> None:
    """``hairpin up | cat`` returns: nothing that stays behind holds the pipe."""
    with starter("silent", then="keep") as process:
        output, _ = process.communicate(timeout=30)
    assert output == "started\n"
    for pid in processes_of(directory.path_of("silent")):
        assert not [link for link in Path(f"/proc/{pid}/fd").iterdir() if is_pipe_of_ours(link)]
    lifecycle.stop("silent")


def is_pipe_of_ours(link: Path) -> bool:
    ours = {str(own.readlink()) for own in Path("/proc/self/fd").iterdir() if own.exists()}
    try:
        target = str(link.readlink())
    except FileNotFoundError:  # closed since the folder was read
        return False
    return target.startswith(("pipe:", "socket:")) and target in ours


@pytest.mark.host
def test_the_host_s_network_is_left_as_it_was(runtime_folder: str) -> None:
    before = host_network()
    with lifecycle.ephemeral("network", "guest") as client:
        client.call("ping")
        during = host_network()
    assert during == before
    assert host_network() == before


def test_down_while_a_client_reads(runtime_folder: str) -> None:
    _, owner = lifecycle.start("reading", "guest")
    owner.keep()
    client = lifecycle.connect("reading")
    with client.stream("source", bytes=1 << 30) as stream:
        stream.wait(timeout=10)
        lifecycle.stop("reading")
        with pytest.raises(LabError, match="ended before it answered"):
            list(stream.frames())
    assert not client.path.exists()


def test_stop_ends_a_keeper_that_does_not_listen(
    runtime_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "_STOP_WAIT", 0.5)
    client, owner = lifecycle.start("deaf", "guest")
    owner.keep()
    os.kill(keeper_of(client.path), signal.SIGSTOP)
    lifecycle.stop("deaf")
    eventually_nothing(client.path)
    assert not client.path.exists()


USER = """
import json, os, signal, sys, threading, time
from hairpin.world import lifecycle
from tests.world.traffic import sink, source
from tests.world.watching import keeper_of
client, owner = lifecycle.start("users", sys.argv[1])
sink(client, 10 << 20)
keeper = keeper_of(client.path)
for moment in (0.02, 0.2):
    busy = threading.Thread(target=source, args=(client, 100 << 20))
    busy.start()
    time.sleep(moment)
    os.kill(keeper, signal.SIGSTOP)
    time.sleep(1)
    os.kill(keeper, signal.SIGCONT)
    busy.join()
owner.keep()
container = {"name": "main", "ports": [{"containerPort": 8080}]}
pods = [
    {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [one]}}
    for name, one in (("echo", container), ("idle", {"name": "main", "command": ["sleep", "9999"]}))
]
client.call("apply", objects=pods)
script = "ip netns add mine && ip netns exec mine ip -br link && touch /etc/mine && id -u"
said = client.call("run", netns="node_node", argv=["sh", "-c", script])["output"]
pods = [pod["status"]["phase"] for pod in client.call("get", kind="pods")]
print(json.dumps([client.call("ping"), lifecycle.running(), str(client.path), said, pods]))
lifecycle.stop("users")
print(json.dumps(lifecycle.running()))
"""


@pytest.mark.host
@pytest.mark.parametrize("kernel", ["guest", "host"])
def test_an_ordinary_user_can_do_it_all(kernel: str) -> None:
    """As uid 65534, with the system's Python, from a copy: the repository may not be readable.

    With the smaller socket buffers of such a user, the channel still never fills up.
    """
    home = Path(
        subprocess.check_output(["mktemp", "-d", "/tmp/hairpin-user-XXXXXX"], text=True)[:-1]
    )
    try:
        home.chmod(0o700)
        code = home / "code"
        shutil.copytree(ROOT / "src", code / "src")
        shutil.copytree(ROOT / "tests", code / "tests")
        site = next(Path(p) for p in sys.path if (Path(p) / "msgspec").is_dir())
        shutil.copytree(site / "msgspec", code / "src" / "msgspec")
        (home / "run").mkdir()
        for path in (home, *home.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--",
             "/usr/bin/python3", "-c", USER, kernel],
            env={
                "HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run"), "PATH": "/usr/bin:/bin",
                "PYTHONPATH": f"{code}:{code / 'src'}",
            },
            capture_output=True, text=True, cwd=home, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        first, last = (json.loads(line) for line in done.stdout.splitlines())
        facts, running, folder, said, phases = first
        assert (facts["kernel"] == os.uname().release) == (kernel == "host")
        assert (running, folder) == (["users"], str(home / "run/hairpin/users"))
        assert said.startswith("lo ")
        assert said.endswith("\n0\n")
        assert set(phases) == {"Running"}
        assert not Path("/etc/mine").exists()
        assert last == []
        eventually_nothing(home)
    finally:
        shutil.rmtree(home)
