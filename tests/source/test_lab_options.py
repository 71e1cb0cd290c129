"""What the command line says of a lab's nodes becomes Node objects, and families follow."""

from __future__ import annotations

from typing import Any

import pytest

from hairpin.model.decode import decode_object
from hairpin.model.errors import ManifestError
from hairpin.model.node import Node
from hairpin.model.snapshot import Object, Snapshot
from hairpin.source.cluster import admit
from hairpin.source.lab_options import LabOptions, with_options
from hairpin.source.settings import LAB


def node(name: str, spec: dict[str, Any] | None = None, **annotations: Any) -> Object:
    notes = {f"hairpin.dev/{key}": value for key, value in annotations.items()}
    metadata = {"name": name, "annotations": notes}
    return decode_object(
        {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec or {}}
    )


def service(name: str, **spec: Any) -> Object:
    full = {"selector": {"app": "web"}, "ports": [{"port": 80}], **spec}
    return decode_object(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": full}
    )


def pod(name: str, **spec: Any) -> Object:
    full = {"containers": [{"name": "c"}], **spec}
    return decode_object(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": full}
    )


def nodes(*objects: Object, before: Snapshot | None = None) -> dict[str, Node]:
    admitted = admit(objects, before, LAB)
    assert admit(admitted, admitted, LAB) == admitted
    return {one.metadata.name: one for one in admitted.nodes.values()}


def cidrs(found: dict[str, Node]) -> dict[str, list[str]]:
    return {name: [str(cidr) for cidr in one.spec.pod_cidrs] for name, one in found.items()}


def addresses(one: Node) -> list[str]:
    return [each.address for each in one.status.addresses if each.type == "InternalIP"]


def test_nothing_said_changes_nothing() -> None:
    objects = (node("a"), service("web"))
    assert with_options(objects, LabOptions()) == objects


def test_nodes_are_added_beside_those_that_there_are() -> None:
    found = nodes(*with_options([node("node2")], LabOptions(nodes=3)))
    assert cidrs(found) == {
        "node": ["10.244.0.0/24"],
        "node2": ["10.244.1.0/24"],
        "node3": ["10.244.2.0/24"],
    }
    assert [addresses(one) for one in found.values()] == [
        ["192.168.100.2"],
        ["192.168.100.3"],
        ["192.168.100.4"],
    ]


@pytest.mark.parametrize(
    ("stack", "expected"),
    [
        ("ipv4", ["10.244.0.0/24"]),
        ("ipv6", ["fd00:10:244::/64"]),
        ("dual", ["10.244.0.0/24", "fd00:10:244::/64"]),
    ],
)
def test_families_that_are_asked_for(stack: Any, expected: list[str]) -> None:
    assert cidrs(nodes(*with_options([], LabOptions(stack=stack)))) == {"node": expected}


@pytest.mark.parametrize(
    ("objects", "options", "words"),
    [
        ([node("a"), node("b")], LabOptions(nodes=1), "--nodes 1, and the manifests have 2"),
        (
            [node("a", None, **{"service-cidr": "10.9.0.0/16"})],
            LabOptions(stack="dual"),
            "--ip-family dual, and the Node says 10.9.0.0/16",
        ),
        (
            [node("a", overlay="host-gw")],
            LabOptions(overlay="vxlan"),
            "the Node says host-gw, and the command line vxlan",
        ),
    ],
)
def test_two_words_against_each_other(
    objects: list[Object], options: LabOptions, words: str
) -> None:
    with pytest.raises(ManifestError, match=words):
        with_options(objects, options)


@pytest.mark.parametrize(
    "asking",
    [
        service("web", ipFamilyPolicy="RequireDualStack"),
        service("web", ipFamilies=["IPv6"]),
        service("web", clusterIP="fd00:10:96::5"),
    ],
)
def test_a_service_that_needs_a_family_brings_it(asking: Object) -> None:
    both = ["10.244.0.0/24", "fd00:10:244::/64"]
    assert cidrs(nodes(asking)) == {"node": both}
    one = node("a", {"podCIDR": "10.9.0.0/24"})
    assert cidrs(nodes(one, asking)) == {"a": ["10.9.0.0/24", "fd00:10:244::/64"]}


@pytest.mark.parametrize(
    "content",
    [
        service("web", ipFamilyPolicy="PreferDualStack"),
        service("web", clusterIP="None", selector={}),
    ],
)
def test_one_that_can_do_without_does_not(content: Object) -> None:
    assert cidrs(nodes(content)) == {"node": ["10.244.0.0/24"]}


def test_a_family_stays_when_nobody_needs_it_any_more() -> None:
    before = admit([node("a"), service("web", ipFamilyPolicy="RequireDualStack")], None, LAB)
    assert cidrs(nodes(node("a"), before=before)) == {"a": ["10.244.0.0/24", "fd00:10:244::/64"]}


def test_the_annotation_is_the_last_word() -> None:
    said = node("a", None, **{"service-cidr": "10.9.0.0/16"})
    with pytest.raises(ManifestError, match="there is one service CIDR"):
        nodes(said, service("web", ipFamilyPolicy="RequireDualStack"))


def test_addresses_of_nodes_stay_when_others_come_before_them() -> None:
    before = admit([node("m")], None, LAB)
    found = nodes(node("a"), node("m"), before=before)
    assert addresses(found["m"]) == ["192.168.100.2"]
    assert addresses(found["a"]) == ["192.168.100.3"]


def test_pods_of_a_kind_are_spread_whatever_else_is_there() -> None:
    def one(name: str, app: str, **spec: Any) -> Object:
        shape = {"containers": [{"name": "c"}], **spec}
        metadata = {"name": name, "labels": {"app": app}}
        return decode_object(
            {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": shape}
        )

    others = [one(f"x{n}", "other", nodeName="b") for n in range(5)]
    web = [one(f"w{n}", "web") for n in range(4)]
    admitted = admit([node("a"), node("b"), *others, *web], None, LAB)
    on = [pod.spec.node_name for key, pod in admitted.pods.items() if key[1].startswith("w")]
    assert on == ["a", "b", "a", "b"]


def test_pods_are_spread_and_those_of_the_node_have_its_addresses() -> None:
    objects = [node("a"), node("b"), *(pod(f"p{n}") for n in range(4))]
    admitted = admit([*objects, pod("q", hostNetwork=True, nodeName="b")], None, LAB)
    on = {key[1]: one.spec.node_name for key, one in admitted.pods.items()}
    assert sorted(on[f"p{n}"] for n in range(4)) in (["a", "a", "a", "b"], ["a", "a", "b", "b"])
    assert str(admitted.pods["default", "q"].status.pod_ip) == "192.168.100.3"
