"""A lab from the command line, on a real kernel: what a person would try in the first hour."""

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.command import SEED, WEB, Hairpin, lab

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hairpin]:
    with lab(tmp_path_factory.mktemp("run"), SEED) as hairpin:
        yield hairpin


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hairpin]:
    with lab(tmp_path_factory.mktemp("run"), WEB) as hairpin:
        yield hairpin


def test_the_seeds_addresses_are_had_exactly(seed: Hairpin) -> None:
    addresses = seed.ok("exec", "node/node", "--", "ip", "-br", "-4", "addr", "show", "cni0")
    assert "172.22.0.1/24" in addresses
    pods = json.loads(seed.ok("get", "pods", "-o", "json"))["items"]
    assert {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods} == {
        "foo": "172.22.0.2",
        "bar": "172.22.0.3",
    }
    assert "172.23.0.1:8080" in seed.ok("exec", "node/node", "--", "ipvsadm", "-Ln")


def test_every_client_is_answered_and_itself_too(seed: Hairpin) -> None:
    for client in ("foo", "bar", "node/node"):
        answers = [
            seed.ok("exec", client, "--", "curl", "-s", "--max-time", "2", "172.23.0.1:8080")
            for _ in range(4)
        ]
        names = ["foo" if "im-foo" in answer else "bar" for answer in answers]
        assert sorted(names) == ["bar", "bar", "foo", "foo"], client


@pytest.mark.parametrize("name", ["ipvsadm", "hairpin"])
def test_virtual_servers_agree_with_ipvsadm(seed: Hairpin, name: str) -> None:
    """Both say the same of what the kernel holds."""
    if name == "ipvsadm":
        seen = seed.ok("exec", "node/node", "--", "ipvsadm", "-Sn")
        assert "-A -t 172.23.0.1:8080 -s rr" in seen
        for pod in ("172.22.0.2", "172.22.0.3"):
            assert f"-a -t 172.23.0.1:8080 -r {pod}:8080 -m -w 1" in seen
    else:
        server = json.loads(seed.ok("get", "vs", "172.23.0.1:8080", "-o", "json"))
        assert server["owner"] == "service default/web"
        assert {one["server"]["ip"] for one in server["real_servers"]} == {
            "172.22.0.2",
            "172.22.0.3",
        }


@pytest.mark.parametrize("kind", ["nodes", "pods", "services", "endpoints", "virtualservers"])
def test_get_in_every_form(seed: Hairpin, kind: str) -> None:
    assert len(seed.ok("get", kind).splitlines()) >= 2
    wide = seed.ok("get", kind, "-o", "wide").splitlines()
    assert len(wide[0].split()) > len(seed.ok("get", kind).splitlines()[0].split())
    as_json = json.loads(seed.ok("get", kind, "-o", "json"))
    as_yaml = yaml.safe_load(seed.ok("get", kind, "-o", "yaml"))
    assert _still(as_json) == _still(as_yaml)
    assert as_json["items"]


_MOVING = ("counters", "rates", "active", "inactive", "persistent")


def _still(value: Any) -> Any:
    """What does not move between two looks, while connections end and rates sink."""
    if isinstance(value, dict):
        return {key: key in _MOVING or _still(inner) for key, inner in value.items()}
    return [_still(one) for one in value] if isinstance(value, list) else value


def test_what_get_prints_as_yaml_can_be_applied_again(seed: Hairpin) -> None:
    before = seed.ok("get", "pods", "-o", "wide")
    manifest = seed.ok("get", "pods", "-o", "yaml") + "---\n" + seed.ok("get", "svc", "-o", "yaml")
    seed.ok("apply", "-f", "-", stdin=manifest)
    assert [line.split()[-2:] for line in seed.ok("get", "pods", "-o", "wide").splitlines()] == [
        line.split()[-2:] for line in before.splitlines()
    ]


