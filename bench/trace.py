"""Does looking change anything, and what does it cost?

For each of --worlds (guest: the embedded kernel in IPVS mode; nftables, iptables: the host's):

1. The matrix of the hairpin's ingredients (72 connections), plain and traced: the verdicts, and
   whom the server saw, must be the same.  Ingredients that a mode does not have stay as they are,
   so that the host's connections are fewer different ones.
2. One connection that works, made in turn with and without being watched: the ratio of what the
   connection took, and of what the whole request took.

.venv/bin/python bench/trace.py [--rounds 40] [--worlds guest nftables iptables]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from contextlib import suppress
from typing import Any

import msgspec

from hairpin.claims import matrix
from hairpin.claims.runner import Caller
from hairpin.lab.session import LabError
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.decode import decode_object, encode
from hairpin.world import lifecycle

WORLDS = {
    "guest": ("guest", "ipvs"),
    "nftables": ("host", "nftables"),
    "iptables": ("host", "iptables"),
}


class Lenient:
    """A lab in which ingredients that its mode does not have are left alone."""

    def __init__(self, lab: Caller) -> None:
        self._lab = lab

    def call(self, verb: str, **arguments: Any) -> Any:
        if verb != "set":
            return self._lab.call(verb, **arguments)
        for name, value in arguments["ingredients"].items():
            with suppress(LabError):
                self._lab.call("set", ingredients={name: value})
        return None


class Watched:
    """A lab whose every connection is traced."""

    def __init__(self, lab: Caller) -> None:
        self._lab = lab
        self.hooked: dict[str, int] = {}
        """How many connections hooks told of, by their means."""

    def call(self, verb: str, **arguments: Any) -> Any:
        if verb != "probe":
            return self._lab.call(verb, **arguments)
        answers = []
        for one in arguments["attempts"]:
            found = self._lab.call("trace", netns=one["netns"], probe=one["probe"], ports=[8080])
            if found["passages"]:
                means = found["hooked"]["node_node"]
                self.hooked[means] = self.hooked.get(means, 0) + 1
            tried = found["tried"]
            seen = {name: tried[name] for name in ("outcome", "body", "seconds")}
            answers.append([{**seen, "status": tried.get("status")}])
        return answers


def disturbance(lab: Caller) -> tuple[int, list[tuple[matrix.Cell, matrix.Cell]], dict[str, int]]:
    """How many connections, those that went otherwise when watched, and how hooks told."""
    watched = Watched(lab)
    plain, looked_at = matrix.run(lab), matrix.run(watched)
    others = [pair for pair in zip(plain, looked_at, strict=True) if pair[0] != pair[1]]
    return len(plain), others, watched.hooked


def cost(lab: Caller, rounds: int) -> dict[str, float]:
    """Medians in milliseconds: of the connection, and of the request."""
    probe = {"ip": "172.23.0.1", "port": 8080, "timeout": 1.0}
    took: dict[str, list[float]] = {}
    for number in range(rounds * 2):
        watch = bool(number % 2)
        began = time.monotonic()
        found = lab.call("trace", netns="bar", probe=probe, watch=watch, ports=[8080])
        whole = time.monotonic() - began
        name = "watched" if watch else "plain"
        took.setdefault(f"{name} connection", []).append(found["tried"]["seconds"] * 1000)
        took.setdefault(f"{name} request", []).append(whole * 1000)
    return {name: statistics.median(some) for name, some in took.items()}


def measure(world: str, rounds: int) -> None:
    """Prints what one World and mode gives."""
    kernel, mode = WORLDS[world]
    objects = json.loads(encode([decode_object(one) for one in matrix.OBJECTS]))
    config = KubeProxyConfiguration(mode=mode)  # type: ignore[arg-type]
    with lifecycle.ephemeral("trace-bench", kernel, mode=mode) as client:
        said = msgspec.to_builtins(config, enc_hook=float)
        client.call("apply", objects=objects, config=said, wait=10.0)
        lab = Lenient(client)
        found = cost(lab, rounds)
        print(f"{world}:")
        for name, value in found.items():
            print(f"  {name}: {value:.1f} ms")
        for what in ("connection", "request"):
            ratio = found[f"watched {what}"] / found[f"plain {what}"]
            print(f"  {what}: watched is {ratio:.2f} x plain")
        count, others, hooked = disturbance(lab)
        print(f"  {count} connections, {len(others)} went otherwise when watched")
        for means, times in hooked.items():
            print(f"  hooks told of {times} of them, by {means}")
        for plain, watched in others:
            print(f"    {plain} != {watched}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    arguments = parser.parse_args()
    for world in arguments.worlds:
        measure(world, arguments.rounds)


if __name__ == "__main__":
    main()
