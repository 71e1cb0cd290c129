"""Does looking change anything, and what does it cost?

1. The matrix of the hairpin's ingredients (72 connections), plain and traced: the verdicts, and
   whom the server saw, must be the same.
2. One connection that works, made in turn with and without being watched: the ratio of what the
   connection took, and of what the whole request took.

.venv/bin/python bench/trace.py [--rounds 40]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

from hairpin.claims import matrix
from hairpin.claims.runner import Caller
from hairpin.model.decode import decode_object, encode
from hairpin.world import lifecycle


class Watched:
    """A lab whose every connection is traced."""

    def __init__(self, lab: Caller) -> None:
        self._lab = lab

    def call(self, verb: str, **arguments: Any) -> Any:
        if verb != "probe":
            return self._lab.call(verb, **arguments)
        answers = []
        for one in arguments["attempts"]:
            found = self._lab.call("trace", netns=one["netns"], probe=one["probe"])
            tried = found["tried"]
            seen = {name: tried[name] for name in ("outcome", "body", "seconds")}
            answers.append([{**seen, "status": tried.get("status")}])
        return answers


def disturbance(lab: Caller) -> tuple[int, list[tuple[matrix.Cell, matrix.Cell]]]:
    """How many connections, and those that went otherwise when they were watched."""
    plain, watched = matrix.run(lab), matrix.run(Watched(lab))
    return len(plain), [pair for pair in zip(plain, watched, strict=True) if pair[0] != pair[1]]


def cost(lab: Caller, rounds: int) -> dict[str, float]:
    """Medians in milliseconds: of the connection, and of the request."""
    probe = {"ip": "172.23.0.1", "port": 8080, "timeout": 1.0}
    took: dict[str, list[float]] = {}
    for number in range(rounds * 2):
        watch = bool(number % 2)
        began = time.monotonic()
        found = lab.call("trace", netns="bar", probe=probe, watch=watch)
        whole = time.monotonic() - began
        name = "watched" if watch else "plain"
        took.setdefault(f"{name} connection", []).append(found["tried"]["seconds"] * 1000)
        took.setdefault(f"{name} request", []).append(whole * 1000)
    return {name: statistics.median(some) for name, some in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    objects = json.loads(encode([decode_object(one) for one in matrix.OBJECTS]))
    with lifecycle.ephemeral("trace-bench", "guest") as lab:
        lab.call("apply", objects=objects)
        found = cost(lab, rounds)
        for name, value in found.items():
            print(f"{name}: {value:.1f} ms")
        for what in ("connection", "request"):
            ratio = found[f"watched {what}"] / found[f"plain {what}"]
            print(f"{what}: watched is {ratio:.2f} x plain")
        count, others = disturbance(lab)
        print(f"{count} connections, {len(others)} went otherwise when watched")
        for plain, watched in others:
            print(f"  {plain} != {watched}")


if __name__ == "__main__":
    main()
