"""Where the built-in servers listen, and what is too much for one lab."""

from __future__ import annotations

import io

import pytest

from hairpin.lab import capacity
from hairpin.lab.ports import Selectors, built_in
from hairpin.lab.session import LabError
from hairpin.model.metadata import ObjectMeta
from hairpin.model.pod import Container, Pod, PodSpec
from hairpin.source.cluster import admit
from hairpin.source.manifests import load
from hairpin.source.settings import LAB

TEXT = """
apiVersion: v1
kind: Pod
metadata: {name: silent, labels: {app: web, tier: a}}
spec: {containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: said, labels: {app: web}}
spec: {containers: [{name: c, ports: [{containerPort: 7, protocol: SCTP}, {containerPort: 9}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: busy, labels: {app: web}}
spec: {containers: [{name: c, command: [sleep]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web, tier: a}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: other}
spec: {selector: {app: web}, ports: [{port: 99}]}
"""


def test_where_the_built_in_servers_listen() -> None:
    snapshot = admit(load(["-"], stdin=io.StringIO(TEXT)).objects, settings=LAB)
    selectors = Selectors(snapshot.services.values())
    assert {key[1]: built_in(pod, selectors) for key, pod in snapshot.pods.items()} == {
        "silent": {("TCP", 8080): "echo"},
        "said": {("TCP", 9): "echo", ("SCTP", 7): "echo"},
        "busy": {},
        "coredns": {("TCP", 53): "dns", ("UDP", 53): "dns"},
    }


def test_more_pods_than_a_bridge_has_ports_are_refused_in_words() -> None:
    spec = PodSpec(containers=(Container(name="c"),), node_name="node")
    pods = {
        ("a", str(number)): Pod(metadata=ObjectMeta(name=str(number), namespace="a"), spec=spec)
        for number in range(capacity.BRIDGE_PORTS + 1)
    }
    with pytest.raises(LabError, match=r"1024 Pods.* 1023 ports") as refused:
        capacity.check(pods)
    assert refused.value.exit_code == 2


def test_a_short_packet_queue_is_named_for_many_pods_only() -> None:
    assert capacity.queue_warning(200, 1000) is None
    assert capacity.queue_warning(1000, 65536) is None
    said = capacity.queue_warning(1000, 1000)
    assert said is not None
    assert "net.core.netdev_max_backlog, 1000" in said and "--kernel guest" in said
