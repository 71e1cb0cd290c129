"""Objects keep the API's shape on their way in and out."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from hairpin.model.address import ip, network
from hairpin.model.decode import decode_object, decode_objects, encode, to_api
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import Ref
from hairpin.model.pod import Pod
from hairpin.model.service import Service, ServicePortName
from hairpin.model.snapshot import Snapshot
from hairpin.model.unsupported import unsupported

CONTAINER = {
    "name": "c",
    "image": "nginx",
    "command": ["sh", "-c", "exec sleep 5"],
    "args": ["x"],
    "workingDir": "/tmp",
    "env": [{"name": "A", "value": "b"}, {"name": "EMPTY"}],
    "ports": [{"containerPort": 80, "name": "http", "protocol": "TCP"}],
    "readinessProbe": {
        "httpGet": {
            "port": "http",
            "path": "/ready",
            "scheme": "HTTP",
            "httpHeaders": [{"name": "Host", "value": "x"}],
        },
        "initialDelaySeconds": 0,
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    },
}
POD_SPEC = {
    "containers": [CONTAINER],
    "initContainers": [{"name": "i", "command": ["true"]}],
    "nodeName": "n",
    "hostNetwork": True,
    "hostname": "h",
    "subdomain": "s",
    "restartPolicy": "Never",
    "terminationGracePeriodSeconds": 5,
}
META = {
    "name": "x",
    "namespace": "other",
    "labels": {"app": "web", "empty": ""},
    "annotations": {"a/b": "c"},
    "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "controller": True}],
    "deletionTimestamp": "2026-01-01T00:00:00Z",
    "uid": "9b1deb4d",
    "resourceVersion": "7",
}
PORTS = [
    {"port": 80, "name": "a", "protocol": "TCP", "targetPort": "http", "nodePort": 30080},
    {"port": 53, "name": "b", "protocol": "UDP", "targetPort": 5353, "appProtocol": "dns"},
]
# In the order that it is shown in, with every field that hairpin keeps, and no default left out.
GOLDEN: list[dict[str, Any]] = [
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z1"}},
        "spec": {
            "podCIDR": "10.1.0.0/24",
            "podCIDRs": ["10.1.0.0/24", "fd00::/64"],
            "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}],
        },
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    },
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": META,
        "spec": POD_SPEC,
        "status": {
            "phase": "Running",
            "podIP": "10.1.0.2",
            "podIPs": [{"ip": "10.1.0.2"}, {"ip": "fd00::2"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    },
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "x", "namespace": "default"},
        "spec": {
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": POD_SPEC},
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "10%"},
            },
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": META,
        "spec": {
            "type": "LoadBalancer",
            "selector": {"app": "web"},
            "ports": PORTS,
            "clusterIP": "10.96.0.1",
            "clusterIPs": ["10.96.0.1", "fd00:96::1"],
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack",
            "externalIPs": ["192.0.2.9"],
            "loadBalancerIP": "192.0.2.8",
            "loadBalancerClass": "example.com/lb",
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "allocateLoadBalancerNodePorts": False,
            "externalTrafficPolicy": "Local",
            "internalTrafficPolicy": "Local",
            "healthCheckNodePort": 30000,
            "publishNotReadyAddresses": True,
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "trafficDistribution": "PreferClose",
        },
        "status": {
            "loadBalancer": {
                "ingress": [{"ip": "192.0.2.7", "ipMode": "VIP"}, {"hostname": "lb.example.com"}]
            }
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "h", "namespace": "default"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "clusterIPs": ["None"],
            "sessionAffinity": "None",
        },
    },
    {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "x-1", "namespace": "default"},
        "addressType": "IPv6",
        "endpoints": [
            {
                "addresses": ["fd00::2"],
                "conditions": {"ready": False, "serving": True, "terminating": True},
                "hostname": "h",
                "nodeName": "n",
                "zone": "z",
                "hints": {"forZones": [{"name": "z"}], "forNodes": [{"name": "n"}]},
                "targetRef": {"kind": "Pod", "name": "p", "namespace": "default"},
            },
            {"addresses": ["fd00::3"]},
        ],
        "ports": [{"name": "a", "protocol": "SCTP", "port": 9, "appProtocol": "x"}],
    },
]


@pytest.mark.parametrize("raw", GOLDEN, ids=lambda raw: f"{raw['kind']} {raw['metadata']['name']}")
def test_golden_round_trip(raw: dict[str, Any]) -> None:
    thing = decode_object(raw)
    assert to_api(thing) == raw
    assert decode_object(to_api(thing)) == thing
    assert decode_objects(encode([thing])) == (thing,)


def test_fields_are_shown_in_the_apis_order() -> None:
    shown = to_api(decode_object(GOLDEN[1]))
    assert list(shown) == ["apiVersion", "kind", "metadata", "spec", "status"]
    assert list(shown["metadata"])[:2] == ["name", "namespace"]


def test_addresses_are_values() -> None:
    thing = decode_object(GOLDEN[3])
    assert isinstance(thing, Service)
    assert thing.virtual_ips == (ip("10.96.0.1"), ip("fd00:96::1"))
    assert thing.spec.load_balancer_source_ranges == (network("192.0.2.0/24"),)
    assert not thing.headless


def test_null_and_empty_count_as_absent() -> None:
    raw = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "x", "namespace": "", "labels": {"a": None}, "annotations": None},
        "spec": {
            "clusterIP": "",
            "loadBalancerIP": "",
            "type": None,
            "ports": [{"port": 1, "nodePort": 0, "targetPort": None}],
        },
        "status": None,
    }
    thing = decode_object(raw)
    assert thing.ref == Ref("Service", "default", "x")
    assert thing.metadata.labels == {"a": ""}
    assert isinstance(thing, Service)
    assert thing.spec.cluster_ip is None
    assert thing.spec.ports[0].node_port is None


def test_unknown_fields_are_no_matter() -> None:
    raw = {**GOLDEN[4], "more": {"deep": [1]}, "metadata": {"name": "h", "generation": 5}}
    assert decode_object(raw) == decode_object(GOLDEN[4])


def test_nodes_have_no_namespace() -> None:
    raw = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "namespace": "x"}}
    assert str(decode_object(raw).ref) == "Node n"


def test_deep_values_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    raw = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": deep}
    with pytest.raises(ManifestError, match="more than 100 levels"):
        decode_object(raw)


def test_the_name_of_a_service_port() -> None:
    thing = decode_object(GOLDEN[3])
    assert isinstance(thing, Service)
    names = [thing.port_name(port) for port in thing.spec.ports]
    assert names[1] == ServicePortName("other", "x", "b", "UDP")
    assert str(names[1]) == "other/x:b"
    assert str(ServicePortName("default", "web", "", "TCP")) == "default/web"
    assert sorted(names) == names
    assert len({*names, *names}) == 2


def test_a_services_name_may_begin_with_a_digit() -> None:
    """Since Kubernetes 1.36 (RelaxedServiceNameValidation)."""
    raw = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "2048-game"},
        "spec": {"ports": [{"port": 80}]},
    }
    assert decode_object(raw).metadata.name == "2048-game"


def test_source_ranges_may_be_padded() -> None:
    """As the API server takes them, of all networks."""
    ranges = [" 203.0.113.0/25", "10.0.0.0/8 "]
    raw = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {
            "type": "LoadBalancer",
            "ports": [{"port": 80}],
            "loadBalancerSourceRanges": ranges,
        },
    }
    found = decode_object(raw)
    assert isinstance(found, Service)
    assert found.spec.load_balancer_source_ranges == tuple(network(one.strip()) for one in ranges)


def test_a_snapshot_is_sorted_and_the_later_object_counts() -> None:
    some = [decode_object(raw) for raw in GOLDEN]
    pod = some[1]
    assert isinstance(pod, Pod)
    replaced = decode_object({**GOLDEN[1], "spec": {"containers": [{"name": "new"}]}})
    snapshot = Snapshot(reversed(some)).merge([replaced])
    assert [thing.ref.kind for thing in snapshot] == [
        "Node",
        "Deployment",
        "Pod",
        "Service",
        "Service",
        "EndpointSlice",
    ]
    assert snapshot.get(pod.ref) == replaced != pod
    assert snapshot.without([pod.ref, Ref("Pod", "no", "such")]).get(pod.ref) is None
    assert len(snapshot) == 6
    assert snapshot.without([pod.ref]) != snapshot == Snapshot(tuple(snapshot))
    assert decode_objects(encode(snapshot)) == tuple(snapshot)


def test_fields_that_matter_and_are_passed_over() -> None:
    spec = {
        "initContainers": [{"name": "i"}],
        "volumes": [{"name": "v"}],
        "dnsPolicy": "None",
        "securityContext": {"fsGroup": 1, "sysctls": [{"name": "a", "value": "b"}]},
        "hostPID": False,
        "containers": [
            {"name": "a", "resources": {}, "livenessProbe": {"exec": {"command": ["x"]}}},
            {
                "name": "b",
                "ports": [{"containerPort": 1}, {"containerPort": 2, "hostPort": 2}],
                "env": [{"name": "X", "valueFrom": {"fieldRef": {}}}],
                "envFrom": [{"configMapRef": {"name": "c"}}],
            },
        ],
    }
    assert unsupported({"kind": "Pod", "spec": spec}) == [
        "spec.dnsPolicy",
        "spec.initContainers",
        "spec.securityContext.sysctls",
        "spec.containers[1].envFrom",
        "spec.containers[1].env[0].valueFrom",
        "spec.containers[0].livenessProbe",
        "spec.containers[1].ports[1].hostPort",
    ]
    nested = {"kind": "Deployment", "spec": {"template": {"spec": {"hostIPC": True}}}}
    assert unsupported(nested) == ["spec.template.spec.hostIPC"]
    assert unsupported({"kind": "Pod", "spec": {"dnsPolicy": "ClusterFirst"}}) == []
    assert unsupported({"kind": "Pod", "spec": [1]}) == []
    mode = "service.kubernetes.io/topology-mode"
    for value, fields in (("Auto", [f"metadata.annotations[{mode}]"]), ("Disabled", [])):
        hinted = {"kind": "Service", "metadata": {"annotations": {mode: value}}}
        assert unsupported(hinted) == fields


_TOGETHER = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from hairpin.model.decode import decode_object, learn

learn()
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(4)
shape = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
         "spec": {"ports": [{"port": 80}]}}

def decode(_: int) -> str:
    barrier.wait()
    return decode_object(shape).metadata.name

with ThreadPoolExecutor(4) as pool:
    print(*pool.map(decode, range(4)))
"""


@pytest.mark.parametrize("attempt", range(5))
def test_what_msgspec_has_learnt_is_decoded_in_several_threads(attempt: int) -> None:
    """Without ``learn`` each of these has an even chance to crash."""
    done = subprocess.run(
        [sys.executable, "-c", _TOGETHER], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "a a a a\n")
