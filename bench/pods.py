"""How long a lab of many Pods takes to build, against the floor; and whether each of them serves.

    python bench/pods.py [count ...] [--kernel guest|host]

Ten Pods each are behind a Service; all run the built-in server.  Floor: ``pods_floor.py`` in a
World of the same kind, before and after, the lower one counts.  Target: namespaces and links
within 2 x the floor.  Then each Pod is asked directly, and each Service as often as it
has Pods: all must have answered once.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hairpin.model.decode import decode_object, encode
from hairpin.world import lifecycle
from hairpin.world.client import Client

_FLOOR = Path(__file__).with_name("pods_floor.py").read_text()
_PER_SERVICE = 10
_TARGET = 2.0
_AT_ONCE = 50
"""Probes in one request.  Each asks for a neighbour by a broadcast, which is a packet for each Pod:
the guest keeps 65 536 of them at once, and has no memory for many more."""


def objects(count: int) -> list[Any]:
    """A Node, and Pods with a Service for each ten of them."""
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}
    raw: list[dict[str, Any]] = [{**node, "spec": {"podCIDR": "10.244.0.0/16"}}]
    for number in range(count):
        group = {"app": f"s{number // _PER_SERVICE}"}
        container = {"name": "echo", "ports": [{"containerPort": 8080}]}
        meta = {"name": f"p{number}", "labels": group}
        raw.append({**_v1("Pod", meta), "spec": {"containers": [container]}})
    for number in range(0, count, _PER_SERVICE):
        name = f"s{number // _PER_SERVICE}"
        ports = [{"port": 80, "targetPort": 8080}]
        spec = {"selector": {"app": name}, "ports": ports}
        raw.append({**_v1("Service", {"name": name}), "spec": spec})
    shapes: list[Any] = json.loads(encode(decode_object(one) for one in raw))
    return shapes


def _v1(kind: str, metadata: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def floor(kernel: str, count: int) -> float:
    """Seconds for as many Pods without hairpin, in a World of its own."""
    argv = ["/usr/bin/python3", "-ISc", _FLOOR, str(count)]
    with lifecycle.ephemeral("floor", kernel) as client:
        client.call("bare", nodes=["node"])
        return float(client.call("run", argv=argv, netns="outside_")["output"])


def everybody_answers(client: Client, served: bool) -> tuple[int, int]:
    """How many Pods answered when asked directly, and through Services where those are served."""
    pods = {
        one["metadata"]["name"]: one["status"]["podIP"]
        for one in client.call("get", kind="pods")
        if one["metadata"]["namespace"] == "default"
    }
    services = [
        one["spec"]["clusterIP"]
        for one in client.call("get", kind="services")
        if one["metadata"]["namespace"] == "default"
    ]
    direct = {one for seen in _ask(client, list(pods.values()), 8080, 1) for one in seen}
    asked = services if served else []
    through = {one for seen in _ask(client, asked, 80, _PER_SERVICE) for one in seen}
    return len(direct & set(pods)), len(through & set(pods))


def _ask(client: Client, ips: list[str], port: int, times: int) -> list[list[str]]:
    """The names that answered at each address."""
    found = []
    for start in range(0, len(ips), _AT_ONCE):
        attempts = [
            {"netns": "node_node", "times": times, "probe": {"ip": ip, "port": port, "timeout": 10}}
            for ip in ips[start : start + _AT_ONCE]
        ]
        for seen in client.call("probe", attempts=attempts):
            found.append([json.loads(one["body"])["pod"] for one in seen if one["body"]])
    return found


def measure(count: int, kernel: str) -> bool:
    """Prints one round; whether the target is met and everybody answered."""
    before = floor(kernel, count)
    with lifecycle.ephemeral("bench", kernel) as client:
        client.call("apply", objects=objects(10))
        started = time.monotonic()
        answer = client.call("apply", objects=objects(count), wait=60)
        total = time.monotonic() - started
        served = bool(client.call("get", kind="virtualservers"))
        direct, through = everybody_answers(client, served)
        spent = dict(answer["spent"])
        ours = spent.pop("netns") + spent.pop("route")
        started = time.monotonic()
    down = time.monotonic() - started
    floors = min(before, floor(kernel, count))
    print(f"{count} Pods, {count // _PER_SERVICE} Services, {kernel}")
    print(f"  floor                  {floors:8.3f} s   {floors / count * 1000:6.2f} ms a Pod")
    print(f"  namespaces and links   {ours:8.3f} s   {ours / floors:6.2f} x the floor")
    for what, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"  {what:<22} {seconds:8.3f} s")
    rest = total - ours - sum(spent.values())
    print(f"  sending, decoding, rest{rest:8.3f} s")
    print(f"  apply in all           {total:8.3f} s")
    print(f"  answered: {direct} Pods, {through} through Services; down in {down:.2f} s")
    return ours <= _TARGET * floors and direct == count and (through == count or not served)


def main(words: list[str]) -> int:
    """Exit code 1 when a target is missed."""
    kernel = words[words.index("--kernel") + 1] if "--kernel" in words else "guest"
    counts = [int(word) for word in words if word.isdigit()] or [200, 1000]
    with tempfile.TemporaryDirectory(prefix="hairpin-bench-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        measured = [measure(count, kernel) for count in counts]
        return 0 if all(measured) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
