"""A node's agent for a long time: churning endpoints under constant connections.

    python bench/soak.py [--seconds 60] [--mode nftables] [--services 50]

``hairpin proxy run`` in a namespace of the host, beside an API server and Pods' servers that come
and go as a roll-out has them: a Pod listens before it is an endpoint, and goes on for ``--grace``
seconds after it is none.  Clients connect to the Service all the time, and some connections are
held and used throughout.  Meanwhile other Services change, too, and every tenth of the time the
watches are cut, or the API server is away.  Reported: connections, those that failed though a ready
endpoint was there (target: 0), held ones that broke (target: 0), and the agent's memory after the
first fifth and at the end (target: no growth).  Needs root, for namespaces.
"""

from __future__ import annotations

import argparse
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hairpin.model.address import ip
from hairpin.state.change import Change
from hairpin.state.links import Address
from tests.proxy.agent_node import NODE_IP, AgentNode, end
from tests.source.api_objects import endpoints, node, service

_VIP, _PODS, _CLIENTS, _HELD = "10.96.0.1", 6, 4, 20
_PAUSE = 0.005  # seconds between a client's connections
_RST = struct.pack("ii", 1, 0)  # SO_LINGER: closes without TIME_WAIT, of which there are few ports


class Pod:
    """A server that can stop listening; connections that it has go on."""

    def __init__(self, home: AgentNode, number: int) -> None:
        self.ip = f"10.244.0.{number + 1}"
        self._home = home
        self._listener: socket.socket | None = None
        address = Address(link="eth9", ip=ip(self.ip), prefix=32)
        failed = home.kernel.apply([Change(verb="add", netns=home.name, object=address)])
        assert not failed, failed

    def open(self) -> None:
        with self._home.netns.entered():
            self._listener = socket.create_server((self.ip, 8080), backlog=1024)
        threading.Thread(target=self._run, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _run(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.sendall(self.ip.encode())
            while heard := client.recv(4096):
                client.sendall(heard)


class Clients:
    """Connections, one after the other, in threads that live in the node's namespace."""

    def __init__(self, home: AgentNode) -> None:
        self._home = home
        self.done = 0
        self.failed: list[str] = []
        self.slowest = 0.0
        self.answers: dict[str, int] = {}
        self.ending = False
        self._threads = [threading.Thread(target=self._run) for _ in range(_CLIENTS)]

    def start(self) -> None:
        for one in self._threads:
            one.start()

    def stop(self) -> None:
        self.ending = True
        for one in self._threads:
            one.join()

    def _run(self) -> None:
        with self._home.netns.entered():
            while not self.ending:
                self._once()
                time.sleep(_PAUSE)

    def _once(self) -> None:
        began = time.monotonic()
        try:
            with socket.create_connection((_VIP, 80), timeout=3) as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
                who = one.recv(64).decode()
            self.answers[who] = self.answers.get(who, 0) + 1
        except OSError as error:
            self.failed.append(f"{time.strftime('%H:%M:%S')} {error}")
        self.done += 1
        self.slowest = max(self.slowest, time.monotonic() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description="Churn under constant connections.")
    parser.add_argument("--seconds", type=float, default=60, help="how long (60)")
    parser.add_argument("--mode", choices=("nftables", "iptables"), default="nftables")
    parser.add_argument("--services", type=int, default=50, help="others that change, too (50)")
    parser.add_argument("--grace", type=float, default=3, help="seconds that a Pod goes on (3)")
    parser.add_argument("--seed", default="1")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = AgentNode(Path(folder), arguments.mode)
        try:
            return _soak(home, arguments)
        finally:
            home.close()


def _soak(home: AgentNode, arguments: argparse.Namespace) -> int:
    rng = random.Random(arguments.seed)
    store = home.server.store
    pods = [Pod(home, n) for n in range(_PODS)]
    for one in pods:
        one.open()
    this = node()
    this["status"] = {"addresses": [{"type": "InternalIP", "address": NODE_IP}]}
    store.put(this)
    store.put(service("web", _VIP))
    store.put(endpoints("web", *(one.ip for one in pods)))
    for n in range(arguments.services):
        store.put(service(f"other-{n}", f"10.96.{1 + n // 250}.{n % 250 + 1}"))
        store.put(endpoints(f"other-{n}", "10.244.9.1"))
    agent = home.start()
    home.until(lambda: "the first sync is done" in home.log)
    held = [home.connect(_VIP) for _ in range(_HELD)]
    for connection in held:
        connection.recv(64)
    clients = Clients(home)
    clients.start()
    began = time.monotonic()
    memory: list[tuple[float, int]] = []
    rolled = changes = 0
    ends = began + arguments.seconds
    while time.monotonic() < ends:
        gone = rng.choice(pods)
        _fault(home, rng, (time.monotonic() - began) / arguments.seconds)
        store.put(endpoints("web", *(one.ip for one in pods if one is not gone)))
        changes += _others(store, rng, arguments)
        gone.close()
        time.sleep(0.2)
        gone.open()
        store.put(endpoints("web", *(one.ip for one in pods)))
        rolled += 1
        memory.append((time.monotonic() - began, _memory(agent.pid)))
    clients.stop()
    broken = sum(not _alive(one) for one in held)
    code = end(agent)
    return _report(clients, broken, memory, (rolled, changes, code), home)


def _fault(home: AgentNode, rng: random.Random, part: float) -> None:
    """In every tenth of the time something is wrong with the API server for half of it."""
    faults = home.server.faults
    wrong = part * 10 % 1 < 0.5
    odd = bool(int(part * 10) % 2)
    faults.cut_watch_after = 1.0 if wrong and odd else None
    faults.twice = faults.swapped = wrong and not odd
    if not wrong and rng.random() < 0.2:
        home.server.stop()
        home.restart_server()


def _others(store: Any, rng: random.Random, arguments: argparse.Namespace) -> int:
    """Changes of other Services until the grace of a Pod is over; how many."""
    count = 0
    until = time.monotonic() + arguments.grace
    while time.monotonic() < until:
        if arguments.services:
            name = f"other-{rng.randrange(arguments.services)}"
            behind = [f"10.244.9.{rng.randrange(1, 250)}" for _ in range(rng.randrange(6))]
            store.put(endpoints(name, *dict.fromkeys(behind)))
            count += 1
        time.sleep(0.02)
    return count


def _alive(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"still there")
        return connection.recv(64) == b"still there"
    except OSError:
        return False


def _memory(pid: int) -> int:
    """Resident, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def _report(
    clients: Clients,
    broken: int,
    memory: list[tuple[float, int]],
    counts: tuple[int, int, int],
    home: AgentNode,
) -> int:
    rolled, changes, code = counts
    warm = memory[len(memory) // 5] if memory else (0.0, 0)
    last = memory[-1] if memory else (0.0, 0)
    minutes = max((last[0] - warm[0]) / 60, 1e-9)
    print(f"Pods rolled                 {rolled}, and {changes} changes of other Services")
    print(f"connections                 {clients.done}, the slowest {clients.slowest:.3f} s")
    print(f"  failed                    {len(clients.failed)}")
    print(f"held connections broken     {broken} of {_HELD}")
    print(f"agent's memory, KiB         {warm[1]} after {warm[0]:.0f} s, {last[1]} at the end")
    steps = [memory[len(memory) * n // 10][1] for n in range(10)] if memory else []
    print(f"  every tenth of the time   {' '.join(map(str, steps))}")
    print(f"  growth                    {(last[1] - warm[1]) / minutes:.0f} KiB a minute")
    print(f"agent's exit code           {code}")
    for line in clients.failed[:10]:
        print(f"  {line}")
    if clients.failed:
        said = [line for line in home.log.splitlines() if clients.failed[0][:8] in line]
        print("\n".join(said[:20]))
    if "Traceback" in home.log:
        print(home.log[home.log.index("Traceback") :][:3000])
    return 1 if clients.failed or broken or code else 0


if __name__ == "__main__":
    sys.exit(main())
