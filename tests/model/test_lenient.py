"""What a cluster hands over: the bad costs itself, and is named."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.model.address import ip, network
from hairpin.model.decode import decode_object
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.errors import ManifestError
from hairpin.model.lenient import decode_lenient
from hairpin.model.service import Service


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "uid": "1"},
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}], **spec},
    }


def piece(*endpoints: Any, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": list(endpoints),
        "ports": [{"name": "", "port": 8080}],
        **more,
    }


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (
            service(clusterIP="nope"),
            'Service default/web: spec.clusterIP: "nope" is not an IP address',
        ),
        (
            service(ports=[{"port": 0}]),
            "Service default/web: spec.ports[0].port: 0 is not a port (1 to 65535)",
        ),
        (service(ports=[]), "Service default/web: spec.ports: is missing"),
        (
            service(ports=[{"port": 80, "protocol": "DCCP"}]),
            'Service default/web: spec.ports[0].protocol: "DCCP" is not TCP, UDP or SCTP',
        ),
        ({**service(), "spec": 5}, "Service default/web: spec: expected a mapping, got the number"),
        ({**service(), "metadata": None}, "Service: metadata: is missing"),
        (
            piece(addressType="FQDN"),
            'EndpointSlice default/web-1: addressType: "FQDN" is not IPv4 or IPv6',
        ),
        (
            piece(ports=5),
            "EndpointSlice default/web-1: ports: expected a list, got the number 5",
        ),
        (5, "expected a Kubernetes object, got the number 5"),
        ({"apiVersion": "v1", "kind": "Secret"}, "kind: hairpin has no use for this kind"),
    ],
)
def test_a_bad_object_costs_itself(raw: Any, problem: str) -> None:
    objects, problems = decode_lenient([service("a"), raw, service("b")], ["f", "g", "h"])
    assert [thing.metadata.name for thing in objects] == ["a", "b"]
    (found,) = problems
    assert found.headline.startswith(f"g: {problem}")


def test_a_bad_endpoint_or_port_costs_itself() -> None:
    raw = piece(
        {"addresses": ["10.0.0.1"], "conditions": {"ready": True}},
        {"addresses": ["10.0.0.777"]},
        {"addresses": ["fd00::1"]},
        {"addresses": []},
        "nobody",
        {"addresses": ["10.0.0.2"], "nodeName": 5},
        {"addresses": ["10.0.0.3"]},
        ports=[{"name": "a", "port": 0}, {"name": "b", "port": 80}, {"name": "c"}],
    )
    (thing,), problems = decode_lenient([raw])
    assert isinstance(thing, EndpointSlice)
    assert [str(one.addresses[0]) for one in thing.endpoints] == ["10.0.0.1", "10.0.0.3"]
    assert [port.name for port in thing.ports] == ["b", "c"]
    assert [
        problem.headline.removeprefix("EndpointSlice default/web-1: ") for problem in problems
    ] == [
        'endpoints[1].addresses[0]: "10.0.0.777" is not an IP address',
        'endpoints[4]: expected a mapping, got the text "nobody"',
        "endpoints[5].nodeName: expected text, got the number 5",
        "ports[0].port: 0 is not a port (1 to 65535)",
        "endpoints[2].addresses: fd00::1 is not IPv4",
        "endpoints[3].addresses: is missing",
    ]


def test_unknown_fields_pass_and_names_are_not_looked_at() -> None:
    raw = service(futureField={"a": [1]}, trafficDistribution=None)
    raw["metadata"]["name"] = "Not A Name"
    (thing,), problems = decode_lenient([raw])
    assert thing.metadata.name == "Not A Name"
    assert not problems


def test_addresses_are_read_as_kube_proxy_reads_them() -> None:
    raw = service(
        clusterIP="172.30.099.041",
        externalIPs=["192.168.099.022", "::ffff:198.51.100.7"],
        loadBalancerSourceRanges=["203.0.113.000/025", " 10.1.2.3/8 "],
    )
    (thing,), problems = decode_lenient([raw])
    assert not problems
    assert isinstance(thing, Service)
    assert thing.spec.cluster_ip == ip("172.30.99.41")
    assert thing.spec.external_ips == (ip("192.168.99.22"), ip("198.51.100.7"))
    assert thing.spec.load_balancer_source_ranges == (
        network("203.0.113.0/25"),
        network("10.0.0.0/8"),
    )
    with pytest.raises(ManifestError):
        decode_object(raw)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    return [(value, key) for key in keys] + [deep for key in keys for deep in places(value[key])]


@given(st.data())
def test_whatever_is_wrong_is_named_and_the_rest_is_read(data: st.DataObject) -> None:
    raws = [service(), piece({"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]})]
    bad = copy.deepcopy(raws)
    container, key = data.draw(st.sampled_from(places(bad)))
    container[key] = data.draw(VALUES)
    objects, problems = decode_lenient([service("first"), *bad, service("last")])
    names = [thing.metadata.name for thing in objects]
    assert (names[0], names[-1]) == ("first", "last")
    assert len(objects) == 4 or problems
    assert all(problem.message for problem in problems)
