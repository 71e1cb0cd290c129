"""What is left of a real cluster's objects, and what is said about the rest."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml

from hairpin.model.errors import ManifestError
from hairpin.source.cluster import admit
from hairpin.source.manifests import Loaded, load
from hairpin.source.settings import LAB

CLUSTER = Path(__file__).with_name("cluster.yaml").read_text()


def read(text: str, *, strict: bool = False) -> Loaded:
    return load(["-"], stdin=io.StringIO(text), strict=strict)


def items(*kept: int) -> str:
    every = yaml.safe_load(CLUSTER)["items"]
    return yaml.safe_dump({"kind": "List", "apiVersion": "v1", "items": [every[i] for i in kept]})


def test_everything_that_cannot_be_shown_is_named_once() -> None:
    assert list(read(CLUSTER).warnings) == [
        "import: 4 Pods run the echo server instead of an image",
        "import: one Node, one, stands for two too",
        "import: left out, as it did not run: Pod shop/web-6d4b-x3",
        "import: left out, as the containers have ended: Pod shop/migrate-1",
        "import: an address of its own instead of the node's: Pod kube-system/agent-a",
        "import: at the cluster IP only, without node ports and load balancers: Service shop/web",
        "import: without externalIPs: Service shop/web",
        "import: without session affinity: Service shop/web",
        "import: without SCTP ports: Service shop/web",
        "import: without IPv6: Service shop/web",
        "import: left out, as it has only IPv6 or SCTP: Service shop/six",
        "import: left out, as its addresses are not IPv4: EndpointSlice shop/web-v6",
    ]


def test_addresses_stay_and_networks_follow_from_them() -> None:
    snapshot = admit(read(CLUSTER).objects, settings=LAB)
    (node,) = snapshot.nodes.values()
    assert str(node.spec.pod_cidr) == "10.42.0.0/23"
    assert node.metadata.annotations == {"hairpin.dev/service-cidr": "10.43.0.0/16"}
    assert {key[1]: str(pod.status.pod_ip) for key, pod in snapshot.pods.items()} == {
        "agent-a": "10.42.0.2",
        "coredns-7c-a": "10.42.1.2",
        "web-6d4b-x1": "10.42.0.5",
        "web-6d4b-x2": "10.42.1.7",
    }
    assert {key[1]: service.virtual_ips for key, service in snapshot.services.items()}[
        "web"
    ] == snapshot.services["shop", "web"].virtual_ips
    assert [str(ip) for ip in snapshot.services["shop", "web"].virtual_ips] == ["10.43.7.7"]
    assert not any(c.command for pod in snapshot.pods.values() for c in pod.spec.containers)


def test_slices_of_the_clusters_controller_give_way_to_ours() -> None:
    snapshot = admit(read(CLUSTER).objects)
    web = [p for p in snapshot.endpointslices.values() if p.service_key == ("shop", "web")]
    assert len(web) == 1
    assert sorted(str(one.addresses[0]) for one in web[0].endpoints) == ["10.42.0.5", "10.42.1.7"]


def test_addresses_that_cannot_be_had_are_given_anew_and_counted() -> None:
    cluster = yaml.safe_load(items(2, 3))
    cluster["items"][1]["status"]["podIP"] = "10.42.0.5"  # twice
    loaded = read(yaml.safe_dump(cluster))
    assert "import: another address than before: Pod shop/web-6d4b-x2" in loaded.warnings
    (node,) = admit(loaded.objects).nodes.values()
    assert node.metadata.name == "one"  # from spec.nodeName, as no Node was printed


def test_pods_that_would_be_in_the_way_of_the_uplinks_move() -> None:
    loaded = read(items(2).replace("10.42.0.5", "192.168.100.77"))
    (pod,) = admit(loaded.objects).pods.values()
    assert str(pod.status.pod_ip) == "10.244.0.2"


def test_what_people_wrote_is_not_an_import() -> None:
    service = yaml.safe_load(items(10))["items"][0]
    del service["metadata"]["uid"]
    with pytest.raises(ManifestError, match=r"spec\.type: LoadBalancer is not supported yet"):
        admit(read(json.dumps(service)).objects)
    with pytest.raises(ManifestError):
        admit(read(items(10), strict=True).objects)


def test_what_is_no_pod_at_all_is_said() -> None:
    broken = (
        "{apiVersion: v1, kind: Pod, metadata: {name: a, uid: x}, "
        "spec: 5, status: {podIP: 10.0.0.1}}"
    )
    with pytest.raises(ManifestError, match=r"Pod default/a: spec"):
        read(broken)
