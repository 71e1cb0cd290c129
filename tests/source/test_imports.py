"""What is left of a real cluster's objects, and what is said about the rest."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hairpin.model.errors import ManifestError
from hairpin.model.pod import Pod
from hairpin.model.snapshot import Snapshot
from hairpin.source.cluster import admit
from hairpin.source.manifests import Loaded, load
from hairpin.source.settings import LAB, PLAN

CLUSTER = Path(__file__).with_name("cluster.yaml").read_text()


def read(text: str, *, strict: bool = False) -> Loaded:
    return load(["-"], stdin=io.StringIO(text), strict=strict)


def where(pod: Pod) -> list[str]:
    """Its Node and addresses."""
    return [pod.spec.node_name, *(str(one.ip) for one in pod.status.pod_ips)]


def pod_shape(name: str, node: str, ip: str) -> dict[str, Any]:
    """A Pod as an API server prints it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "uid": name},
        "spec": {"nodeName": node, "containers": [{"name": "c"}]},
        "status": {"phase": "Running", "podIP": ip},
    }


def items(*kept: int) -> str:
    every = yaml.safe_load(CLUSTER)["items"]
    return yaml.safe_dump({"kind": "List", "apiVersion": "v1", "items": [every[i] for i in kept]})


def test_everything_that_cannot_be_shown_is_named_once() -> None:
    assert list(read(CLUSTER).warnings) == [
        "import: 4 Pods run the echo server instead of an image",
        "import: left out, as it did not run: Pod shop/web-6d4b-x3",
        "import: left out, as the containers have ended: Pod shop/migrate-1",
        "import: an address of its own instead of the node's: Pod kube-system/agent-a",
        "import: with an address of the lab's own, and none of its taints: Node one, Node two",
    ]


def test_addresses_stay_and_networks_follow_from_them() -> None:
    snapshot = admit(read(CLUSTER).objects, settings=LAB)
    assert {
        key[1]: [str(cidr) for cidr in node.spec.pod_cidrs] for key, node in snapshot.nodes.items()
    } == {
        "one": ["10.42.0.0/24", "fd00:42::/64"],
        "two": ["10.42.1.0/24", "fd00:10:244::/64"],  # it had no IPv6 network
    }
    assert snapshot.nodes["", "one"].metadata.annotations == {
        "hairpin.dev/service-cidr": "10.43.0.0/16,fd00:43::/112"
    }
    assert snapshot.nodes["", "two"].spec.unschedulable
    assert {key[1]: where(pod) for key, pod in snapshot.pods.items()} == {
        "agent-a": ["one", "10.42.0.2", "fd00:42::2"],
        "coredns-7c-a": ["two", "10.42.1.2", "fd00:10:244::2"],
        "web-6d4b-x1": ["one", "10.42.0.5", "fd00:42::5"],
        "web-6d4b-x2": ["two", "10.42.1.7", "fd00:10:244::3"],
    }
    assert {key[1]: [str(ip) for ip in s.virtual_ips] for key, s in snapshot.services.items()} == {
        "agent": [],
        "kube-dns": ["10.43.0.10"],
        "kubernetes": ["10.43.0.1"],
        "six": ["fd00:43::8"],
        "web": ["10.43.7.7", "fd00:43::7"],
    }
    assert not any(c.command for pod in snapshot.pods.values() for c in pod.spec.containers)


def test_slices_of_the_clusters_controller_give_way_to_ours() -> None:
    snapshot = admit(read(CLUSTER).objects)
    web = [p for p in snapshot.endpointslices.values() if p.service_key == ("shop", "web")]
    assert "web-abc12" not in {piece.metadata.name for piece in web}
    assert "web-v6" in {piece.metadata.name for piece in web}, "no controller's"
    four = [one for piece in web if piece.address_type == "IPv4" for one in piece.endpoints]
    assert sorted(str(one.addresses[0]) for one in four) == ["10.42.0.5", "10.42.1.7"]


def test_addresses_that_cannot_be_had_are_given_anew_and_counted() -> None:
    cluster = yaml.safe_load(items(2, 3))
    cluster["items"][1]["status"]["podIP"] = "10.42.0.5"  # twice
    loaded = read(yaml.safe_dump(cluster))
    assert "import: another address than before: Pod shop/web-6d4b-x2" in loaded.warnings
    nodes = admit(loaded.objects).nodes  # from spec.nodeName, as no Node was printed
    assert [key[1] for key in nodes] == ["one", "two"]


def test_pods_of_nodes_that_share_a_network_stay_as_far_as_they_can() -> None:
    """Of a cloud that gives Pods addresses of one network, wherever they are."""
    shapes = [pod_shape(f"p{n}", "even" if n % 2 == 0 else "odd", f"172.20.3.{n}") for n in (4, 5)]
    shapes += [pod_shape("p6", "even", "172.20.3.200")]
    loaded = read(json.dumps({"apiVersion": "v1", "kind": "List", "items": shapes}))
    assert "import: another address than before: Pod default/p5" in loaded.warnings
    found = {key[1]: where(pod) for key, pod in admit(loaded.objects, settings=LAB).pods.items()}
    assert found == {
        "coredns": ["even", "172.20.3.254"],
        "p4": ["even", "172.20.3.4"],
        "p5": ["odd", "10.244.0.2"],
        "p6": ["even", "172.20.3.200"],
    }


