"""``hairpin proxy run`` as a process in a namespace of the host, with an API server beside it."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_server.server import Server
from tests.proxy.agent_node import NODE, NODE_IP, PROGRAM, AgentNode, end
from tests.source.api_objects import endpoints, node, service

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]
LONG = bool(os.environ.get("HAIRPIN_LONG"))
SEED = os.environ.get("HAIRPIN_SEED", "1")
Make = Callable[..., AgentNode]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[AgentNode] = []

    def one(mode: str = "nftables", server: Server | None = None) -> AgentNode:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(AgentNode(folder, mode, server))
        return made[-1]

    yield one
    for each in made:
        each.close()


def this_node(**more: Any) -> dict[str, Any]:
    thing = node()
    thing["spec"] = {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"], **more}
    thing["status"] = {"addresses": [{"type": "InternalIP", "address": NODE_IP}]}
    return thing


def here(name: str, *addresses: str) -> dict[str, Any]:
    found = endpoints(name, *addresses)
    for one in found["endpoints"]:
        one["nodeName"] = NODE
    return found


def first_line(connection: socket.socket) -> str:
    return connection.makefile().readline().strip()


def rules_said(home: AgentNode, table: str) -> bool:
    """Whether the metrics count the rules that iptables-save shows."""
    name = f'rules_iptables_total{{ip_family="IPv4",table="{table}"}} '
    lines = home.ask(10249, "/metrics")[1].splitlines()
    said = [line.partition(name)[2] for line in lines if name in line]
    with home.netns.entered():
        argv = ["iptables-save", "-t", table]
        saved = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return [float(one) for one in said] == [saved.count("\n-A ")]


def says_how_it_is(home: AgentNode, mode: str) -> None:
    """As kube-proxy does."""
    code, body = home.ask(10256, "/healthz", NODE_IP)
    said = json.loads(body)
    assert code == 200 and said["nodeEligible"] is True and said["healthy"] is True
    assert set(said["status"]) <= {"IPv4", "IPv6"} and said["status"]["IPv4"]["healthy"] is True
    assert home.ask(10249, "/proxyMode") == (200, mode)
    assert home.ask(10249, "/healthz") == (200, "ok")
    assert home.ask(10249, "/nothing")[0] == 404
    assert f"\nproxy-mode={mode}\n" in home.ask(10249, "/flagz")[1]
    configuration = json.loads(home.ask(10249, "/configz")[1])["kubeproxy.config.k8s.io"]
    assert configuration["mode"] == mode and configuration[mode]["syncPeriod"] == "30s"
    metrics = home.ask(10249, "/metrics")[1]
    for line in (
        "kubeproxy_sync_proxy_rules_service_changes_total 2.0",
        'kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1.0',
        'kubeproxy_proxy_healthz_total{code="200"} 1.0',
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0.0",
    ):
        assert line in metrics.splitlines()
    if mode == "iptables":  # counted anew every ten seconds at most
        home.until(lambda: all(rules_said(home, table) for table in ("nat", "filter")))


def answers_load_balancers(home: AgentNode, mode: str) -> None:
    """The health check node port counts this node's endpoints."""
    store = home.server.store
    where = NODE_IP if mode == "nftables" else "127.0.0.1"
    code, body = home.ask(30999, "/", where)
    assert code == 200 and json.loads(body) == {
        "service": {"namespace": "default", "name": "lb"},
        "localEndpoints": 1,
        "serviceProxyHealthy": True,
    }
    store.put(endpoints("lb", "10.244.0.1"))  # of another node now
    home.until(lambda: home.ask(30999, "/", where)[0] == 503)
    store.delete("Service", "default", "lb")
    home.until(lambda: home.ask(30999, "/", where)[0] == 0)


def lets_go_of_a_node_about_to_go(home: AgentNode) -> None:
    """It gets no more traffic from load balancers, and lives."""
    taint = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}
    home.server.store.put(this_node(taints=[taint]))
    home.until(lambda: home.ask(10256, "/healthz")[0] == 503)
    code, body = home.ask(10256, "/livez")
    assert code == 200 and "nodeEligible" not in json.loads(body)