def test_exec_keeps_exit_code_and_streams_apart(seed: Hairpin) -> None:
    ran = seed("exec", "foo", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (ran.code, ran.out, ran.err) == (7, "out\n", "err\n")


def test_exec_of_what_is_not_there(seed: Hairpin) -> None:
    ran = seed("exec", "foo", "--", "no-such-program")
    assert ran.code == 127
    assert "no-such-program" in ran.err and "Traceback" not in ran.err


def test_exec_passes_input_whole(seed: Hairpin) -> None:
    data = os.urandom(3 << 20)
    done = subprocess.run(
        [*seed.command, "exec", "foo", "--", "cat"],
        input=data,
        capture_output=True,
        env=seed.env,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout == data


def test_a_shell_without_a_terminal_runs_what_it_reads(seed: Hairpin) -> None:
    """No prompt, and nothing about a terminal that is not there."""
    assert seed("shell", "foo", stdin="hostname\nexit 4\n") == (4, "foo\n", "")
    assert seed("shell", "node/node") == (0, "", "")


def test_exec_ends_when_its_output_is_no_longer_read(seed: Hairpin) -> None:
    line = " ".join([*seed.command, "exec", "foo", "--", "yes"]) + " | head -n 1"
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, env=seed.env, timeout=20, check=False
    )
    assert done.stdout == b"y\n"
    assert b"Traceback" not in done.stderr
    _gone(seed, "yes")


def test_exec_passes_signals(seed: Hairpin) -> None:
    script = "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    process = seed.start("exec", "foo", "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (3, b"got it\n")


def test_exec_says_which_signal_ended_the_command(seed: Hairpin) -> None:
    assert seed("exec", "foo", "--", "sh", "-c", "kill -9 $$").code == 128 + 9


def test_a_killed_client_leaves_no_process(seed: Hairpin) -> None:
    process = seed.start("exec", "foo", "--", "sleep", "4242")
    _wait(lambda: "4242" in seed.ok("exec", "node/node", "--", "ps", "-eo", "args"))
    process.kill()
    process.communicate()
    _gone(seed, "4242")


def test_a_terminal_is_a_terminal(seed: Hairpin) -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    process = subprocess.Popen(
        [*seed.command, "exec", "-it", "foo", "--", "sh"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=seed.env,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(ours, b"tty; hostname; exit 5\n")
    said = b""
    deadline = time.monotonic() + 20
    with contextlib.suppress(OSError):  # EIO: the client has closed its end
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                said += os.read(ours, 4096)
    os.close(ours)
    assert process.wait(5) == 5
    assert b"/dev/pts/" in said and b"foo" in said


def test_a_pod_has_its_own_name_hosts_and_tmp(seed: Hairpin) -> None:
    assert seed.ok("exec", "foo", "--", "hostname") == "foo\n"
    assert "172.22.0.2 foo" in seed.ok("exec", "foo", "--", "cat", "/etc/hosts")
    seed.ok("exec", "foo", "--", "touch", "/tmp/only-here")
    assert "only-here" not in seed.ok("exec", "bar", "--", "ls", "/tmp")
    assert "only-here" in seed.ok("exec", "foo", "--", "ls", "/tmp")


def test_what_is_written_never_reaches_the_host(seed: Hairpin) -> None:
    seed.ok("exec", "node/node", "--", "touch", "/etc/hairpin-was-here", "/usr/bin/hairpin-too")
    assert "hairpin-too" in seed.ok("exec", "node/node", "--", "ls", "/usr/bin")
    assert not Path("/etc/hairpin-was-here").exists()
    assert not Path("/usr/bin/hairpin-too").exists()


def test_iptables_is_the_variant_that_works_here(seed: Hairpin) -> None:
    for program in ("iptables", "ip6tables", "/usr/sbin/iptables"):
        assert "legacy" in seed.ok("exec", "node/node", "--", program, "-V")
    seed.ok("exec", "node/node", "--", "sh", "-c", "iptables-save | iptables-restore")


def test_logs(seed: Hairpin) -> None:
    seed.ok("exec", "bar", "--", "curl", "-s", "172.22.0.2:8080")
    assert '"GET / HTTP/1.1" 200' in seed.ok("logs", "foo")


def test_echo_says_who_answered_and_whom_it_saw(web: Hairpin) -> None:
    (service,) = json.loads(web.ok("get", "svc", "-o", "json"))["items"]
    ip = service["spec"]["clusterIP"]
    clients = [
        pod
        for pod in json.loads(web.ok("get", "pods", "-o", "json"))["items"]
        if "client" in pod["metadata"]["name"]
    ]
    name = clients[0]["metadata"]["name"]
    answer = json.loads(web.ok("exec", name, "--", "curl", "-s", f"{ip}:80"))
    assert answer["pod"] != name and answer["node"] == "node" and answer["namespace"] == "default"


def test_echo_answers_over_udp(web: Hairpin) -> None:
    (service,) = json.loads(web.ok("get", "svc", "-o", "json"))["items"]
    ip = service["spec"]["clusterIP"]
    udp = next(port for port in service["spec"]["ports"] if port["protocol"] == "UDP")
    ask = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3); "
        f"s.sendto(b'hi', ('{ip}', {udp['port']})); print(s.recv(500).decode())"
    )
    answer = json.loads(web.ok("exec", "node/node", "--", "python3", "-c", ask))
    assert answer["serverPort"] == 5353


def test_apply_and_delete_are_followed_at_once(web: Hairpin) -> None:
    more = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: extra, labels: {app: extra}}\n"
        "spec: {containers: [{name: a, ports: [{containerPort: 8080}]}]}\n---\n"
        "apiVersion: v1\nkind: Service\nmetadata: {name: extra}\n"
        "spec: {selector: {app: extra}, ports: [{port: 80, targetPort: 8080}]}\n"
    )
    assert web.ok("apply", "-f", "-", stdin=more).splitlines() == [
        "pod/extra created",
        "service/extra created",
    ]
    service = json.loads(web.ok("get", "svc", "extra", "-o", "json"))
    ip = service["spec"]["clusterIP"]
    answer = web.ok("exec", "node/node", "--", "curl", "-s", "--max-time", "2", ip)
    assert json.loads(answer)["pod"] == "extra"
    assert web.ok("delete", "pod", "extra") == "pod/extra deleted\n"
    assert f"{ip}:80 rr" in web.ok("exec", "node/node", "--", "ipvsadm", "-Ln")
    assert web("exec", "node/node", "--", "curl", "-s", "--max-time", "2", ip).code != 0
    assert web.ok("delete", "svc/extra") == "service/extra deleted\n"
    assert ip not in web.ok("exec", "node/node", "--", "ip", "addr")
    assert "extra" not in web.ok("exec", "node/node", "--", "ip", "netns")
    assert "veth_extra" not in web.ok("exec", "node/node", "--", "ip", "link")
    ran = web("delete", "pod", "extra")
    assert ran.code == 2 and "Pod default/extra" in ran.err


