"""What ``hairpin describe`` and ``get`` say of a Service's addresses, ports and policies."""

from __future__ import annotations

from typing import Any

from hairpin.present import describe, objects

SERVICE: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.9",
        "clusterIPs": ["10.96.0.9", "fd00::9"],
        "externalIPs": ["203.0.113.9"],
        "externalTrafficPolicy": "Local",
        "healthCheckNodePort": 30099,
        "loadBalancerSourceRanges": ["10.0.0.0/8"],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        "ports": [
            {"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30080},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ],
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}},
}


def test_a_service_s_fields_are_kubectl_s() -> None:
    said = describe.service(SERVICE, [], []).partition("\n\n")[0]
    fields = [tuple(part.strip() for part in line.split(":  ", 1)) for line in said.splitlines()]
    assert fields[5:] == [
        ("Type", "LoadBalancer"),
        ("IP", "10.96.0.9,fd00::9"),
        ("External IPs", "203.0.113.9"),
        ("LoadBalancer Ingress", "192.0.2.9"),
        ("Port", "http  80/TCP"),
        ("TargetPort", "8080/TCP"),
        ("NodePort", "http  30080/TCP"),
        ("Port", "dns  53/UDP"),
        ("TargetPort", "53/UDP"),
        ("Session Affinity", "ClientIP, 60 s"),
        ("External Traffic Policy", "Local"),
        ("HealthCheck NodePort", "30099"),
        ("LoadBalancer Source Ranges", "10.0.0.0/8"),
    ]


def test_what_a_service_does_not_have_is_left_out() -> None:
    spec = {"ports": [{"port": 80}], "clusterIP": "10.96.0.9", "internalTrafficPolicy": "Cluster"}
    said = describe.service({**SERVICE, "spec": spec, "status": {}}, [], []).partition("\n\n")[0]
    names = [line.partition(":")[0] for line in said.splitlines()[5:]]
    assert names == ["Type", "IP", "Port", "TargetPort", "Session Affinity"]


def test_a_table_has_node_ports_beside_ports() -> None:
    header, rows = objects.columns("services", [SERVICE], now=0.0, wide=False)
    assert dict(zip(header, rows[0], strict=True))["PORT(S)"] == "80:30080/TCP,53/UDP"
