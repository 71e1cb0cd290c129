"""Services and EndpointSlices to virtual and real servers."""

import random

from hairpin.model.address import ip
from hairpin.model.decode import decode_object
from hairpin.model.snapshot import Snapshot
from hairpin.plan.services import servers, vip_addresses
from hairpin.source.cluster import admit
from hairpin.state.change import KernelState
from hairpin.state.ipvs import RealServer, VirtualServer


def _service(name: str, cluster_ip: str, ports: list[dict[str, object]]) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": cluster_ip, "ports": ports},
    }


def _slice(name: str, service: str, port: dict[str, object], *ends: object) -> dict[str, object]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [port],
        "endpoints": list(ends),
    }


def _end(address: str, **conditions: bool) -> dict[str, object]:
    return {"addresses": [address], "conditions": conditions}


HTTP = {"name": "http", "port": 80}
OBJECTS = [
    _service("web", "10.96.0.10", [HTTP, {"name": "dns", "port": 53, "protocol": "UDP"}]),
    _service("idle", "10.96.0.11", [{"port": 80}]),
    _service("headless", "None", [{"port": 80}]),
    _slice("web-1", "web", {"name": "http", "port": 8080}, _end("10.244.0.9"), _end("10.244.0.10")),
    _slice("web-2", "web", {"name": "http", "port": 8080}, _end("10.244.0.9", ready=True)),
    _slice("web-3", "web", {"name": "http", "port": 9090}, _end("10.244.0.11", ready=False)),
    _slice("web-4", "web", {"name": "http", "port": 9090}, _end("10.244.0.12")),
    _slice("web-5", "web", {"name": "dns", "port": 5353, "protocol": "UDP"}, _end("10.244.0.9")),
    _slice("other", "gone", {"name": "http", "port": 1}, _end("10.244.0.13")),
]


def _plan(objects: list[dict[str, object]]) -> KernelState:
    snapshot: Snapshot = admit([decode_object(one) for one in objects])
    found = servers(snapshot.services.values(), snapshot.endpointslices.values(), "node")
    addresses = vip_addresses(snapshot.services.values(), "node", "kube-ipvs0")
    return KernelState([*addresses, *found])


def _real(state: KernelState, vip: str, port: int) -> list[str]:
    return [
        f"{one.object.ip}:{one.object.port}"
        for one in state
        if isinstance(one.object, RealServer)
        and (one.object.vip, one.object.vport) == (ip(vip), port)
    ]


def test_ready_endpoints_of_all_slices_are_merged_each_once() -> None:
    state = _plan(OBJECTS)
    assert _real(state, "10.96.0.10", 80) == [
        "10.244.0.9:8080",
        "10.244.0.10:8080",
        "10.244.0.12:9090",
    ]
    assert _real(state, "10.96.0.10", 53) == ["10.244.0.9:5353"]


def test_a_service_without_endpoints_has_its_virtual_server_all_the_same() -> None:
    state = _plan(OBJECTS)
    idle = VirtualServer(protocol="TCP", ip=ip("10.96.0.11"), port=80)
    assert state.get("node", idle.key)
    assert _real(state, "10.96.0.11", 80) == []


def test_headless_services_and_slices_of_nobody_have_no_part_in_it() -> None:
    state = _plan(OBJECTS)
    vips = {one.object.ip for one in state if isinstance(one.object, VirtualServer)}
    assert vips == {ip("10.96.0.10"), ip("10.96.0.11")}
    assert "10.244.0.13" not in str([one.object for one in state])


def test_everything_says_who_asked_for_it() -> None:
    owners = {one.owner for one in _plan(OBJECTS)}
    assert owners == {
        "service default/web",
        "service default/idle",
        "service default/web:http",
        "service default/web:dns",
    }


def test_the_plan_does_not_depend_on_the_order_of_its_input() -> None:
    expected = list(_plan(OBJECTS))
    shuffler = random.Random(1)
    for _ in range(20):
        shuffled = shuffler.sample(OBJECTS, len(OBJECTS))
        assert list(_plan(shuffled)) == expected
