"""A node's agent's memory under churn as fast as it takes it: hours of a node in minutes.

    python bench/memory.py [--mode nftables|iptables|ipvs] [--services 500] [--changes 200000]
    python bench/memory.py --generations 4 [--services 10000]

``hairpin proxy run`` in a namespace of the host, for IPVS of the embedded kernel, beside an API
server of the tests.  So many Services whose endpoints change, at ``--rate`` changes a second; or,
with ``--generations``, that all go and are followed by others with other names and addresses.  At
each step the agent has caught up: its resident memory, and how many blocks Python's allocator has
given out after a full collection, which is what the program holds, wherever it lies; addresses that
nobody has any more are in it until the next full sync.  Needs root, for namespaces.
"""

from __future__ import annotations

import os
import random
import sys
import time
from typing import TYPE_CHECKING

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

import in_guest
import soak

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from tests.proxy.agent_node import AgentNode

_ENDPOINTS = 4
_START = 240.0  # seconds
_PIECE = 50  # changes between two looks at the clock
_PROBE = """
import __main__, gc, socket, sys, threading
import hairpin.proxy.agent as module
class Known(module.Agent):
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        __main__.agent = self
module.Agent = Known
def answer(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        with listener.accept()[0] as client:
            waiting = __main__.agent._feed._updates.qsize() + __main__.agent._proxy.known().dirty
            if not waiting:
                gc.collect()
            client.sendall(b"%d %d" % (waiting, sys.getallocatedblocks()))
threading.Thread(target=answer, args=(PATH,), daemon=True).start()
"""
"""Runs inside the agent: tells how much it has not followed yet, and its blocks."""


class Churn:
    """One run."""

    def __init__(self, home: AgentNode, path: str, arguments: argparse.Namespace) -> None:
        self._home = home
        self._path = path
        self._arguments = arguments
        self._rng = random.Random(1)
        self._done = 0
        self._pid = 0
        self._seen: list[tuple[int, int, int]] = []  # changes, KiB, blocks

    def run(self) -> None:
        from tests.proxy.agent_node import NODE_IP, end
        from tests.source.api_objects import node

        store = self._home.server.store
        this = node()
        this["status"] = {"addresses": [{"type": "InternalIP", "address": NODE_IP}]}
        store.put(this)
        if not self._arguments.generations:
            self._generation(0)
        agent = self._home.start()
        self._pid = agent.pid
        self._home.until(lambda: "the first sync is done" in self._home.log, _START)
        self._done = 0
        self._look("begins")
        for name in self._steps():
            self._look(name)
        self._report()
        print(f"agent's exit code {end(agent)}")

    def _steps(self) -> Iterator[str]:
        if not self._arguments.generations:
            for _ in range(self._arguments.steps):
                self._endpoints(self._arguments.changes // self._arguments.steps)
                yield ""
        for number in range(self._arguments.generations):
            self._generation(number)
            yield "all there"
            self._remove(number)
            yield "all gone"

    def _generation(self, number: int) -> None:
        """Services with names and addresses that no other generation has."""
        from tests.source.api_objects import endpoints, service

        for at in range(self._arguments.services):
            own = number * self._arguments.services + at
            name = f"service-{number}-{at}"
            self._home.server.store.put(service(name, _ip(0x0A60_0000 + own)))
            ends = (_ip(0x0AC0_0000 + own * _ENDPOINTS + each) for each in range(_ENDPOINTS))
            self._home.server.store.put(endpoints(name, *ends))
            self._pace(2)

    def _remove(self, number: int) -> None:
        for at in range(self._arguments.services):
            name = f"service-{number}-{at}"
            self._home.server.store.delete("EndpointSlice", "default", f"{name}-1")
            self._home.server.store.delete("Service", "default", name)
            self._pace(2)

    def _endpoints(self, changes: int) -> None:
        from tests.source.api_objects import endpoints

        for _ in range(changes):
            name = f"service-0-{self._rng.randrange(self._arguments.services)}"
            some = range(self._rng.randrange(2 * _ENDPOINTS))
            behind = [f"10.244.9.{self._rng.randrange(1, 250)}" for _ in some]
            self._home.server.store.put(endpoints(name, *dict.fromkeys(behind)))
            self._pace(1)

    def _pace(self, changes: int) -> None:
        self._done += changes
        if self._done % _PIECE < changes and self._pid:
            time.sleep(_PIECE / self._arguments.rate)

    def _look(self, name: str) -> None:
        """Once the agent has followed all; a full sync comes every half minute at most."""
        time.sleep(1.5)
        self._home.until(lambda: not self._ask()[0], _START)
        time.sleep(1.5)
        _, blocks = self._ask()
        self._seen.append((self._done, soak._memory(self._pid), blocks))
        print(f"{self._done:9} changes  {self._seen[-1][1]:8} KiB  {blocks:9} blocks  {name}")
        sys.stdout.flush()

    def _ask(self) -> tuple[int, int]:
        import socket

        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(self._path)
            waiting, blocks = asked.recv(100).split()
        return int(waiting), int(blocks)

    def _report(self) -> None:
        """After the first step, in which all is made for the first time; with generations, from
        the second to the last one, when all are there."""
        there = self._seen[1::2] if self._arguments.generations else self._seen
        warm, last = there[1 if len(there) > 2 else 0], there[-1]
        units = max(1, last[0] - warm[0]) / 100_000
        print(
            f"growth for 100 000 changes, after the first {warm[0]}: "
            f"{(last[1] - warm[1]) / units:.0f} KiB, {(last[2] - warm[2]) / units:.0f} blocks"
        )


def _ip(number: int) -> str:
    return ".".join(str(part) for part in number.to_bytes(4, "big"))


def main() -> int:
    if in_guest.MARK in sys.argv:
        in_guest.run(sys.argv, _in_guest)
    arguments = _arguments(sys.argv[1:])
    if arguments.mode == "ipvs":
        return in_guest.boot(__file__, [], sys.argv[1:], soak._MODULES)
    _run(arguments, None)
    return 0


def _in_guest(floors: str, words: list[str]) -> None:
    del floors
    _run(_arguments([word for word in words if not word.startswith("console=")]), "/run")


def _arguments(words: list[str]) -> argparse.Namespace:
    import argparse

    parser = argparse.ArgumentParser(description="An agent's memory under churn.")
    parser.add_argument("--mode", choices=("nftables", "iptables", "ipvs"), default="nftables")
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--changes", type=int, default=200_000, help="of endpoints")
    parser.add_argument("--steps", type=int, default=10, help="looks in between (10)")
    parser.add_argument("--generations", type=int, default=0, help="of Services that come and go")
    parser.add_argument("--rate", type=float, help="changes a second")
    arguments = parser.parse_args(words)
    arguments.rate = (
        arguments.rate or {"nftables": 2000, "iptables": 500, "ipvs": 60}[arguments.mode]
    )
    return arguments


def _run(arguments: argparse.Namespace, folder: str | None) -> None:
    import tempfile
    from pathlib import Path

    sys.path.insert(0, soak._ROOT)
    from tests.proxy import agent_node

    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = str(Path(place, "probe"))
        # After the paths are set, before the program begins.
        program = agent_node.PROGRAM[-1]
        paths, rest = program.split("; from ", 1)
        probe = f"{paths}\nPATH = {path!r}\n{_PROBE}\nfrom {rest}"
        agent_node.PROGRAM[-1] = probe
        home = agent_node.AgentNode(Path(place), arguments.mode)
        try:
            Churn(home, path, arguments).run()
        finally:
            home.close()


if __name__ == "__main__":
    sys.exit(main())