def has_no_more_than_named(home: AgentNode, agent: subprocess.Popen[str], mode: str) -> None:
    """No right is left but what the mode needs, and no socket listens but those named."""
    status = Path(f"/proc/{agent.pid}/status").read_text()
    rights = {
        line.split()[0]: int(line.split()[1], 16)
        for line in status.splitlines()[:60]
        if line.startswith("Cap")
    }
    allowed = 1 << 12 if mode == "nftables" else 1 << 12 | 1 << 13
    assert rights["CapEff:"] == rights["CapPrm:"] == rights["CapBnd:"] == allowed
    with home.netns.entered():
        listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True)
    own = [line.split()[3] for line in listening.stdout.splitlines() if f"pid={agent.pid}," in line]
    assert sorted(own) == ["*:10256", "127.0.0.1:10249"], "0.0.0.0 is every address, as in Go"


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_a_node_is_served_and_says_how_it_is(make: Make, mode: str) -> None:
    home = make(mode)
    store = home.server.store
    store.put(this_node())
    store.put(service("web", "10.96.0.1"))
    store.put(endpoints("web", "10.244.0.1"))
    lb = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30999}
    store.put(service("lb", "10.96.0.9", **lb))
    if mode == "nftables":
        cidrs = {"spec": {"cidrs": ["10.96.0.0/16"]}, "metadata": {"name": "kubernetes"}}
        store.put({"kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1", **cidrs})
    store.put(here("lb", "10.244.0.1"))
    home.pod("10.244.0.1")
    home.pod("10.244.0.2")
    agent = home.start()
    home.until(lambda: "the first sync is done" in home.log)

    # It serves, and follows.
    held = home.connect("10.96.0.1")
    assert first_line(held) == "10.244.0.1"
    store.put(endpoints("web", "10.244.0.1", "10.244.0.2"))
    home.until(lambda: first_line(home.connect("10.96.0.1")) == "10.244.0.2")

    if mode == "nftables":  # a ClusterIP that no Service has is nobody's
        assert "ip daddr 10.96.0.0/16 drop" in home.ruleset()
        store.delete("ServiceCIDR", "", "kubernetes")
        home.until(lambda: "10.96.0.0/16 drop" not in home.ruleset())

    says_how_it_is(home, mode)
    answers_load_balancers(home, mode)
    lets_go_of_a_node_about_to_go(home)
    has_no_more_than_named(home, agent, mode)

    # It ends as it should; what it made stays, and another one finds nothing to do.
    assert end(agent) == 0
    held.sendall(b"still there\n")
    assert held.recv(100) == b"still there\n"
    assert first_line(home.connect("10.96.0.1")).startswith("10.244.0.")
    rules = home.ruleset()
    home.start("--logging-format", "json")
    home.until(lambda: home.log.count("the first sync is done") == 2)
    last = json.loads(home.log.splitlines()[-1])
    assert last["msg"] == "the first sync is done" and last["changes"] == last["failed"] == 0
    assert home.ruleset() == rules


def test_settings_are_made_without_any_program(make: Make) -> None:
    """As the DaemonSet's first container does it, whose image need not have nft."""
    home = make()
    argv = [*PROGRAM, "--proxy-mode", "nftables", "--init-only"]
    with home.netns.entered():
        ran = subprocess.run(
            argv, capture_output=True, text=True, check=False, env={"PATH": "/nowhere"}
        )
    assert ran.returncode == 0 and "prepared mode=nftables" in ran.stderr, ran.stderr


def test_a_variant_of_iptables_that_is_asked_for(make: Make) -> None:
    """And cleanup takes away what is in that one."""
    home = make("iptables")
    store = home.server.store
    store.put(this_node())
    store.put(service("web", "10.96.0.1"))
    store.put(endpoints("web", "10.244.0.1"))
    home.pod("10.244.0.1")
    agent = home.start("--iptables", "legacy")
    home.until(lambda: "the first sync is done" in home.log)

    def held(variant: str) -> bool:
        with home.netns.entered():
            argv = [f"iptables-{variant}-save"]
            ran = subprocess.run(argv, capture_output=True, text=True, check=True)
        return "default/web" in ran.stdout

    assert held("legacy") and not held("nft")
    assert first_line(home.connect("10.96.0.1")) == "10.244.0.1" and end(agent) == 0
    argv = [sys.executable, "-m", "hairpin.cli.main", "proxy", "cleanup", "--iptables"]
    for variant, left in (("nft", True), ("legacy", False)):
        with home.netns.entered():
            ran = subprocess.run([*argv, variant], capture_output=True, text=True, check=False)
        assert ran.returncode == 0 and held("legacy") is left, ran.stderr