def test_unknown_pod_node_and_container(web: Hairpin) -> None:
    for words, said in (
        (["exec", "nobody", "--", "true"], "there is no Pod nobody"),
        (["exec", "node/nowhere", "--", "true"], "there is no node nowhere"),
        (["shell", "nobody"], "there is no Pod nobody"),
        (["logs", "nobody"], "there is no Pod nobody"),
        (["get", "pod", "nobody"], "nobody"),
        (["set", "salt=on"], "salt is not an ingredient"),
        (["set", "hairpin=maybe"], "off, promisc, port"),
    ):
        ran = web(*words)
        assert ran.code == 2, words
        assert said in ran.err
        assert len(ran.err.splitlines()) <= 2


@pytest.mark.parametrize("moment", [0.05, 0.3, 0.5, 0.8])
def test_ctrl_c_while_starting_leaves_nothing(tmp_path: Path, moment: float) -> None:
    hairpin = Hairpin(tmp_path)
    process = hairpin.start("up", "-f", SEED)
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert hairpin("get", "pods").code == 2
    folder = tmp_path / "hairpin"
    assert not folder.exists() or not any(folder.iterdir())


def test_a_second_up_is_refused(web: Hairpin) -> None:
    ran = web("up", "-f", WEB)
    assert ran.code == 2
    assert "hairpin apply" in ran.err or "hairpin down" in ran.err


def test_a_broken_manifest_changes_nothing_in_a_running_lab(web: Hairpin) -> None:
    before = web.ok("get", "svc", "-o", "yaml")
    bad = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 0}]}\n"
    assert web("apply", "-f", "-", stdin=bad).code == 2
    clash = (
        "apiVersion: v1\nkind: Pod\nmetadata: {name: clash, annotations: "
        "{hairpin.dev/ip: 10.244.0.1}}\nspec: {containers: [{name: a}]}\n"
    )
    ran = web("apply", "-f", "-", stdin=clash)
    assert ran.code == 2 and "10.244.0.1" in ran.err
    assert web.ok("get", "svc", "-o", "yaml") == before
    assert "clash" not in web.ok("exec", "node/node", "--", "ip", "netns")


def _gone(hairpin: Hairpin, word: str) -> None:
    _wait(lambda: word not in hairpin.ok("exec", "node/node", "--", "ps", "-eo", "args"))


def _wait(true: object, seconds: float = 10) -> None:
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
