"""iptables mode: the rules of Services, by the words of iptables-save."""

from __future__ import annotations

import json
import random
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hairpin.model.configuration import (
    ConntrackConfiguration,
    DetectLocalConfiguration,
    IPTablesConfiguration,
    KubeProxyConfiguration,
)
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.service import Service, ServicePort
from hairpin.model.snapshot import Object, Snapshot
from hairpin.plan.iptables import MANY, IptablesPlanner
from hairpin.plan.iptables_names import hashed, probability
from hairpin.plan.node import NodeFacts, node_facts
from hairpin.plan.service_plan import Occupancy
from hairpin.plan.whole import WholePlan, plan
from hairpin.present import iptables
from hairpin.source.configuration import load as load_configuration
from hairpin.source.manifests import load
from hairpin.state.netfilter import (
    Chain,
    DispatchChain,
    DispatchRule,
    Family,
    Jump,
    ServiceChain,
)
from hairpin.state.sysctl import Sysctl
from tests.plan.values import NODE, TERMINATING, endpoint, service, slice_of

RECORDED = Path(__file__).parent / "kube-proxy-1.36"
DUMPS = RECORDED / "iptables"
CONFIG = KubeProxyConfiguration(mode="iptables", cluster_cidr="10.244.0.0/16,fd00:244::/48")
KINDS = (Chain, Jump, ServiceChain, DispatchChain, DispatchRule)


def rules(
    one: Service,
    *slices: EndpointSlice,
    config: KubeProxyConfiguration = CONFIG,
    node: NodeFacts = NODE,
    crowded: bool = False,
) -> list[str]:
    """All lines of a Service, as iptables-save prints them."""
    planner = IptablesPlanner(config, node, "")
    if crowded:
        planner.crowd((MANY + 1, MANY + 1))
    found: list[str] = []
    for each in planner.service(one, slices).wanted:
        match each.object:
            case ServiceChain(name=name, rules=own):
                found += [f"-A {name} {rule}" for rule in own]
            case DispatchRule(table=table, chain=chain, rule=rule):
                found.append(f"{table} -A {chain} {rule}")
    return found


def saying(lines: list[str], *words: str) -> list[str]:
    return [line for line in lines if all(word in line for word in words)]


def recorded() -> tuple[Snapshot, NodeFacts]:
    names = ("node.yaml", "services.yaml", "endpointslices.yaml")
    snapshot = Snapshot(load([str(RECORDED / "input" / one) for one in names], whole=True).objects)
    links = json.loads((DUMPS / "ip-addr.json").read_text())
    own = [ip_address(one["local"]) for link in links for one in link["addr_info"]]
    return snapshot, node_facts("node1", snapshot.nodes["", "node1"], own)


@pytest.fixture(scope="module")
def planned() -> WholePlan:
    config = load_configuration(str(RECORDED / "input" / "kube-proxy-config.iptables.yaml"))
    return plan(recorded()[0], config, recorded()[1], "")


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_all_is_as_kube_proxy_made_it(planned: WholePlan, family: Family) -> None:
    """In the order of kube-proxy but in chains where it has none; canaries aside."""
    objects = [one.object for one in planned if isinstance(one.object, KINDS)]
    ours = iptables.save(objects, family).splitlines()
    name = "iptables" if family == "ip" else "ip6tables"
    text = (DUMPS / f"{name}-save.txt").read_text().replace("*mangle", "#", 1)
    theirs = [line for line in text.splitlines() if not line.startswith("#")]
    theirs = theirs[theirs.index("*filter") :]
    theirs = [line for line in theirs if "CANARY" not in line]
    shared = {f"-A {one.name} " for one in objects if isinstance(one, DispatchChain)}

    def ordered(lines: list[str]) -> list[str]:
        return [line for line in lines if not line.startswith(tuple(shared))]

    assert ordered(ours) == ordered(theirs)
    assert sorted(ours) == sorted(theirs)
    last = [line for line in ours if line.startswith("-A KUBE-SERVICES ")][-1]
    assert last == [line for line in theirs if line.startswith("-A KUBE-SERVICES ")][-1]


def test_settings_are_those_that_kube_proxy_writes(planned: WholePlan) -> None:
    lines = (DUMPS / "sysctl-changed.txt").read_text().splitlines()
    wanted = {line.split()[0]: line.split()[-1] for line in lines}
    found = {one.object.name: one.object.value for one in planned if isinstance(one.object, Sysctl)}
    assert found == wanted


