"""Admission: what people wrote becomes complete, whatever the order, and stays as it was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.model.address import IP, ip, network
from hairpin.model.decode import decode_object
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import Key, Ref
from hairpin.model.snapshot import Object, Snapshot
from hairpin.source.cluster import admit, apply, delete, with_readiness
from hairpin.source.manifests import load
from hairpin.source.placement import bridge_address
from hairpin.source.ranges import service_cidrs
from hairpin.source.settings import Settings

PODS = network("10.244.0.0/24")
SERVICES = network("10.96.0.0/16")


def make(kind: str, name: str, spec: dict[str, Any] | None = None, **meta: Any) -> Object:
    versions = {"Deployment": "apps/v1"}
    raw = {
        "apiVersion": versions.get(kind, "v1"),
        "kind": kind,
        "metadata": {"name": name, **meta},
        **({} if spec is None else {"spec": spec}),
    }
    return decode_object(raw)


def pod(name: str, app: str = "web", address: str = "") -> Object:
    annotations = {"hairpin.dev/ip": address} if address else {}
    spec = {"containers": [{"name": "c"}]}
    return make("Pod", name, spec, labels={"app": app}, annotations=annotations)


def service(name: str, app: str = "web", address: str = "") -> Object:
    spec = {"clusterIP": address, "selector": {"app": app}, "ports": [{"port": 80}]}
    return make("Service", name, spec)


def deployment(name: str, replicas: int, app: str = "web") -> Object:
    template = {"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": app}}, "template": template}
    return make("Deployment", name, spec)


def addresses(snapshot: Snapshot) -> dict[Ref, IP]:
    """Every allocated address."""
    found: dict[Ref, IP] = {}
    for one in snapshot.pods.values():
        assert one.status.pod_ip is not None
        assert [status.ip for status in one.status.pod_ips] == [one.status.pod_ip]
        found[one.ref] = one.status.pod_ip
    for other in snapshot.services.values():
        for address in other.virtual_ips:
            found[other.ref] = address
    return found


NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
APPS = st.sampled_from(["web", "api"])
PLACES = st.sampled_from(["", "", "", "7", "8"])  # most leave the choice to hairpin
OBJECTS = st.one_of(
    st.builds(lambda n, a, i: pod(n, a, f"10.244.0.{i}" if i else ""), NAMES, APPS, PLACES),
    st.builds(lambda n, a, i: service(n, a, f"10.96.0.{i}" if i else ""), NAMES, APPS, PLACES),
    st.builds(deployment, NAMES, st.integers(0, 3), APPS),
)
CLUSTERS = st.lists(OBJECTS, max_size=12, unique_by=lambda thing: thing.ref)


def admitted(objects: Iterable[Object]) -> Snapshot | str:
    try:
        return admit(objects)
    except ManifestError as error:
        return str(error)


@given(CLUSTERS.flatmap(lambda some: st.tuples(st.just(some), st.permutations(some))))
def test_the_order_of_objects_does_not_matter(both: tuple[list[Object], list[Object]]) -> None:
    assert admitted(both[0]) == admitted(both[1])


@given(CLUSTERS)
def test_admitting_again_changes_nothing(objects: list[Object]) -> None:
    once = admitted(objects)
    if isinstance(once, Snapshot):
        assert admit(once) == once
        assert admit(once, once) == once
        assert admit(tuple(reversed(tuple(once)))) == once


@given(st.lists(st.one_of(st.lists(OBJECTS, max_size=3), st.integers(0, 30)), max_size=15))
def test_addresses_stay_and_are_never_shared(steps: Sequence[list[Object] | int]) -> None:
    """Objects come (a list) and go (a number chooses one); refusals leave all as it was."""
    now = admit(())
    for step in steps:
        before = addresses(now)
        touched: set[Ref] = set()
        try:
            if isinstance(step, int):
                refs = [thing.ref for thing in now if thing.ref.kind != "EndpointSlice"]
                now = delete(now, [refs[step % len(refs)]])
            else:
                touched = {thing.ref for thing in step}
                now = apply(now, step)
        except ManifestError:
            continue
        after = addresses(now)
        kept = (before.keys() & after.keys()) - touched
        assert {ref: after[ref] for ref in kept} == {ref: before[ref] for ref in kept}
        assert len(set(after.values())) == len(after)
        for ref, address in after.items():
            assert address in (PODS if ref.kind == "Pod" else SERVICES)
            assert address != ip("10.244.0.1")


@given(CLUSTERS, st.sets(NAMES))
def test_readiness_changes_nothing_but_endpoints(objects: list[Object], names: set[str]) -> None:
    snapshot = admitted(objects)
    if isinstance(snapshot, str):
        return
    ready = {key: key[1] in names for key in snapshot.pods}
    seen = with_readiness(snapshot, ready)
    assert [o for o in seen if o.ref.kind != "EndpointSlice"] == [
        o for o in snapshot if o.ref.kind != "EndpointSlice"
    ]
    for piece in seen.endpointslices.values():
        for endpoint in piece.endpoints:
            assert endpoint.target_ref
            key: Key = (endpoint.target_ref.namespace, endpoint.target_ref.name)
            assert endpoint.conditions.ready == ready[key]
    assert with_readiness(seen, None) == snapshot


def test_the_seeds_addresses_are_had_exactly() -> None:
    loaded = load(["examples/seed.yaml"], strict=True)
    lab = admit(loaded.objects, where=loaded.where)
    node = lab.nodes["", "node"]
    assert bridge_address(node) == ip("172.22.0.1")
    assert service_cidrs(lab.nodes.values(), Settings()) == (network("172.23.0.0/16"),)
    assert addresses(lab) == {
        Ref("Pod", "default", "foo"): ip("172.22.0.2"),
        Ref("Pod", "default", "bar"): ip("172.22.0.3"),
        Ref("Service", "default", "web"): ip("172.23.0.1"),
    }
    (piece,) = lab.endpointslices.values()
    assert [endpoint.addresses for endpoint in piece.endpoints] == [
        (ip("172.22.0.3"),),
        (ip("172.22.0.2"),),
    ]
    assert [port.port for port in piece.ports] == [8080]


def test_the_example_without_addresses_gets_them_all() -> None:
    lab = admit(load(["examples/web.yaml"], strict=True).objects)
    assert {str(ref): str(address) for ref, address in addresses(lab).items()} == {
        "Pod default/client": "10.244.0.2",
        "Pod default/web-a": "10.244.0.3",
        "Pod default/web-b": "10.244.0.4",
        "Service default/web": "10.96.0.2",
    }
    (piece,) = lab.endpointslices.values()
    assert [(port.name, port.protocol, port.port) for port in piece.ports] == [
        ("http", "TCP", 8080),
        ("dns", "UDP", 5353),
    ]


def test_an_empty_cluster_has_a_node() -> None:
    (node,) = admit(())
    assert str(node.ref) == "Node node"
    assert admit((), settings=Settings(pod_cidrs=(network("10.0.0.0/8"),))).nodes[
        "", "node"
    ].spec.pod_cidr == network("10.0.0.0/24")


def test_the_implied_node_goes_when_a_node_comes() -> None:
    before = admit([pod("a")])
    after = apply(before, [make("Node", "real", {"podCIDR": "10.9.0.0/24"})])
    assert [node.metadata.name for node in after.nodes.values()] == ["real"]
    moved = after.pods["default", "a"]
    assert (moved.spec.node_name, moved.status.pod_ip) == ("real", ip("10.9.0.2"))


def test_the_pod_network_keeps_clear_of_the_service_cidr() -> None:
    notes = {"hairpin.dev/service-cidr": "10.244.0.0/24"}
    node = admit([make("Node", "n", annotations=notes)]).nodes["", "n"]
    assert node.spec.pod_cidrs == (network("10.244.1.0/24"),)


def test_the_first_service_address_is_the_api_servers_unless_asked_for() -> None:
    snapshot = admit([service("a"), service("b", address="10.96.0.1")])
    assert snapshot.services["default", "a"].spec.cluster_ip == ip("10.96.0.2")
    assert snapshot.services["default", "b"].spec.cluster_ip == ip("10.96.0.1")


def test_a_newcomer_is_refused_and_not_who_was_there() -> None:
    before = admit([pod("z"), service("z")])
    with pytest.raises(ManifestError) as caught:
        apply(before, [pod("a", address="10.244.0.2")], where={"Pod default/a": "a.yaml"})
    assert caught.value.headline == (
        "a.yaml: Pod default/a: metadata.annotations[hairpin.dev/ip]: "
        "10.244.0.2 is already the address of Pod default/z"
    )
    with pytest.raises(ManifestError) as caught:
        apply(before, [service("a", address="10.96.0.2")])
    assert caught.value.headline == (
        "Service default/a: spec.clusterIP: "
        "10.96.0.2 is already the cluster IP of Service default/z"
    )


def test_an_object_applied_again_without_its_address_keeps_it() -> None:
    before = admit([pod("a"), pod("b"), service("a"), service("b")])
    after = apply(delete(before, [Ref("Pod", "default", "a")]), [pod("b"), service("b")])
    assert after.pods["default", "b"] == before.pods["default", "b"]
    assert after.services["default", "b"] == before.services["default", "b"]


def test_an_address_that_is_asked_for_goes_before_the_one_had() -> None:
    after = apply(admit([pod("a")]), [pod("a", address="10.244.0.50")])
    assert after.pods["default", "a"].status.pod_ip == ip("10.244.0.50")


def test_an_address_from_another_cluster_is_no_wish() -> None:
    """What ``kubectl get -o yaml`` printed carries addresses of that cluster's nodes."""
    found = pod("a")
    raw_status = {"podIP": "10.200.3.4", "podIPs": [{"ip": "10.200.3.4"}]}
    raw = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "status": raw_status}
    found = decode_object({**raw, "spec": {"containers": [{"name": "c"}]}})
    assert admit([found]).pods["default", "a"].status.pod_ip == ip("10.244.0.2")


