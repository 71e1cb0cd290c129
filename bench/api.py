"""From the API server to the model: how long a cluster's list takes to become values.

    python bench/api.py [--sizes 1000,10000] [--trials N]

Services with one EndpointSlice of 4 endpoints each, with the metadata that a 1.36 API server sends
(managedFields included).  Decoding is beside what any reader pays: msgspec reading the same bytes
into plain values, and the standard library's json.  Then the whole way over HTTP on loopback, from
a server in another process that sends what it made before: by pages as hairpin's fallback has it,
and as the streamed list that kube-proxy 1.36 asks for.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hairpin.source.api.client import Client
from hairpin.source.api.follow import KINDS, Follower, read_once
from hairpin.source.api.kubeconfig import Access
from hairpin.source.api.objects import Decoding, resources
from tests.api_server.server import Server

_ENDPOINTS = 4
_LIMIT = 120.0  # seconds
_MANAGED = {
    "manager": "kube-controller-manager",
    "operation": "Update",
    "apiVersion": "discovery.k8s.io/v1",
    "time": "2026-11-23T03:14:53Z",
    "fieldsType": "FieldsV1",
    "fieldsV1": {
        "f:addressType": {},
        "f:endpoints": {},
        "f:metadata": {"f:generateName": {}, "f:labels": {".": {}, "f:app": {}}},
        "f:ports": {},
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(description="From the API server to the model.")
    parser.add_argument("--sizes", default="1000,10000", help="numbers of Services")
    parser.add_argument("--trials", type=int, default=5, help="of each (5)")
    arguments = parser.parse_args()
    for size in map(int, arguments.sizes.split(",")):
        things = [*map(service, range(size)), *map(endpoint_slice, range(size))]
        print(f"\n{size:,} Services, {size * _ENDPOINTS:,} endpoints")
        _decoding(things, arguments.trials)
        _over_http(size, max(1, arguments.trials // 2))
    return 0


def _decoding(things: list[dict[str, Any]], trials: int) -> None:
    lists = {
        one.kind: json.dumps(
            {
                "kind": f"{one.kind}List",
                "metadata": {"resourceVersion": "1"},
                "items": [each for each in things if each["kind"] == one.kind],
            }
        ).encode()
        for one in resources("node")[:2]
    }
    size = sum(map(len, lists.values()))

    def read() -> None:
        for one in resources("node")[:2]:
            page = Decoding(one).page(lists[one.kind])
            assert not page.problems and page.items

    plain = _median(lambda: [msgspec.json.decode(data) for data in lists.values()], trials)
    rows = {
        f"list to model ({size / 1e6:.0f} MB of JSON)": _median(read, trials),
        "the same to plain values, msgspec": plain,
        "the same to plain values, json": _median(
            lambda: [json.loads(data) for data in lists.values()], trials
        ),
    }
    for name, seconds in rows.items():
        print(f"  {name:<42} {seconds:7.3f} s   {seconds / plain:5.2f} x")


def _over_http(size: int, trials: int) -> None:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_server, args=(size, theirs), daemon=True)
    process.start()
    client = Client(Access(server=ours.recv(), where="bench"))
    print(f"  {'over HTTP, by pages':<42} {_median(lambda: read_once(client, 'n'), trials):7.3f} s")

    def streamed() -> None:
        follower = Follower(client, "n", print)
        whole: set[str] = set()
        follower.start()
        end = time.monotonic() + _LIMIT
        while whole < KINDS and time.monotonic() < end:
            whole |= {one.kind for one in follower.wait(0.1) if one.whole}
        follower.stop()

    print(f"  {'over HTTP, streamed':<42} {_median(streamed, trials):7.3f} s")
    process.kill()
    process.join()


def _server(size: int, pipe: Any) -> None:
    server = Server()
    for n in range(size):
        server.store.put(service(n))
        server.store.put(endpoint_slice(n))
    server.store.history.clear()
    gc.freeze()
    pipe.send(server.start().url)
    while True:
        time.sleep(60)


def _median(do: Callable[[], object], trials: int) -> float:
    spent = []
    for _ in range(trials):
        gc.collect()
        began = time.perf_counter()
        do()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def service(n: int) -> dict[str, Any]:
    ip = f"10.{96 + (n >> 16)}.{n >> 8 & 255}.{n & 255}"
    return {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": _metadata(f"web-{n}", {"app": "web"}),
        "spec": {
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
            "selector": {"app": f"web-{n}"},
            "clusterIP": ip,
            "clusterIPs": [ip],
            "type": "ClusterIP",
            "sessionAffinity": "None",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster",
        },
        "status": {"loadBalancer": {}},
    }


def endpoint_slice(n: int) -> dict[str, Any]:
    labels = {"app": "web", "kubernetes.io/service-name": f"web-{n}"}
    first = n * _ENDPOINTS
    addresses = [f"10.{128 + (i >> 16)}.{i >> 8 & 255}.{i & 255}" for i in range(first, first + 4)]
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": _metadata(f"web-{n}-btgfq", labels),
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": [ip],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": f"web-{n}-{ip}"},
                "nodeName": "node1",
                "zone": "zone-a",
            }
            for ip in addresses
        ],
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
    }


def _metadata(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "shop",
        "uid": "b6be3302-65f6-489d-a574-dc270d8d0755",
        "resourceVersion": "279",
        "creationTimestamp": "2026-11-23T03:14:52Z",
        "labels": labels,
        "managedFields": [_MANAGED],
    }


if __name__ == "__main__":
    sys.exit(main())
