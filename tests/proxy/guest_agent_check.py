"""The agent in IPVS mode: one plain function, run in a guest as root.

``hairpin proxy run`` is a process of its own, beside an API server in this one.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from hairpin.kernel.modules import Modules
from tests.proxy.agent_node import NODE_IP, AgentNode, end
from tests.proxy.guest_node import furnish
from tests.source.api_objects import endpoints, node, service

MODULES: Modules | None = None
_START = 60.0  # seconds: importing is slow in the guest
_YEAR = 365.2425 * 86400  # seconds
_2001 = 1_000_000_000  # seconds of the epoch: in September of that year


def check_0_modules() -> None:
    furnish(MODULES)


def _servers(home: AgentNode) -> str:
    with home.netns.entered():
        return subprocess.run(["ipvsadm", "-Sn"], capture_output=True, text=True, check=True).stdout


def _let_the_clock_jump(home: AgentNode) -> None:
    """Ten years on, and to 2001: nothing is read anew, nothing is late, changes are followed."""
    asked = len(home.server.requests)
    real, steady = time.time(), time.monotonic()
    try:
        for number, jump in enumerate((10 * _YEAR, _2001 - real)):
            time.clock_settime(time.CLOCK_REALTIME, real + jump)
            name, pod = f"10.96.9.{number + 1}:80", f"10.244.0.{number + 1}:8080"
            home.server.store.put(service(f"jump-{number}", name.partition(":")[0]))
            home.server.store.put(endpoints(f"jump-{number}", pod.partition(":")[0]))
            home.until(lambda name=name, pod=pod: f"-t {name} -r {pod}" in _servers(home), 20)  # type: ignore[misc]
            for path in ("/healthz", "/livez"):
                code, body = home.ask(10256, path)
                assert code == 200 and json.loads(body)["healthy"], body
            year = 1970 + int((real + jump) / _YEAR)
            assert json.loads(body)["currentTime"].startswith(str(year)), body
    finally:
        time.clock_settime(time.CLOCK_REALTIME, real + time.monotonic() - steady)
    assert len(home.server.requests) == asked, home.server.requests[asked:]
    metrics = home.ask(10249, "/metrics")[1]
    assert "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0.0" in metrics.splitlines()


def _watched(requests: list[str]) -> set[str]:
    """The kinds that the agent asked to watch, by their paths."""
    return {one.partition("?")[0] for one in requests if "watch=true" in one}


def check_the_agent_serves_by_ipvs() -> None:
    folder = Path(tempfile.mkdtemp(dir="/run"))
    home = AgentNode(folder, "ipvs")
    try:
        store = home.server.store
        this = node()
        this["status"] = {"addresses": [{"type": "InternalIP", "address": NODE_IP}]}
        store.put(this)
        store.put(service("web", "10.96.0.1"))
        store.put(endpoints("web", "10.244.0.1"))
        home.pod("10.244.0.1")
        home.pod("10.244.0.2")
        agent = home.start()
        home.until(lambda: "the first sync is done" in home.log, _START)
        held = home.connect("10.96.0.1")
        assert held.makefile().readline().strip() == "10.244.0.1"
        # Another endpoint, while the watch is cut: the old one's connection lives on, at weight 0.
        before = len(home.server.requests)
        home.server.cut()
        store.put(endpoints("web", "10.244.0.2"))
        home.until(lambda: "10.244.0.1:8080 -m -w 0" in _servers(home), _START)
        home.until(lambda: home.connect("10.96.0.1").makefile().readline().strip() == "10.244.0.2")
        held.sendall(b"still there\n")
        assert held.recv(100) == b"still there\n"
        watched = _watched(home.server.requests[:before])
        home.until(lambda: _watched(home.server.requests[before:]) == watched, _START)
        _let_the_clock_jump(home)
        held.sendall(b"still there\n")
        assert held.recv(100) == b"still there\n"
        code, body = home.ask(10256, "/healthz")
        assert code == 200 and json.loads(body)["nodeEligible"]
        assert home.ask(10249, "/proxyMode") == (200, "ipvs")
        status = Path(f"/proc/{agent.pid}/status").read_text()
        assert f"CapEff:\t{1 << 12 | 1 << 13:016x}" in status
        assert end(agent) == 0
        servers = _servers(home)
        assert "-a -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 1" in servers
        home.start()
        home.until(lambda: home.log.count("the first sync is done") == 2, _START)
        said = [line for line in home.log.splitlines() if "the first sync is done" in line][-1]
        assert "changes=0 failed=0" in said, home.log
        assert _servers(home) == servers and "Traceback" not in home.log
    finally:
        home.close()
        assert os.getpid() == 1