def test_deployments_pods_come_and_go_with_it() -> None:
    three = admit([deployment("web", 3), pod("other")])
    assert [name for _, name in three.pods] == ["other", "web-0", "web-1", "web-2"]
    (owner,) = three.pods["default", "web-0"].metadata.owner_references
    assert (owner.kind, owner.name, owner.controller) == ("Deployment", "web", True)
    one = apply(three, [deployment("web", 1)])
    assert [name for _, name in one.pods] == ["other", "web-0"]
    assert one.pods["default", "web-0"] == three.pods["default", "web-0"]
    none = delete(one, [Ref("Deployment", "default", "web")])
    assert [name for _, name in none.pods] == ["other"]


def test_a_deleted_pod_of_a_deployment_comes_back() -> None:
    before = admit([deployment("web", 2)])
    assert delete(before, [Ref("Pod", "default", "web-1")]) == before


def test_deleting_what_is_not_there() -> None:
    with pytest.raises(ManifestError) as caught:
        delete(admit(()), [Ref("Pod", "default", "foo")])
    assert str(caught.value) == "Pod default/foo: there is none"


def test_an_object_twice_in_one_input() -> None:
    with pytest.raises(ManifestError, match="is there twice") as caught:
        admit([pod("a"), pod("a")], where={"Pod default/a": "f.yaml"})
    assert caught.value.headline == "f.yaml: Pod default/a: is there twice"