def test_a_plan_does_not_depend_on_the_order_of_its_input() -> None:
    snapshot, node = recorded()
    objects: list[Object] = list(snapshot)
    expected = {one.object.key: one for one in plan(snapshot, CONFIG, node, "")}
    for seed in range(3):
        random.Random(seed).shuffle(objects)
        found = plan(Snapshot(objects), CONFIG, node, "")
        assert {one.object.key: one for one in found} == expected


def test_names_and_probabilities() -> None:
    assert hashed("default/g01-clusterip-tcp:ptcp") == "3G3LV7YIFHKW3JAH"
    assert [probability(count) for count in (2, 3, 7)] == [
        "0.50000000000",
        "0.33333333349",
        "0.14285714272",
    ]


def test_three_endpoints_share_alike_in_the_order_of_their_text() -> None:
    lines = rules(service(), slice_of(*(endpoint(f"10.244.1.{last}") for last in (9, 10, 11))))
    chosen = [line.partition(" -> ")[2] for line in saying(lines, " -> ")]
    assert [line.partition('"')[0] for line in chosen] == [
        "10.244.1.10:8080",
        "10.244.1.11:8080",
        "10.244.1.9:8080",
    ]
    assert ["probability" in line for line in chosen] == [True, True, False]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ["! -s 10.244.0.0/16 -d 10.96.0.1/32 -p tcp"]),
        ({"cluster_cidr": ""}, []),
        ({"detect_local_mode": "NodeCIDR"}, ["! -s 10.244.0.0/24 -d 10.96.0.1/32 -p tcp"]),
        (
            {
                "detect_local_mode": "BridgeInterface",
                "detect_local": DetectLocalConfiguration(bridge_interface="cni0"),
            },
            ["-d 10.96.0.1/32 ! -i cni0 -p tcp"],
        ),
        (
            {
                "detect_local_mode": "InterfaceNamePrefix",
                "detect_local": DetectLocalConfiguration(interface_name_prefix="veth"),
            },
            ["-d 10.96.0.1/32 ! -i veth+ -p tcp"],
        ),
        ({"iptables": IPTablesConfiguration(masquerade_all=True)}, ["-d 10.96.0.1/32 -p tcp"]),
    ],
)
def test_who_is_masqueraded(changed: dict[str, Any], said: list[str]) -> None:
    config = msgspec.structs.replace(CONFIG, **changed)
    lines = rules(service(), slice_of(endpoint("10.244.1.2")), config=config)
    found = saying(lines, "cluster IP", "-j KUBE-MARK-MASQ")
    assert [line.split(" ", 2)[2].partition(" -m comment")[0] for line in found] == said


def test_policy_local_lets_pods_and_the_node_through_to_all() -> None:
    one = service(
        ServicePort(port=80, node_port=30080), type="NodePort", external_traffic_policy="Local"
    )
    far = slice_of(endpoint("10.244.1.2"))
    lines = rules(one, far)
    to = f"KUBE-SVC-{hashed('default/webtcp')}"
    targets = [line.partition(" -j ")[2] for line in saying(lines, "-A KUBE-EXT-")]
    assert targets == [to, "KUBE-MARK-MASQ", to]
    assert saying(lines, "filter -A KUBE-EXTERNAL-SERVICES", "has no local endpoints", "-j DROP")
    assert not saying(lines, "KUBE-SVL-")
    lines = rules(one, slice_of(endpoint("10.244.0.2", "node1")))
    assert saying(lines, "-A KUBE-EXT-", "-j KUBE-SVL-")
    assert not saying(lines, "filter ")
    nowhere = KubeProxyConfiguration(mode="iptables")
    assert not saying(rules(one, far, config=nowhere), "pod traffic")


def test_terminating_endpoints_are_the_last_resort() -> None:
    going = endpoint("10.244.1.2", **TERMINATING)
    lines = rules(service(), slice_of(going))
    assert saying(lines, "DNAT --to-destination 10.244.1.2:8080")
    lines = rules(service(), slice_of(going, endpoint("10.244.1.3")))
    assert not saying(lines, "10.244.1.2")


def test_source_ranges_guard_the_load_balancer_only() -> None:
    one = service(
        ServicePort(port=80, node_port=30080),
        type="LoadBalancer",
        ingress=["198.51.100.9"],
        ranges=["203.0.113.0/24", "192.0.2.0/24", "fd00:aa::/48"],
    )
    lines = rules(one, slice_of(endpoint("10.244.1.2")))
    firewall = [line.split(" ")[3] for line in saying(lines, "-A KUBE-FW-", "-s ")]
    # This node (192.0.2.1) is among them, and reaches the address by the address.
    assert firewall == ["203.0.113.0/24", "192.0.2.0/24", "198.51.100.9/32"]
    assert saying(lines, "filter -A KUBE-PROXY-FIREWALL -d 198.51.100.9/32", "-j DROP")
    assert saying(lines, "nat -A KUBE-NODEPORTS", "--dport 30080 -j KUBE-EXT-")
    assert saying(lines, "nat -A KUBE-SERVICES -d 198.51.100.9/32", "-j KUBE-FW-")
    assert not saying(rules(one), "KUBE-FW-")


