"""What is taken for a node's own addresses."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hairpin.model.address import IP
from hairpin.model.metadata import ObjectMeta
from hairpin.model.node import Node, NodeAddress, NodeSpec, NodeStatus
from hairpin.plan.node import NodeFacts, node_facts


def _ips(*texts: str) -> tuple[IP, ...]:
    return tuple(map(ip_address, texts))


def test_node_facts_without_a_node_are_what_the_links_say() -> None:
    found = node_facts(
        "n",
        None,
        _ips("fd31::1", "127.0.0.1", "::1", "fe80::1", "192.0.2.9", "169.254.0.1", "192.0.2.1"),
    )
    assert found == NodeFacts(
        name="n",
        addresses=_ips("169.254.0.1", "192.0.2.1", "192.0.2.9", "fd31::1"),
        node_ips=_ips("192.0.2.1", "fd31::1"),
    )


def test_the_node_object_says_which_address_is_its_own() -> None:
    said = [("Hostname", "n"), ("ExternalIP", "203.0.113.1"), ("InternalIP", "nonsense")]
    said += [("InternalIP", "192.0.2.9"), ("InternalIP", "192.0.2.1"), ("ExternalIP", "fd31::9")]
    node = Node(
        metadata=ObjectMeta(name="n", labels={"topology.kubernetes.io/zone": "z"}),
        spec=NodeSpec(pod_cidr=ip_network("10.244.0.0/24")),
        status=NodeStatus(addresses=tuple(NodeAddress(type=kind, address=ip) for kind, ip in said)),
    )
    found = node_facts("n", node, _ips("192.0.2.1"))
    assert found.node_ips == _ips("192.0.2.9", "fd31::9")
    assert found.pod_cidrs == (ip_network("10.244.0.0/24"),)
    assert found.zone == "z"