def test_another_mode_takes_over(make: Make) -> None:
    """What the first mode made goes once the second one serves; connections go on."""
    home = make("iptables")
    store = home.server.store
    store.put(this_node())
    store.put(service("web", "10.96.0.1"))
    store.put(endpoints("web", "10.244.0.1"))
    home.pod("10.244.0.1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(20)
        systemd.bind(str(home.folder / "notify"))
        agent = home.start(before=("env", f"NOTIFY_SOCKET={home.folder}/notify"))
        assert systemd.recv(100) == b"READY=1" and "the first sync is done" in home.log
        held = home.connect("10.96.0.1")
        assert first_line(held) == "10.244.0.1" and "default/web" in home.ruleset()
        assert end(agent) == 0 and systemd.recv(100) == b"STOPPING=1"
    cidrs = {"spec": {"cidrs": ["10.96.0.0/16"]}, "metadata": {"name": "kubernetes"}}
    store.put({"kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1", **cidrs})
    agent = home.start(
        *("--proxy-mode", "nftables"),
        # As a container with this right alone has it: nothing can be tried out, nothing dropped.
        before=("setpriv", "--bounding-set", "-all,+net_admin"),
    )
    home.until(lambda: "leftovers of another mode are gone mode=iptables" in home.log)
    assert "default/web" not in home.ruleset() and "KUBE-SVC" not in home.ruleset()
    assert "a leftover of another mode stays" not in home.log
    held.sendall(b"still there\n")
    assert held.recv(100) == b"still there\n"
    assert first_line(home.connect("10.96.0.1")) == "10.244.0.1"
    assert home.ask(10249, "/proxyMode") == (200, "nftables")
    home.mode = "nftables"
    assert "default/web" in home.ruleset() and end(agent) == 0
    # Before a take-over one can see what it would change: nothing here, and all in another mode.
    assert home.differences("--proxy-mode", "nftables") == (0, "")
    code, said = home.differences("--proxy-mode", "iptables")
    assert code == 1 and "service default/web" in said


def test_nothing_is_removed_before_all_is_known(make: Make) -> None:
    home = make()
    home.server.faults.service_cidrs = home.server.faults.streamed_lists = False  # as 1.21
    store = home.server.store
    store.put(this_node())
    store.put(service("web", "10.96.0.1"))
    store.put(endpoints("web", "10.244.0.1"))
    home.pod("10.244.0.1")
    agent = home.start()
    home.until(lambda: "the first sync is done" in home.log)
    assert end(agent) == 0
    rules = home.ruleset()
    home.server.stop()
    agent = home.start()
    home.until(lambda: "refused" in home.log)
    time.sleep(0.5)
    assert home.ruleset() == rules and home.ask(10256, "/livez")[0] == 200
    home.server.faults.answer = (403, "services is forbidden", {})  # as a server that starts
    home.restart_server()
    home.until(lambda: "403" in home.log)
    assert home.ruleset() == rules
    assert first_line(home.connect("10.96.0.1")) == "10.244.0.1"
    home.server.faults.answer = None
    store.put(service("new", "10.96.0.2"))
    home.until(lambda: "default/new" in home.ruleset())
    assert "default/web" in home.ruleset() and end(agent) == 0


def test_ends_where_a_fresh_start_ends(make: Make, tmp_path: Path) -> None:
    """A random walk under faults: HAIRPIN_LONG makes it a minute of each."""
    rng = random.Random(SEED)
    home = make()
    store, faults = home.server.store, home.server.faults
    store.put(this_node())
    pods = [f"10.244.0.{n}" for n in range(1, 6)]
    for one in pods:
        home.pod(one)
    names = [f"web-{n}" for n in range(8)]
    for n, name in enumerate(names):
        store.put(service(name, f"10.96.0.{n + 1}"))
        store.put(endpoints(name, pods[0], pods[n % 4 + 1]))
    home.start()
    home.until(lambda: "the first sync is done" in home.log)
    held = [home.connect(f"10.96.0.{n + 1}") for n in range(len(names))]
    for each in held:
        first_line(each)
    steps = 600 if LONG else 60
    for step in range(steps):
        name = rng.choice(names[1:])
        match rng.randrange(12):
            case 0 | 1 | 2 | 3 | 4 | 5:
                store.put(endpoints(name, pods[0], *rng.sample(pods[1:], rng.randrange(4))))
            case 6:
                faults.cut_watch_after = rng.choice([None, 0.2, 1.0])
            case 7:
                faults.gone_watches = rng.randrange(4)
            case 8:
                faults.twice, faults.swapped = rng.random() < 0.5, rng.random() < 0.5
            case 9:
                home.server.cut()
            case 10:
                faults.truncate_event = True
            case 11 if step % 5 == 0:
                home.server.stop()
                store.put(endpoints(name, pods[0]))
                if rng.random() < 0.5:
                    store.compact()
                home.restart_server()
        time.sleep(rng.random() * 0.1)
    faults.cut_watch_after, faults.gone_watches, faults.truncate_event = None, 0, False
    faults.twice = faults.swapped = False
    store.put(service("last", "10.96.9.9"))
    home.until(lambda: "default/last" in home.ruleset(), 60)
    fresh = make("nftables", Server(store))
    fresh.start()
    fresh.until(lambda: "the first sync is done" in fresh.log)
    home.until(lambda: home.ruleset() == fresh.ruleset())
    for each in held:  # its endpoint may have gone since: that does not end what is open
        each.sendall(b"still there\n")
        assert each.recv(100) == b"still there\n"


def test_what_is_wrong_is_said_before_anything_is_done(make: Make, tmp_path: Path) -> None:
    home = make()
    for words, said in (
        (["--kubeconfig", str(tmp_path / "none")], "none: cannot be read: no such file"),
        (["--proxy-mode", "userspace"], "--proxy-mode"),
        (["--config", str(tmp_path / "none")], "cannot be read"),
    ):
        agent = home.start(*words)
        assert agent.wait(20) == 2
        assert said in home.log and "Traceback" not in home.log
