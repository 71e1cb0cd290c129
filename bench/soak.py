"""A node's agent for a long time: churning endpoints under constant connections.

    python bench/soak.py [--seconds 60] [--mode nftables|iptables|ipvs] [--services 50]

``hairpin proxy run`` in a namespace of the host, for IPVS of the embedded kernel, beside an API
server and Pods' servers that come and go as a roll-out has them: a Pod listens before it is an
endpoint, and goes on for ``--grace`` seconds after it is none.  Clients connect to the Service all
the time, and some connections are held and used throughout.  Meanwhile other Services change, too,
and every tenth of the time the watches are cut or events come twice and swapped, or the API server
is away.  Reported: connections, those that failed though a ready endpoint was there (target: 0),
with what happened around the first of them; held ones that broke (target: 0); how long a Pod that
was taken out still got connections; and the agent's memory after the first fifth and at the end
(target: no growth).  Needs root, for namespaces.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

import in_guest

if TYPE_CHECKING:
    import argparse
    import socket

    from tests.proxy.agent_node import AgentNode

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
_VIP, _PODS, _CLIENTS, _HELD = "10.96.0.1", 6, 4, 20
_CLOSED = 0.2  # seconds that a Pod does not listen
_AROUND = 4.0  # seconds before and after a failure that are told
_START = 120.0  # seconds
_PATIENCE = 30.0  # seconds for one connection: a machine may stand still, and ``slowest`` says so
_MODULES = (
    "ip_vs", "ip_vs_rr", "bpfilter", "bridge", "veth", "dummy", "ipv6", "nf_conntrack",
    "nf_conntrack_netlink", "nf_nat", "ip_set", "xt_set", "ip_set_hash_ip", "ip_set_hash_ipport",
    "ip_set_hash_ipportip", "ip_set_hash_ipportnet", "ip_set_bitmap_port", "ip_tables",
    "iptable_nat", "iptable_filter", "iptable_mangle", "ip6_tables", "ip6table_nat",
    "ip6table_filter", "xt_comment", "xt_mark", "xt_MASQUERADE", "xt_tcpudp", "xt_conntrack",
    "xt_addrtype", "xt_physdev", "xt_ipvs", "ipt_REJECT", "ip6t_REJECT", "br_netfilter",
)  # fmt: skip


class Timeline:
    """What was done when, the last minutes of it; used by several threads."""

    def __init__(self) -> None:
        from collections import deque

        self._lines: deque[tuple[float, str]] = deque(maxlen=2000)

    def say(self, text: str) -> None:
        self._lines.append((time.time(), text))

    def around(self, when: float) -> list[str]:
        return [
            f"{at - when:+8.3f} s  {text}"
            for at, text in list(self._lines)
            if abs(at - when) <= _AROUND
        ]


class Pod:
    """A server that can stop listening; connections that it has go on."""

    def __init__(self, home: AgentNode, number: int) -> None:
        from hairpin.model.address import ip
        from hairpin.state.change import Change
        from hairpin.state.links import Address

        self.ip = f"10.244.0.{number + 1}"
        self._home = home
        self._listener: socket.socket | None = None
        address = Address(link="eth9", ip=ip(self.ip), prefix=32)
        failed = home.kernel.apply([Change(verb="add", netns=home.name, object=address)])
        assert not failed, failed

    def open(self) -> None:
        import socket
        import threading

        with self._home.netns.entered():
            self._listener = socket.create_server((self.ip, 8080), backlog=1024)
        threading.Thread(target=self._run, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        import socket

        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def _run(self, listener: socket.socket) -> None:
        import threading

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

    def __init__(self, home: AgentNode, pause: float, timeline: Timeline) -> None:
        import threading

        self._home = home
        self._pause = pause
        self._timeline = timeline
        self.done = 0
        self.failed: list[tuple[float, str]] = []
        self.slowest = 0.0
        self.answered: dict[str, float] = {}  # when each Pod was last begun to be talked to
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
                time.sleep(self._pause)

    def _once(self) -> None:
        import socket
        import struct

        began = time.monotonic()
        port = 0
        with socket.socket() as one:
            one.settimeout(_PATIENCE)
            # Closes without TIME_WAIT, of which there are few ports.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                one.connect((_VIP, 80))
                port = one.getsockname()[1]
                self.answered[one.recv(64).decode()] = began
            except OSError as error:
                spent = time.monotonic() - began
                self.failed.append((time.time(), f"{error}, after {spent:.3f} s, from {port}"))
                self._timeline.say(f"FAILED {error}")
        self.done += 1
        self.slowest = max(self.slowest, time.monotonic() - began)


class Soak:
    """One run: everything is made, churned for a time, and reported."""

    def __init__(self, home: AgentNode, arguments: argparse.Namespace) -> None:
        import random

        self.home = home
        self.arguments = arguments
        self.rng = random.Random(arguments.seed)
        self.timeline = Timeline()
        self.clients = Clients(home, arguments.pause, self.timeline)
        self.memory: list[tuple[float, int]] = []
        self.held: list[socket.socket] = []
        self.rolled = self.changes = 0
        self.late: list[float] = []  # seconds for which a Pod that was taken out still got some

    def run(self) -> int:
        from tests.proxy.agent_node import end

        pods = self._furnish()
        agent = self.home.start()
        self.home.until(lambda: "the first sync is done" in self.home.log, _START)
        # What other modes left is looked for right after it, and changes wait until that is done.
        self.home.until(lambda: self.home.ask(10249, "/healthz")[0] == 200)
        time.sleep(self.arguments.settle)
        self.held = [self.home.connect(_VIP) for _ in range(_HELD)]
        for connection in self.held:
            connection.recv(64)
        self.clients.start()
        began = time.monotonic()
        while (spent := time.monotonic() - began) < self.arguments.seconds:
            self._fault(spent / self.arguments.seconds)
            self._roll(pods)
            self.memory.append((time.monotonic() - began, _memory(agent.pid)))
        self.clients.stop()
        self._use_held()
        return self._report(end(agent))

    def _furnish(self) -> list[Pod]:
        from tests.proxy.agent_node import NODE_IP
        from tests.source.api_objects import endpoints, node, service

        store = self.home.server.store
        pods = [Pod(self.home, n) for n in range(_PODS)]
        for one in pods:
            one.open()
        this = node()
        this["status"] = {"addresses": [{"type": "InternalIP", "address": NODE_IP}]}
        store.put(this)
        store.put(service("web", _VIP))
        store.put(endpoints("web", *(one.ip for one in pods)))
        for n in range(self.arguments.services):
            store.put(service(f"other-{n}", f"10.96.{1 + n // 250}.{n % 250 + 1}"))
            store.put(endpoints(f"other-{n}", "10.244.9.1"))
        return pods

    def _roll(self, pods: list[Pod]) -> None:
        """One Pod is taken out, ends after its grace, and comes back."""
        from tests.source.api_objects import endpoints

        store = self.home.server.store
        gone = self.rng.choice(pods)
        store.put(endpoints("web", *(one.ip for one in pods if one is not gone)))
        out = time.monotonic()
        self.timeline.say(f"{gone.ip} is no endpoint from version {store.version} on")
        self._others()
        gone.close()
        self.timeline.say(f"{gone.ip} listens no longer")
        time.sleep(_CLOSED)
        self.late.append(self.clients.answered.get(gone.ip, 0.0) - out)
        gone.open()
        store.put(endpoints("web", *(one.ip for one in pods)))
        self.timeline.say(f"{gone.ip} listens, and is an endpoint from {store.version} on")
        self.rolled += 1
        self._use_held()

    def _use_held(self) -> None:
        """IPVS forgets a connection that is silent for 15 minutes."""
        for one in [one for one in self.held if not _alive(one)]:
            self.held.remove(one)
            self.timeline.say("a held connection is broken")

    def _fault(self, part: float) -> None:
        """In every tenth of the time something is wrong with the API server for half of it."""
        faults = self.home.server.faults
        wrong = part * 10 % 1 < 0.5
        odd = bool(int(part * 10) % 2)
        faults.cut_watch_after = 1.0 if wrong and odd else None
        faults.twice = faults.swapped = wrong and not odd
        self.timeline.say(f"watches are cut: {wrong and odd}; twice, swapped: {faults.twice}")
        if not wrong and self.rng.random() < 0.2:
            self.timeline.say("the API server is started anew")
            self.home.server.stop()
            self.home.restart_server()

    def _others(self) -> None:
        """Changes of other Services until the grace of a Pod is over."""
        from tests.source.api_objects import endpoints

        until = time.monotonic() + self.arguments.grace
        while time.monotonic() < until:
            if self.arguments.services:
                name = f"other-{self.rng.randrange(self.arguments.services)}"
                some = range(self.rng.randrange(6))
                behind = [f"10.244.9.{self.rng.randrange(1, 250)}" for _ in some]
                self.home.server.store.put(endpoints(name, *dict.fromkeys(behind)))
                self.changes += 1
            time.sleep(self.arguments.churn)

    def _report(self, code: int) -> int:
        clients, memory, broken = self.clients, self.memory, _HELD - len(self.held)
        warm = memory[len(memory) // 5] if memory else (0.0, 0)
        last = memory[-1] if memory else (0.0, 0)
        minutes = max((last[0] - warm[0]) / 60, 1e-9)
        print(f"Pods rolled                 {self.rolled}, and {self.changes} other changes")
        print(f"connections                 {clients.done}, the slowest {clients.slowest:.3f} s")
        print(f"  failed                    {len(clients.failed)}")
        print(f"held connections broken     {broken} of {_HELD}")
        late = sorted(self.late) or [0.0]
        print(f"got some after its removal  {late[len(late) // 2]:.3f} s, at most {late[-1]:.3f} s")
        print(f"agent's memory, KiB         {warm[1]} after {warm[0]:.0f} s, {last[1]} at the end")
        steps = [memory[len(memory) * n // 10][1] for n in range(10)] if memory else []
        print(f"  every tenth of the time   {' '.join(map(str, steps))}")
        print(f"  growth                    {(last[1] - warm[1]) / minutes:.0f} KiB a minute")
        print(f"agent's exit code           {code}")
        for at, text in clients.failed[:20]:
            print(f"  {time.strftime('%H:%M:%S', time.localtime(at))} {text}")
        if clients.failed:
            print("\n".join(self._story(clients.failed[0][0])))
        if "Traceback" in self.home.log:
            print(self.home.log[self.home.log.index("Traceback") :][:3000])
        sys.stdout.flush()
        return 1 if clients.failed or broken or code else 0

    def _story(self, when: float) -> list[str]:
        """What was done, and what the agent said, around a moment."""
        from datetime import datetime

        told = [f"around {time.strftime('%H:%M:%S', time.localtime(when))}:"]
        told += self.timeline.around(when)[:60]
        for line in self.home.log.splitlines():
            with suppress(ValueError):
                if abs(datetime.fromisoformat(line.split()[0]).timestamp() - when) <= _AROUND:
                    told.append(line)
        return told[:200]


def _alive(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"still there")
        return connection.recv(64) == b"still there"
    except OSError:
        return False


def _memory(pid: int) -> int:
    """Resident, in KiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def main() -> int:
    if in_guest.MARK in sys.argv:
        in_guest.run(sys.argv, _in_guest)
    arguments = _arguments(sys.argv[1:])
    if arguments.mode == "ipvs":
        return in_guest.boot(__file__, [], sys.argv[1:], _MODULES)
    sys.path.insert(0, _ROOT)
    return _soak(arguments, None)


