"""Many Services that differ in everything that planning looks at, from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from hairpin.model.configuration import (
    DetectLocalConfiguration,
    IPTablesConfiguration,
    KubeProxyConfiguration,
    NFTablesConfiguration,
)
from hairpin.model.endpointslice import EndpointPort, EndpointSlice, SliceEndpoint
from hairpin.model.service import (
    ClientIPConfig,
    Service,
    ServicePort,
    SessionAffinityConfig,
)
from hairpin.model.snapshot import Object, Snapshot
from tests.plan.values import GONE, TERMINATING, at, endpoint, service, slice_of

_PROTOCOLS: tuple[Any, ...] = ("TCP", "UDP", "SCTP")
_POLICIES: tuple[Any, ...] = ("Cluster", "Local")
_RANGES = (
    *("198.51.100.0/24", "198.51.100.128/25", "198.51.101.0/24", "192.0.2.0/28"),
    *("10.0.0.0/8", "1.2.3.4/32", "2001:db8:5::/48", "fd31::/64", "::/0"),
)
_STATES: tuple[dict[str, Any], ...] = ({}, {}, {}, TERMINATING, GONE)


def crowd(seed: int, count: int) -> Snapshot:
    """``count`` Services (250 at most), none of which asks for what another has."""
    dice = random.Random(seed)
    found: list[Object] = []
    for number in range(1, count + 1):
        versions = dice.choice(((4,), (6,), (4, 6), (6, 4)))
        one = _service(dice, number, versions)
        found.append(one)
        for version in versions:
            found += _slices(dice, one, number, version)
    return Snapshot(found)


def configuration(seed: int, mode: Any) -> KubeProxyConfiguration:
    """Any that both modes can have."""
    dice = random.Random(seed)
    bit, everyone = dice.choice((0, 14, 31)), dice.random() < 0.3
    addresses = ((), ("192.0.2.0/24",), ("0.0.0.0/0", "::/0"), ("127.0.0.0/8", "fd31::/16"))
    return KubeProxyConfiguration(
        mode=mode,
        cluster_cidr=dice.choice(("", "10.244.0.0/16", "10.244.0.0/16,fd00:244::/48")),
        detect_local_mode=dice.choice(("", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")),
        detect_local=DetectLocalConfiguration(bridge_interface="c0", interface_name_prefix="veth"),
        node_port_addresses=dice.choice(addresses),
        iptables=IPTablesConfiguration(
            masquerade_bit=bit,
            masquerade_all=everyone,
            localhost_node_ports=dice.random() < 0.5,
        ),
        nftables=NFTablesConfiguration(masquerade_bit=bit, masquerade_all=everyone),
    )


def _service(dice: random.Random, number: int, versions: tuple[int, ...]) -> Service:
    kind: Any = dice.choice(("ClusterIP", "NodePort", "LoadBalancer"))
    names = [dice.choice(("p", "port")) + str(each) for each in range(dice.randint(1, 3))]
    names[0] = dice.choice(("", "p" * 63, names[0])) if len(names) == 1 else names[0]
    ports = [
        ServicePort(
            port=80,
            name=name,
            protocol=protocol,
            node_port=30000 + number if kind != "ClusterIP" and dice.random() < 0.8 else None,
        )
        for name, protocol in zip(names, dice.sample(_PROTOCOLS, len(names)), strict=True)
    ]
    more: dict[str, Any] = {}
    if dice.random() < 0.3:
        more["external"] = (f"203.0.113.{number}", f"2001:db8:1::{number:x}")
    if kind == "LoadBalancer":
        vips = (f"203.0.114.{number}", f"203.0.115.{number}", f"2001:db8:2::{number:x}")
        more["ingress"] = [at(one) for one in dice.sample(vips, dice.randint(0, 3))]
        more["ranges"] = dice.sample(_RANGES, dice.choice((0, 1, 2, 4)))
    if kind != "ClusterIP" or "external" in more:
        more["external_traffic_policy"] = dice.choice(_POLICIES)
        if kind == "LoadBalancer" and more["external_traffic_policy"] == "Local":
            more["health_check_node_port"] = 31000 + number
    if dice.random() < 0.3:
        seconds = ClientIPConfig(timeout_seconds=dice.choice((1, 90, 10800, 86400)))
        more["session_affinity"] = "ClientIP"
        more["session_affinity_config"] = SessionAffinityConfig(client_ip=seconds)
    return service(
        *ports,
        name=f"s{number}" + dice.choice(("", "-" + "s" * 50)),
        type=kind,
        ips=[f"10.96.0.{number}" if one == 4 else f"fd00:96::{number:x}" for one in versions],
        internal_traffic_policy=dice.choice(_POLICIES),
        **more,
    )


def _slices(
    dice: random.Random, one: Service, number: int, version: int
) -> Iterator[EndpointSlice]:
    for part in range(dice.choice((0, 1, 1, 2))):
        ends: list[SliceEndpoint] = []
        for last in range(dice.randint(0, 4)):
            host = 10 * part + last + 1
            ip = f"10.244.{number}.{host}" if version == 4 else f"fd00:244::{number:x}:{host:x}"
            zones = dice.choice(((), ("z1",), ("z1", "z2")))
            node = dice.choice(("node1", "node2", None))
            ends.append(endpoint(ip, node, zones=zones, **dice.choice(_STATES)))
        yield slice_of(
            *ends,
            ports=[
                EndpointPort(port=8000 + 100 * part + at, name=port.name, protocol=port.protocol)
                for at, port in enumerate(one.spec.ports)
            ],
            name=f"s{number}-{version}-{part}",
            of=one.metadata.name,
            address_type=f"IPv{version}",
        )