def test_services_get_the_defaults_of_the_api_server() -> None:
    spec = admit([service("web")]).services["default", "web"].spec
    assert spec.type == "ClusterIP"
    assert spec.ports[0].protocol == "TCP"
    assert spec.ports[0].target_port == 80
    assert spec.cluster_ips == (spec.cluster_ip,)
    assert spec.ip_families == ("IPv4",)
    assert spec.ip_family_policy == "SingleStack"
    assert spec.internal_traffic_policy == "Cluster"
    assert spec.external_traffic_policy is None
    assert spec.session_affinity == "None"


def test_headless_and_external_name_have_no_address() -> None:
    headless = make("Service", "h", {"clusterIP": "None", "selector": {"app": "web"}})
    external = make("Service", "e", {"type": "ExternalName", "externalName": "example.com"})
    snapshot = admit([headless, external, pod("a")])
    assert snapshot.services["default", "h"].virtual_ips == ()
    assert snapshot.services["default", "h"].spec.cluster_ips == ("None",)
    assert snapshot.services["default", "e"].spec.cluster_ips == ()
    assert [piece.service_key for piece in snapshot.endpointslices.values()] == [("default", "h")]


def test_two_nodes_that_disagree_on_the_service_cidr() -> None:
    nodes = [
        make("Node", name, annotations={"hairpin.dev/service-cidr": cidr})
        for name, cidr in (("a", "10.1.0.0/16"), ("b", "10.2.0.0/16"))
    ]
    with pytest.raises(ManifestError) as caught:
        service_cidrs((n for n in Snapshot(nodes).nodes.values()), Settings())
    assert caught.value.headline == (
        "Node b: metadata.annotations[hairpin.dev/service-cidr]: Node a says 10.1.0.0/16"
    )


def test_a_snapshot_is_never_changed() -> None:
    before = admit([pod("a"), service("web")])
    listed = tuple(before)
    apply(before, [pod("b"), deployment("c", 2)])
    delete(before, [Ref("Pod", "default", "a")])
    assert tuple(before) == listed
    with pytest.raises(AttributeError):
        before.pods["default", "a"].metadata.name = "b"  # type: ignore[misc]  # frozen: that is it
    assert msgspec.structs.asdict(before.pods["default", "a"])["metadata"].name == "a"