@pytest.mark.parametrize("addresses", [(), ("0.0.0.0/0",), ("192.0.2.0/24",), ("127.0.0.0/8",)])
@pytest.mark.parametrize("localhost", [True, False])
def test_where_node_ports_answer(addresses: tuple[str, ...], localhost: bool) -> None:
    config = msgspec.structs.replace(
        CONFIG,
        node_port_addresses=addresses,
        iptables=IPTablesConfiguration(localhost_node_ports=localhost),
    )
    frame = IptablesPlanner(config, NODE, "").frame(Occupancy())
    objects = [one.object for one in frame]
    last = {
        one.family: [f" {rule}".partition(" -m comment")[0].strip() for rule in one.last]
        for one in objects
        if isinstance(one, DispatchChain) and (one.table, one.name) == ("nat", "KUBE-SERVICES")
    }
    expected = {
        (): [""] if localhost else ["! -d 127.0.0.0/8"],
        ("0.0.0.0/0",): [""] if localhost else ["! -d 127.0.0.0/8"],
        ("192.0.2.0/24",): ["-d 192.0.2.1/32"],
        ("127.0.0.0/8",): ["-d 127.0.0.1/32"] if localhost else [],
    }
    assert last["ip"] == expected[addresses]
    assert last["ip6"] == ["! -d ::1/128"]
    routed = any(isinstance(one, Sysctl) and "route_localnet" in one.name for one in objects)
    assert routed == (localhost and addresses != ("192.0.2.0/24",))
    names = {
        one.name: one.rules for one in objects if isinstance(one, Chain) and one.family == "ip"
    }
    assert bool(names["KUBE-FIREWALL"]) == routed


def test_late_packets_are_dropped_unless_conntrack_is_liberal() -> None:
    liberal = msgspec.structs.replace(CONFIG, conntrack=ConntrackConfiguration(tcp_be_liberal=True))

    def forward(config: KubeProxyConfiguration, *counters: str) -> list[str]:
        frame = IptablesPlanner(config, NODE, "", counters).frame(Occupancy())
        chains = [one.object for one in frame if isinstance(one.object, Chain)]
        found = next(one for one in chains if one.name == "KUBE-FORWARD")
        return [" ".join(rule) for rule in found.rules if "INVALID" in rule]

    assert forward(liberal) == []
    assert forward(CONFIG) == ["-m conntrack --ctstate INVALID -j DROP"]
    assert "nfacct" in forward(CONFIG, "ct_state_invalid_dropped_pkts")[0]


def test_a_crowd_has_no_comments_on_endpoints() -> None:
    one = service(
        ServicePort(port=80, node_port=30080), type="NodePort", session_affinity="ClientIP"
    )
    lines = rules(one, slice_of(endpoint("10.244.1.2"), endpoint("10.244.1.3")), crowded=True)
    assert not saying(lines, " -> ")
    assert not saying(lines, "-A KUBE-SEP-", "comment")
    assert saying(lines, "-A KUBE-SEP-", "-p tcp -m recent --set")
    assert saying(lines, "nat -A KUBE-SERVICES", '"default/web cluster IP"')


def test_of_two_services_with_one_address_the_first_has_it() -> None:
    snapshot = Snapshot((
        service(name="a", ips=["10.96.0.1"], external=["198.51.100.7"]),
        service(name="b", ips=["10.96.0.2"], external=["198.51.100.7"]),
        slice_of(endpoint("10.244.1.2"), of="a", name="a-1"),
        slice_of(endpoint("10.244.1.3"), of="b", name="b-1"),
    ))  # fmt: skip
    found = plan(snapshot, CONFIG, NODE, "")
    assert found.conflicts == {
        ("default", "b"): ("external IP 198.51.100.7 TCP 80 is already that of service default/a",)
    }
    lines = [one.object.rule for one in found if isinstance(one.object, DispatchRule)]
    assert [line for line in lines if "198.51.100.7" in line and "default/a external" in line]
    assert not [line for line in lines if "default/b external" in line]