def test_pods_go_to_the_nodes_that_people_wrote() -> None:
    own = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "mine"}}
    shapes = [own, pod_shape("p", "theirs", "10.42.0.9")]
    loaded = read(json.dumps({"apiVersion": "v1", "kind": "List", "items": shapes}))
    assert loaded.warnings[-1] == "import: on another Node than before: Pod default/p"
    snapshot = admit(loaded.objects, settings=LAB)
    assert [key[1] for key in snapshot.nodes] == ["mine"]
    assert snapshot.pods["default", "p"].spec.node_name == "mine"


def test_nodes_without_pods_are_kept_while_they_are_few() -> None:
    nodes = [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{n}", "uid": f"u{n}"}}
        for n in range(7)
    ]
    shapes = [*nodes, pod_shape("p", "n5", "10.42.0.9")]
    loaded = read(json.dumps({"apiVersion": "v1", "kind": "List", "items": shapes}))
    assert [key[1] for key in admit(loaded.objects, settings=LAB).nodes] == ["n0", "n1", "n2", "n5"]
    left_out = "import: left out, as none of these Pods is on it: Node n3, Node n4, Node n6"
    assert left_out in loaded.warnings


def test_pods_that_would_be_in_the_way_of_the_uplinks_move() -> None:
    loaded = read(items(2).replace("10.42.0.5", "192.168.100.77"))
    (pod,) = admit(loaded.objects).pods.values()
    assert str(pod.status.pod_ip) == "10.244.0.2"


def test_what_people_wrote_is_not_an_import() -> None:
    service = yaml.safe_load(items(10))["items"][0]
    del service["metadata"]["uid"]
    with pytest.raises(ManifestError, match=r"spec\.ipFamilies\[1\]: there is no service CIDR"):
        admit(read(json.dumps(service)).objects)
    with pytest.raises(ManifestError):
        admit(read(items(10), strict=True).objects)


def test_a_service_keeps_how_it_is_reached_from_outside() -> None:
    service = admit(read(items(10)).objects, settings=LAB).services["shop", "web"]
    assert service.spec.type == "LoadBalancer"
    assert [(port.protocol, port.node_port) for port in service.spec.ports] == [
        ("TCP", 30080),
        ("SCTP", 30081),
    ]
    assert [str(ip) for ip in service.spec.external_ips] == ["203.0.113.5"]
    assert [str(one.ip) for one in service.status.load_balancer.ingress] == ["203.0.113.9"]
    assert service.spec.session_affinity == "ClientIP"
    assert service.spec.external_traffic_policy == "Local"
    assert service.spec.health_check_node_port is not None
    assert service.spec.ip_families == ("IPv4", "IPv6")


def test_node_ports_that_a_lab_has_not_are_given_anew() -> None:
    loaded = read(items(10).replace("30080", "9080"))
    assert loaded.warnings[-1] == (
        "import: other node ports than before, out of the range that a lab has: Service shop/web"
    )
    ports = admit(loaded.objects).services["shop", "web"].spec.ports
    assert [port.node_port for port in ports] == [30086, 30081]


def test_whole_keeps_everything_that_a_cluster_has() -> None:
    loaded = load(["-"], stdin=io.StringIO(CLUSTER), whole=True)
    assert (loaded.problems, loaded.warnings) == ((), ())
    assert len(loaded.objects) == len(yaml.safe_load(CLUSTER)["items"])
    snapshot = admit(loaded.objects, settings=PLAN)
    kept = [snapshot.get(thing.ref) for thing in loaded.objects]
    assert kept == list(loaded.objects), "what an API server has had is not changed"
    made = set(snapshot.endpointslices) - set(Snapshot(loaded.objects).endpointslices)
    services = {snapshot.endpointslices[key].service_key for key in made}
    assert services == {("kube-system", "agent"), ("kube-system", "kube-dns"), ("shop", "six")}


def test_whole_leaves_out_what_is_wrong_and_only_that() -> None:
    broken = CLUSTER.replace("10.43.7.7", "10.43.7.777").replace("port: 9100}]}", "port: 0}]}")
    loaded = load(["-"], stdin=io.StringIO(broken), whole=True)
    assert [problem.headline for problem in loaded.problems] == [
        'stdin items[10]: Service shop/web: spec.clusterIP: "10.43.7.777" is not an IP address',
        "stdin items[12]: Service kube-system/agent: spec.ports[0].port: "
        "0 is not a port (1 to 65535)",
    ]
    assert len(loaded.objects) == len(yaml.safe_load(CLUSTER)["items"]) - 2


def test_what_is_no_pod_at_all_is_said() -> None:
    broken = (
        "{apiVersion: v1, kind: Pod, metadata: {name: a, uid: x}, "
        "spec: 5, status: {podIP: 10.0.0.1}}"
    )
    with pytest.raises(ManifestError, match=r"Pod default/a: spec"):
        read(broken)
