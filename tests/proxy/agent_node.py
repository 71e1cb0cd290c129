"""A node of its own for an agent: a namespace of the host with an API server, Pods' servers, and
``hairpin proxy run`` in it, as a process that is asked and read from outside."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hairpin.kernel.apply import Kernel
from hairpin.model.address import ip, network
from hairpin.state.change import Change
from hairpin.state.links import Address, Link, Netns, Route
from tests.api_server.server import Server

PROGRAM = [
    sys.executable,
    "-ISc",
    f"import sys; sys.path[:0] = {[one for one in sys.path if one]!r}; "
    "from hairpin.cli.main import main; sys.exit(main(['proxy', 'run', *sys.argv[1:]]))",
]
"""Finds what this process finds, also in the guest, where nothing is installed."""
NODE, NODE_IP = "node1", "172.31.0.2"


class AgentNode:
    """One namespace; everything in it ends with ``close``."""

    def __init__(self, folder: Path, mode: str, server: Server | None = None) -> None:
        self.folder = folder
        self.mode = mode
        self.kernel = Kernel()
        self.name = f"hairpin-agent-{os.getpid()}-{id(self):x}"
        failed = self.kernel.apply(
            [
                Change(verb="add", netns="", object=Netns(name=self.name)),
                self._add(Link(name="eth9", type="bridge")),
                *(self._add(Address(link="eth9", ip=ip(one), prefix=32)) for one in _ADDRESSES),
                self._add(Route(to=network("0.0.0.0/0"), link="eth9")),
            ]
        )
        assert not failed, failed
        self.netns = self.kernel.namespaces[self.name]
        self.server = server or Server()
        with self.netns.entered():  # a socket stays where it was made
            self.server.start()
        self._pods: list[socket.socket] = []
        self._agents: list[subprocess.Popen[str]] = []

    def _add(self, thing: Any) -> Change:
        return Change(verb="add", netns=self.name, object=thing)

    def restart_server(self) -> None:
        with self.netns.entered():
            self.server.start()

    def start(self, *more: str, before: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Runs ``hairpin proxy run``, by the command ``before``; it logs to the file ``log``."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": self.server.url}}],
            "users": [{"name": "u", "user": {"token": "abc"}}],
        }
        path = self.folder / "kubeconfig"
        path.write_text(json.dumps(config))
        words = ["--kubeconfig", str(path), "--hostname-override", NODE, "-v", "2"]
        words += ["--proxy-mode", self.mode, "--cluster-cidr", "10.244.0.0/16"]
        log = (self.folder / "log").open("a")
        with self.netns.entered(), log:
            agent = subprocess.Popen([*before, *PROGRAM, *words, *more], stderr=log, text=True)
        self._agents.append(agent)
        return agent

    def differences(self, *more: str) -> tuple[int, str]:
        """What ``hairpin diff`` says about this node and its cluster: exit code, text."""
        words = ["--kubeconfig", str(self.folder / "kubeconfig"), "--hostname-override", NODE]
        words += ["--cluster-cidr", "10.244.0.0/16", *more]
        argv = [sys.executable, "-m", "hairpin.cli.main", "diff", *words]
        with self.netns.entered():
            ran = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert "Traceback" not in ran.stderr, ran.stderr
        return ran.returncode, ran.stdout

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def ask(self, port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
        """The code and body of an HTTP answer; 0 where nobody listens."""
        try:
            with self.netns.entered():
                raw = socket.create_connection((host, port), timeout=5)
        except OSError:
            return 0, ""
        connection = http.client.HTTPConnection(host, port)
        connection.sock = raw
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    def connect(self, host: str, port: int = 80) -> socket.socket:
        with self.netns.entered():
            return socket.create_connection((host, port), timeout=2)

    def pod(self, address: str) -> None:
        """A server that says who it is, and then repeats what it hears."""
        failed = self.kernel.apply([self._add(Address(link="eth9", ip=ip(address), prefix=32))])
        assert not failed, failed
        with self.netns.entered():
            listener = socket.create_server((address, 8080))
        self._pods.append(listener)
        threading.Thread(target=_echo, args=(listener, address), daemon=True).start()

    def ruleset(self) -> str:
        """What the kernel holds, in an order that does not depend on how it came there."""
        program = ["nft", "-s", "list", "ruleset"]
        if self.mode == "iptables":
            program = ["iptables-save"]
        with self.netns.entered():
            text = subprocess.run(program, capture_output=True, text=True, check=True).stdout
        lines = [" ".join(line.split("#")[0].split()) for line in text.split(",")]
        joined = ", ".join(lines) if self.mode == "nftables" else text
        if self.mode == "iptables":
            joined = "\n".join(line for line in text.splitlines() if line[:1] not in ":#")
        return "\n".join(sorted(_blocks(joined)))

    def until(self, so: Callable[[], object], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not so():
            assert time.monotonic() < end, self.log[-3000:]
            time.sleep(0.05)

    def close(self) -> None:
        for agent in self._agents:
            if agent.poll() is None:
                agent.kill()
            agent.wait()
        for one in self._pods:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.server.stop()
        self.kernel.close(destroy=True)


_ADDRESSES = (NODE_IP,)


def end(agent: subprocess.Popen[str]) -> int:
    """As systemd and kubelet do it."""
    agent.send_signal(signal.SIGTERM)
    return agent.wait(10)


def _blocks(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _echo(listener: socket.socket, name: str) -> None:
    def serve(one: socket.socket) -> None:
        with one, suppress(OSError):
            one.sendall(f"{name}\n".encode())
            while heard := one.recv(4096):
                one.sendall(heard)

    while True:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(accepted,), daemon=True).start()