def _in_guest(floors: str, words: list[str]) -> None:
    del floors
    sys.path.insert(0, _ROOT)
    own = [word for word in words if not word.startswith("console=")]  # that is the kernel's
    if _soak(_arguments(own), "/run"):
        print("the soak failed")


def _arguments(words: list[str]) -> argparse.Namespace:
    import argparse

    parser = argparse.ArgumentParser(description="Churn under constant connections.")
    parser.add_argument("--seconds", type=float, default=60, help="how long (60)")
    parser.add_argument("--mode", choices=("nftables", "iptables", "ipvs"), default="nftables")
    parser.add_argument("--services", type=int, default=50, help="others that change, too (50)")
    parser.add_argument("--grace", type=float, default=3, help="seconds that a Pod goes on (3)")
    parser.add_argument("--settle", type=float, help="seconds from the first sync to the churn")
    parser.add_argument("--pause", type=float, help="seconds between a client's connections")
    parser.add_argument("--churn", type=float, help="seconds between changes of others")
    parser.add_argument("--seed", default="1")
    arguments = parser.parse_args(words)
    slow = arguments.mode == "ipvs"  # everything but the kernel costs ten times as much there
    arguments.pause = arguments.pause or (0.05 if slow else 0.005)
    arguments.churn = arguments.churn or (0.2 if slow else 0.02)
    arguments.settle = arguments.settle or (20 if slow else 2)
    return arguments


def _soak(arguments: argparse.Namespace, folder: str | None) -> int:
    import tempfile
    from pathlib import Path

    from tests.proxy.agent_node import AgentNode

    with tempfile.TemporaryDirectory(dir=folder) as place:
        home = AgentNode(Path(place), arguments.mode)
        try:
            return Soak(home, arguments).run()
        finally:
            home.close()


if __name__ == "__main__":
    sys.exit(main())
