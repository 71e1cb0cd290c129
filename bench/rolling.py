"""Connections that fail while a Deployment is restarted Pod by Pod.

    .venv/bin/python bench/rolling.py [--replicas 4] [--clients 8] [--restarts 5] [--probe] [--hook]

A lab in the guest: clients in a Pod open one connection after the other to a ClusterIP, each with
an HTTP request, while the Deployment behind it is restarted again and again.  The target is no
failed connection, since a ready endpoint is there all the time.  ``--probe`` gives the Pods a
readiness probe of their own program's port instead of the built-in server, ``--hook`` a preStop
sleep of a second, as it is advised for real clusters.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from typing import Any

from hairpin.model.decode import decode_object, encode
from hairpin.world import lifecycle
from hairpin.world.client import Client

VIP = "10.96.5.5"


def objects(replicas: int, probe: bool, hook: bool) -> list[dict[str, Any]]:
    container: dict[str, Any] = {"name": "web", "ports": [{"containerPort": 8080}]}
    if probe:
        # Ends at SIGTERM as most programs do: at once, whoever is connected.
        container["command"] = ["python3", "-m", "http.server", "8080", "-d", "/tmp"]
        container["readinessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    if hook:
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": 1}}}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    deployment: dict[str, Any] = {"replicas": replicas, "template": template}
    deployment["selector"] = {"matchLabels": {"app": "web"}}
    service: dict[str, Any] = {"clusterIP": VIP, "selector": {"app": "web"}}
    service["ports"] = [{"port": 80, "targetPort": 8080}]
    idle = {"containers": [{"name": "c", "command": ["sleep", "infinity"]}]}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": deployment,
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": service},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client"}, "spec": idle},
    ]


class Load:
    """Clients that connect without a pause, until ``stop``."""

    def __init__(self, client: Client, clients: int) -> None:
        self.seen: list[dict[str, Any]] = []
        self._client = client
        self._clients = clients
        self._going = True
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._going = False
        self._thread.join()

    def _run(self) -> None:
        probe = {"ip": VIP, "port": 80, "timeout": 2.0}
        attempt = {"netns": "client", "probe": probe, "times": 20}
        while self._going:
            for some in self._client.call("probe", attempts=[attempt] * self._clients):
                self.seen += some


def restart(client: Client) -> float:
    """Seconds that one roll-out takes, old Pods gone with it."""
    begun = time.monotonic()
    client.call("restart", namespace="default", names=["web"])
    client.call("rollout-status", namespace="default", names=["web"])
    while any(one["metadata"].get("deletionTimestamp") for one in client.call("get", kind="pods")):
        time.sleep(0.05)
    return time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--probe", action="store_true")
    parser.add_argument("--hook", action="store_true")
    given = parser.parse_args()
    wanted = objects(given.replicas, given.probe, given.hook)
    with lifecycle.ephemeral("rolling", "guest") as client:
        shapes = json.loads(encode([decode_object(one) for one in wanted]))
        assert not client.call("apply", objects=shapes)["warnings"]
        load = Load(client, given.clients)
        load.start()
        took = [restart(client) for _ in range(given.restarts)]
        load.stop()
    outcomes = Counter(one["error"] or one["outcome"] for one in load.seen)
    failed = len(load.seen) - outcomes["answered"]
    print(f"{given.restarts} restarts of {given.replicas} Pods, {max(took):.1f} s the longest")
    print(f"{len(load.seen)} connections, {failed} failed: {dict(outcomes)}")


if __name__ == "__main__":
    main()
