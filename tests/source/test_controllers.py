"""EndpointSlices as Kubernetes' controller makes them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hairpin.model.address import ip
from hairpin.model.decode import decode_object
from hairpin.model.endpointslice import MANAGED_BY, SERVICE_NAME, EndpointHints, EndpointSlice
from hairpin.model.metadata import Key
from hairpin.model.snapshot import Object, Snapshot
from hairpin.source.controllers import MANAGER, endpoint_slices


def pod(
    name: str,
    address: str = "10.244.0.2",
    *,
    ports: tuple[tuple[str, int, str], ...] = (),
    meta: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
) -> Object:
    opened = [{"name": n, "containerPort": p, "protocol": proto} for n, p, proto in ports]
    container = {"name": "c", "ports": opened}
    return decode_object(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": "web", "tier": "front"}, **(meta or {})},
            "spec": {"containers": [container], "nodeName": "node", **(spec or {})},
            "status": {"podIP": address, **(status or {})},
        }
    )


def service(
    ports: list[dict[str, Any]], labels: dict[str, str] | None = None, **spec: Any
) -> Object:
    return decode_object(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "labels": labels or {}},
            "spec": {"selector": {"app": "web"}, "ports": ports, **spec},
        }
    )


def slice_of(service: str, manager: str | None, name: str) -> Object:
    labels = {SERVICE_NAME: service} | ({MANAGED_BY: manager} if manager else {})
    return decode_object(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["192.0.2.1"]}],
            "ports": [{"port": 80}],
        }
    )


def slices(*objects: Object, ready: dict[Key, bool] | None = None) -> list[EndpointSlice]:
    return list(endpoint_slices(Snapshot(objects), ready).values())


def pods_of(piece: EndpointSlice) -> list[str]:
    return [e.target_ref.name for e in piece.endpoints if e.target_ref]


WEB = [{"port": 80, "targetPort": 8080}]


def test_one_slice_for_pods_alike() -> None:
    (piece,) = slices(service(WEB, labels={"team": "a"}), pod("b", "10.244.0.3"), pod("a"))
    assert piece.metadata.labels == {"team": "a", SERVICE_NAME: "web", MANAGED_BY: MANAGER}
    assert piece.metadata.name.startswith("web-")
    assert pods_of(piece) == ["a", "b"]
    assert piece.endpoints[0].addresses == (ip("10.244.0.2"),)
    assert piece.endpoints[0].node_name == "node"
    assert [port.port for port in piece.ports] == [8080]


def test_named_target_ports_that_differ_make_a_slice_each() -> None:
    named = service([{"name": "http", "port": 80, "targetPort": "www"}])
    some = [
        pod("a", "10.244.0.2", ports=(("www", 8080, "TCP"),)),
        pod("b", "10.244.0.3", ports=(("www", 9090, "TCP"),)),
        pod("c", "10.244.0.4", ports=(("www", 8080, "TCP"),)),
    ]
    found = {tuple(port.port for port in p.ports): p for p in slices(named, *some)}
    assert {ports: pods_of(piece) for ports, piece in found.items()} == {
        (8080,): ["a", "c"],
        (9090,): ["b"],
    }
    (alone,) = slices(named, some[1])
    assert alone.metadata.name == found[9090,].metadata.name, "names do not hang on other Pods"


def test_a_named_target_port_that_no_pod_has_is_no_endpoint() -> None:
    ports = [{"name": "http", "port": 80, "targetPort": "www"}, {"name": "x", "port": 9}]
    (piece,) = slices(service(ports), pod("a", ports=(("www", 8080, "UDP"),)))
    assert [(port.name, port.port) for port in piece.ports] == [("x", 9)], "the protocol counts"


def test_a_service_that_selects_nobody_has_an_empty_slice() -> None:
    (piece,) = slices(service(WEB))
    assert (piece.endpoints, piece.ports) == ((), ())


def test_all_labels_of_the_selector_count_and_the_namespace() -> None:
    both = service(WEB, selector={"app": "web", "tier": "back"})
    elsewhere = pod("b", meta={"namespace": "other"})
    assert [pods_of(piece) for piece in slices(both, pod("a"))] == [[]]
    assert [pods_of(piece) for piece in slices(service(WEB), elsewhere)] == [[]]


def test_who_is_left_out() -> None:
    ended = pod("a", status={"phase": "Succeeded"})
    no_address = pod("b", "")
    assert [pods_of(piece) for piece in slices(service(WEB), ended, no_address)] == [[]]


def test_conditions() -> None:
    def conditions(
        thing: Object, ready: dict[Key, bool] | None = None, **spec: Any
    ) -> tuple[bool | None, ...]:
        (piece,) = slices(service(WEB, **spec), thing, ready=ready)
        found = piece.endpoints[0].conditions
        return found.ready, found.serving, found.terminating

    going = pod("a", meta={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    unready = pod("a", status={"conditions": [{"type": "Ready", "status": "False"}]})
    key = ("default", "a")
    assert conditions(pod("a")) == (True, True, False)
    assert conditions(pod("a"), {key: False}) == (False, False, False)
    assert conditions(pod("a"), {}) == (False, False, False)
    assert conditions(unready) == (False, False, False)
    assert conditions(unready, {key: True}) == (True, True, False)
    assert conditions(going) == (False, True, True)
    assert conditions(going, {}, publishNotReadyAddresses=True) == (True, False, True)


def test_zone_and_hostname() -> None:
    node = decode_object(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "node", "labels": {"topology.kubernetes.io/zone": "z1"}},
        }
    )
    named = pod("a", spec={"hostname": "first", "subdomain": "web"})
    other = pod("b", "10.244.0.3", spec={"hostname": "first", "subdomain": "db"})
    (piece,) = slices(service(WEB), node, named, other)
    assert [(e.zone, e.hostname) for e in piece.endpoints] == [("z1", "first"), ("z1", None)]


def test_headless_services_say_so() -> None:
    (piece,) = slices(service([], clusterIP="None"), pod("a"))
    assert piece.metadata.labels["service.kubernetes.io/headless"] == ""
    assert (pods_of(piece), piece.ports) == (["a"], ())


def test_labels_of_the_service_but_those_that_are_the_controllers() -> None:
    labels = {
        "service.kubernetes.io/headless": "",
        "service.kubernetes.io/service-proxy-name": "other",
    }
    (piece,) = slices(service(WEB, labels=labels, clusterIP="10.96.0.9"), pod("a"))
    assert piece.metadata.labels == {
        "service.kubernetes.io/service-proxy-name": "other",
        SERVICE_NAME: "web",
        MANAGED_BY: MANAGER,
    }


def node(name: str, zone: str) -> Object:
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    meta = {"name": name, "labels": labels}
    return decode_object({"apiVersion": "v1", "kind": "Node", "metadata": meta})


@pytest.mark.parametrize(
    ("distribution", "hints"),
    [
        (None, [((), ()), ((), ())]),
        ("PreferClose", [(("z1",), ()), ((), ())]),
        ("PreferSameZone", [(("z1",), ()), ((), ())]),
        ("PreferSameNode", [(("z1",), ("one",)), ((), ("two",))]),
    ],
)
def test_hints(distribution: str | None, hints: object) -> None:
    some = [
        node("one", "z1"),
        node("two", ""),
        pod("a", spec={"nodeName": "one"}),
        pod("b", "10.244.0.3", spec={"nodeName": "two"}),
    ]

    def found(**meta: Any) -> object:
        web = service(WEB, trafficDistribution=distribution)
        notes = msgspec.structs.replace(web.metadata, **meta)
        (piece,) = slices(msgspec.structs.replace(web, metadata=notes), *some)
        return [
            (tuple(z.name for z in e.hints.for_zones), tuple(n.name for n in e.hints.for_nodes))
            for e in piece.endpoints
        ]

    assert found() == hints
    auto = {"service.kubernetes.io/topology-mode": "Auto"}
    assert found(annotations=auto) == [((), ()), ((), ())]


def test_only_ready_endpoints_have_hints() -> None:
    web = service(WEB, trafficDistribution="PreferSameNode")
    (piece,) = slices(web, node("node", "z1"), pod("a"), ready={})
    assert piece.endpoints[0].hints == EndpointHints()
    open_to_all = service(WEB, trafficDistribution="PreferSameNode", publishNotReadyAddresses=True)
    (piece,) = slices(open_to_all, node("node", "z1"), pod("a"), ready={})
    assert piece.endpoints[0].hints.for_zones[0].name == "z1"


def test_slices_written_by_hand_stay() -> None:
    with_selector = slice_of("web", None, "by-hand")
    without_service = slice_of("db", "somebody.example", "db-1")
    assert {p.metadata.name for p in slices(service(WEB), with_selector, without_service)} >= {
        "by-hand",
        "db-1",
    }


def test_our_own_slices_are_made_anew() -> None:
    stale = slice_of("web", MANAGER, "web-stale")
    assert "web-stale" not in {piece.metadata.name for piece in slices(service(WEB), stale)}
    assert slices(stale) == [], "the Service is gone"


def test_a_clusters_slices_count_only_without_its_pods() -> None:
    theirs = slice_of("web", "endpointslice-controller.k8s.io", "web-xyz12")
    assert slices(service(WEB), theirs) == [theirs]
    assert theirs not in slices(service(WEB), theirs, pod("a"))


def test_a_hundred_endpoints_fill_a_slice() -> None:
    many = [pod(f"p{n:03}", f"10.244.{n // 200}.{n % 200 + 2}") for n in range(250)]
    found = slices(service(WEB), *many)
    assert sorted(len(piece.endpoints) for piece in found) == [50, 100, 100]
    assert sorted(name for piece in found for name in pods_of(piece)) == [
        f"p{n:03}" for n in range(250)
    ]
