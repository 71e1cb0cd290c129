"""Services as the API server leaves them: families, cluster IPs, node ports, load balancers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.model.address import network
from hairpin.model.decode import decode_object
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import Ref
from hairpin.model.pod import Pod
from hairpin.model.service import Service
from hairpin.model.snapshot import Object, Snapshot
from hairpin.source.cluster import admit, apply, delete
from hairpin.source.documents import documents
from hairpin.source.manifests import load
from hairpin.source.settings import LAB, PLAN, Settings

INPUT = Path("tests/plan/kube-proxy-1.36/input")
DUAL = Settings(
    service_cidrs=PLAN.service_cidrs,
    pod_cidrs=PLAN.pod_cidrs,
    load_balancer_cidrs=PLAN.load_balancer_cidrs,
)


def service(name: str = "web", *, meta: dict[str, Any] | None = None, **spec: Any) -> Object:
    return decode_object(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, **(meta or {})},
            "spec": {"ports": [{"port": 80}], **spec},
        }
    )


def of(snapshot: Snapshot, name: str = "web") -> Service:
    return snapshot.services["default", name]


def node_ports(snapshot: Snapshot, name: str = "web") -> list[int | None]:
    return [port.node_port for port in of(snapshot, name).spec.ports]


def ingress(snapshot: Snapshot, name: str = "web") -> list[str]:
    return [f"{one.ip} {one.ip_mode}" for one in of(snapshot, name).status.load_balancer.ingress]


# What is complete


@pytest.mark.parametrize("stored", [True, False])
def test_what_an_api_server_completed_is_not_changed(stored: bool, tmp_path: Path) -> None:
    """The recorded Services, slices and Node; and the same without what says whence they came."""
    files = ["services.yaml", "endpointslices.yaml", "node.yaml"]
    for name in files:
        text = (INPUT / name).read_text()
        kept = [
            line
            for line in text.splitlines()
            if stored or line.split(":")[0].strip() not in ("uid", "resourceVersion")
        ]
        (tmp_path / name).write_text("\n".join(kept))
    loaded = load([str(tmp_path / name) for name in files], whole=True)
    assert not loaded.problems
    given_ones = Snapshot(loaded.objects)
    snapshot = admit(loaded.objects, settings=PLAN)
    assert snapshot.services == given_ones.services
    assert snapshot.endpointslices == given_ones.endpointslices
    assert snapshot.nodes == given_ones.nodes
    assert admit(snapshot, snapshot, PLAN) == snapshot


def test_a_labs_objects_are_planned_as_they_are_without_its_pods() -> None:
    """As kubectl get services,endpointslices shows them: hairpin get nodes,svc,endpointslices."""
    pod = decode_object(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
        }
    )
    lab = admit([pod, service(selector={"app": "web"})], settings=LAB)
    assert len(lab.endpointslices) == 2  # with that of the DNS
    shown = [one for one in lab if not isinstance(one, Pod)]
    snapshot = admit(shown, settings=PLAN)
    assert snapshot.services == lab.services
    assert snapshot.endpointslices == lab.endpointslices
    assert admit(snapshot, snapshot, PLAN) == snapshot


def test_a_balancer_that_waits_in_a_cluster_waits_here() -> None:
    meta = {"uid": "1"}
    waiting = service(type="LoadBalancer", clusterIP="10.200.0.9", meta=meta)
    own = service("own", type="LoadBalancer")
    snapshot = admit([waiting, own], settings=PLAN)
    assert (ingress(snapshot), node_ports(snapshot)) == ([], [None])
    assert (ingress(snapshot, "own"), node_ports(snapshot, "own")) == (["192.0.2.1 VIP"], [30086])


def test_ours_keep_clear_of_what_a_cluster_gave() -> None:
    theirs = service(
        type="NodePort",
        clusterIP="10.96.0.2",
        clusterIPs=["10.96.0.2"],
        ports=[{"port": 80, "nodePort": 30086}],
        meta={"uid": "1"},
    )
    snapshot = admit([theirs, service("a", type="NodePort")], settings=PLAN)
    assert str(of(snapshot, "a").spec.cluster_ip) == "10.96.0.3"
    assert node_ports(snapshot, "a") == [30087]
    with pytest.raises(ManifestError, match=r"10\.96\.0\.2 is already the cluster IP of"):
        admit([theirs, service("a", clusterIP="10.96.0.2")], settings=PLAN)


# Families


@pytest.mark.parametrize(
    ("spec", "settings", "policy", "families", "ips"),
    [
        ({}, DUAL, "SingleStack", ["IPv4"], ["10.96.0.2"]),
        ({"ipFamilies": ["IPv6"]}, DUAL, "SingleStack", ["IPv6"], ["fd00:10:96::2"]),
        ({"clusterIP": "fd00:10:96::9"}, DUAL, "SingleStack", ["IPv6"], ["fd00:10:96::9"]),
        (
            {"ipFamilyPolicy": "PreferDualStack"},
            DUAL,
            "PreferDualStack",
            ["IPv4", "IPv6"],
            ["10.96.0.2", "fd00:10:96::2"],
        ),
        (
            {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]},
            DUAL,
            "RequireDualStack",
            ["IPv6", "IPv4"],
            ["fd00:10:96::2", "10.96.0.2"],
        ),
        ({"ipFamilyPolicy": "PreferDualStack"}, LAB, "PreferDualStack", ["IPv4"], ["10.96.0.2"]),
        ({"clusterIP": "None"}, LAB, "RequireDualStack", ["IPv4", "IPv6"], []),
        ({"clusterIP": "None", "selector": {"a": "b"}}, DUAL, "SingleStack", ["IPv4"], []),
    ],
)
def test_families(
    spec: dict[str, Any], settings: Settings, policy: str, families: list[str], ips: list[str]
) -> None:
    found = of(admit([service(**spec)], settings=settings))
    assert found.spec.ip_family_policy == policy
    assert list(found.spec.ip_families) == families
    assert [str(ip) for ip in found.virtual_ips] == ips


def test_an_ipv6_cluster_by_its_annotation() -> None:
    node = decode_object(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": "n",
                "annotations": {"hairpin.dev/service-cidr": "fd00:96::/112, 10.1.0.0/16"},
            },
        }
    )
    two = service("b", ipFamilyPolicy="PreferDualStack")
    snapshot = admit([node, service("a"), two], settings=DUAL)
    assert [str(ip) for ip in of(snapshot, "a").virtual_ips] == ["fd00:96::2"]
    assert [str(ip) for ip in of(snapshot, "b").virtual_ips] == ["fd00:96::3", "10.1.0.2"]


def test_a_second_family_comes_and_goes_and_the_first_address_stays() -> None:
    one = admit([service(), service("z")], settings=DUAL)
    two = apply(one, [service(ipFamilyPolicy="RequireDualStack")], DUAL)
    assert [str(ip) for ip in of(two).virtual_ips] == ["10.96.0.2", "fd00:10:96::2"]
    kept = apply(two, [service()], DUAL)
    assert of(kept).virtual_ips == of(two).virtual_ips, "no policy is no wish to change it"
    single = apply(two, [service(ipFamilyPolicy="SingleStack")], DUAL)
    assert of(single).virtual_ips == of(one).virtual_ips


def test_pods_of_a_dual_stack_node_have_two_addresses() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"app": "web"}}}
    objects = [
        decode_object({**pod, "spec": {"containers": [{"name": "c"}]}}),
        service(selector={"app": "web"}, ipFamilyPolicy="PreferDualStack"),
    ]
    snapshot = admit(objects, settings=DUAL)
    ips = [str(one.ip) for one in snapshot.pods["default", "a"].status.pod_ips]
    assert ips == ["10.244.0.2", "fd00:10:244::2"]
    assert {
        piece.address_type: [str(ip) for one in piece.endpoints for ip in one.addresses]
        for piece in snapshot.endpointslices.values()
    } == {"IPv4": [ips[0]], "IPv6": [ips[1]]}
    assert admit(snapshot, snapshot, DUAL) == snapshot


def test_pods_of_the_hosts_network_have_its_addresses() -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
    addresses = [
        {"type": "Hostname", "address": "n"},
        {"type": "InternalIP", "address": "192.0.2.9"},
        {"type": "InternalIP", "address": "2001:db8::9"},
    ]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}
    spec = {"hostNetwork": True, "containers": [{"name": "c"}]}
    found = admit(
        [
            decode_object({**node, "status": {"addresses": addresses}}),
            decode_object({**pod, "spec": spec}),
        ],
        settings=PLAN,
    ).pods["default", "a"]
    assert [str(one.ip) for one in found.status.pod_ips] == ["192.0.2.9", "2001:db8::9"]


# Node ports


def test_ports_of_one_number_share_their_node_port() -> None:
    ports = [
        {"name": "udp", "port": 53, "protocol": "UDP"},
        {"name": "tcp", "port": 53, "protocol": "TCP"},
        {"name": "web", "port": 80},
    ]
    assert node_ports(admit([service(type="NodePort", ports=ports)])) == [30086, 30086, 30087]
    ports[1]["nodePort"] = 31000
    assert node_ports(admit([service(type="NodePort", ports=ports)])) == [31000, 31000, 30086]


def test_a_newcomer_is_refused_and_not_who_had_the_node_port() -> None:
    before = admit([service("z", type="NodePort")])
    with pytest.raises(ManifestError) as caught:
        apply(before, [service("a", type="NodePort", ports=[{"port": 80, "nodePort": 30086}])])
    assert caught.value.headline == (
        "Service default/a: spec.ports[0].nodePort: "
        "30086 is already the node port of Service default/z"
    )


def test_the_low_end_is_for_those_who_ask() -> None:
    few = Settings(node_port_range=(30000, 30017))
    some = [service(name, type="NodePort") for name in "abc"]
    assert [node_ports(admit(some, settings=few), name) for name in "abc"] == [
        [30016],
        [30017],
        [30000],
    ]
    none = Settings(node_port_range=(30000, 30001))
    with pytest.raises(ManifestError, match="no node port left for it, of 30000 to 30001"):
        admit(some, settings=none)


def test_who_has_no_node_port() -> None:
    ports = [{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 30081}]
    without = service(type="LoadBalancer", allocateLoadBalancerNodePorts=False, ports=ports)
    assert node_ports(admit([without])) == [None, 30081]
    before = admit([service(type="NodePort")])
    assert node_ports(apply(before, [service()])) == [None]


def test_a_health_check_port_for_balancers_with_a_local_policy() -> None:
    local: dict[str, Any] = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    before = admit([service(**local)])
    assert of(before).spec.health_check_node_port == 30087
    assert apply(before, [service(**local), service("a", type="NodePort")]).services[
        "default", "web"
    ] == of(before)
    asked = admit([service(**local, healthCheckNodePort=30005)])
    assert of(asked).spec.health_check_node_port == 30005
    assert of(admit([service(type="LoadBalancer")])).spec.health_check_node_port is None


# Load balancers


def test_addresses_of_load_balancers() -> None:
    some = [
        service("a", type="LoadBalancer"),
        service("b", type="LoadBalancer", loadBalancerIP="198.51.100.7"),
        service("c", externalIPs=["192.0.2.1"]),
        service("d", type="LoadBalancer"),
    ]
    snapshot = admit(some)
    assert [ingress(snapshot, name) for name in "abd"] == [
        ["192.0.2.2 VIP"],
        ["198.51.100.7 VIP"],
        ["192.0.2.3 VIP"],
    ]
    after = apply(delete(snapshot, [Ref("Service", "default", "a")]), [some[3]])
    assert ingress(after, "d") == ["192.0.2.3 VIP"], "it stays"


def test_a_given_status_stays() -> None:
    raw = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        "status": {
            "loadBalancer": {
                "ingress": [{"ip": "203.0.113.1", "ipMode": "Proxy"}, {"hostname": "lb.example"}]
            }
        },
    }
    thing = decode_object(raw)
    assert of(admit([thing])).status == thing.status  # type: ignore[union-attr]  # a Service


def test_the_balancers_network_by_annotation_or_clear_of_others() -> None:
    def node(**more: Any) -> Object:
        return decode_object(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", **more.pop("meta", {})}}
            | more
        )

    said = {"annotations": {"hairpin.dev/load-balancer-cidr": "10.77.0.0/30"}}
    three = [service(name, type="LoadBalancer") for name in "abc"]
    snapshot = admit([node(meta=said), *three])
    assert [ingress(snapshot, name) for name in "abc"] == [
        ["10.77.0.1 VIP"],
        ["10.77.0.2 VIP"],
        [],
    ], "the third waits"
    clear = admit([node(spec={"podCIDR": "192.0.2.0/25"}), three[0]])
    assert ingress(clear, "a") == ["198.51.100.1 VIP"]


def test_a_balancer_that_is_one_no_more() -> None:
    before = admit([service(type="LoadBalancer")])
    assert ingress(apply(before, [service()])) == []
    dual = apply(before, [service(type="LoadBalancer", ipFamilyPolicy="PreferDualStack")], DUAL)
    assert len(ingress(dual)) == 2


# Laws

TYPES = st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"])
PORTS = st.lists(
    st.fixed_dictionaries(
        {
            "port": st.sampled_from([53, 80]),
            "protocol": st.sampled_from(["TCP", "UDP"]),
            "nodePort": st.sampled_from([0, 0, 0, 30086, 30087]),
        }
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda port: (port["port"], port["protocol"]),
)


@st.composite
def services(draw: st.DrawFn) -> Object | None:
    kind = draw(TYPES)
    ports = [{**port, "name": f"p{i}"} for i, port in enumerate(draw(PORTS))]
    spec: dict[str, Any] = {"type": kind, "ports": ports}
    if kind == "ClusterIP":
        for port in ports:
            del port["nodePort"]
    else:
        spec["externalTrafficPolicy"] = draw(st.sampled_from(["Cluster", "Local"]))
    if kind == "LoadBalancer":
        spec["allocateLoadBalancerNodePorts"] = draw(st.booleans())
    spec["ipFamilyPolicy"] = draw(st.sampled_from([None, "PreferDualStack", "RequireDualStack"]))
    try:
        return service(draw(st.sampled_from("abcd")), **spec)
    except ManifestError:  # the same node port twice
        return None


@given(st.lists(st.lists(services(), max_size=3), max_size=8))
def test_what_was_allocated_stays_and_is_one_services(steps: list[list[Object | None]]) -> None:
    now = admit((), settings=DUAL)
    for step in steps:
        given_ones = {one.ref: one for one in step if one is not None}
        before = now
        try:
            now = apply(before, given_ones.values(), DUAL)
        except ManifestError:
            continue
        assert admit(now, settings=DUAL) == now
        assert admit(reversed(tuple(now)), before, DUAL) == now
        for key, old in before.services.items():
            new = now.services[key]
            if new.ref not in given_ones:
                assert new == old
            assert set(old.virtual_ips) & set(new.virtual_ips)
        owners: dict[tuple[int, str], str] = {}
        for one in now.services.values():
            for port in one.spec.ports:
                if port.node_port:
                    owner = owners.setdefault((port.node_port, port.protocol), one.metadata.name)
                    assert owner == one.metadata.name
                    assert 30000 <= port.node_port <= 32767


def test_networks_of_plans_do_not_overlap() -> None:
    every = [*PLAN.service_cidrs, *PLAN.pod_cidrs, *PLAN.load_balancer_cidrs]
    every.append(network("192.168.100.0/24"))
    for one in every:
        others = [two for two in every if two is not one and two.version == one.version]
        assert not any(one.overlaps(two) for two in others)


def test_the_recorded_input_is_what_it_is_said_to_be() -> None:
    found = documents((INPUT / "services.yaml").read_bytes(), "f")
    assert len(found[0].value["items"]) == 27
