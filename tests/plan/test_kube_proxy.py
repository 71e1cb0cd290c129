"""What is planned for the recorded Services is what kube-proxy 1.36.2 programmed for them.

``kube-proxy-1.36`` holds the input and the kernel's state as ipvsadm, ipset, iptables-save and
``ip -j addr`` showed it.  Not compared: what is not kube-proxy's choice (hash sizes and seeds,
counters, the order of a set's entries).  The order of the rules of a chain and of jumps is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import pytest

from hairpin.kernel.iptables_script import owned, parse_save
from hairpin.model.address import IP
from hairpin.model.snapshot import Snapshot
from hairpin.plan.node import NodeFacts, node_facts
from hairpin.plan.whole import WholePlan, plan
from hairpin.present import ipset, ipvsadm
from hairpin.source.configuration import load as load_configuration
from hairpin.source.manifests import load
from hairpin.state.base import KernelObject
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address, Link
from hairpin.state.netfilter import Chain, Family, Jump
from hairpin.state.sysctl import Sysctl

RECORDED = Path(__file__).parent / "kube-proxy-1.36"
INPUT, DUMPS = RECORDED / "input", RECORDED / "ipvs"
T = TypeVar("T", bound=KernelObject)


def _links() -> dict[str, list[IP]]:
    found = json.loads((DUMPS / "ip-addr.json").read_text())
    return {
        link["ifname"]: [ip_address(each["local"]) for each in link["addr_info"]] for link in found
    }


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    names = ("node.yaml", "services.yaml", "endpointslices.yaml")
    return Snapshot(load([str(INPUT / name) for name in names], whole=True).objects)


@pytest.fixture(scope="module")
def node(snapshot: Snapshot) -> NodeFacts:
    own = (ip for link, ips in _links().items() if link != "kube-ipvs0" for ip in ips)
    return node_facts("node1", snapshot.nodes["", "node1"], own)


@pytest.fixture(scope="module")
def planned(snapshot: Snapshot, node: NodeFacts) -> WholePlan:
    config = load_configuration(str(INPUT / "kube-proxy-config.ipvs.yaml"))
    return plan(snapshot, config, node, "")


def _of(planned: WholePlan, *kinds: type[T]) -> list[T]:
    return [each.object for each in planned if isinstance(each.object, kinds)]


def _sorted(objects: Iterable[KernelObject]) -> list[KernelObject]:
    """As a list, not a set: one that is there twice would be a mistake."""
    return sorted(objects, key=lambda one: repr(one.key))


def test_the_node_is_read_from_its_links_and_its_node_object(node: NodeFacts) -> None:
    assert node.addresses == (ip_address("172.31.0.2"), ip_address("fd31::2"))
    assert node.node_ips == node.addresses
    assert (node.zone, len(node.pod_cidrs)) == ("z1", 2)


def test_virtual_and_real_servers(planned: WholePlan) -> None:
    recorded = ipvsadm.parse((DUMPS / "ipvsadm-save.txt").read_text())
    assert len(recorded) == 139
    assert _sorted(_of(planned, VirtualServer, RealServer)) == _sorted(recorded)


def test_sets_and_their_entries(planned: WholePlan) -> None:
    recorded = ipset.parse((DUMPS / "ipset-save.txt").read_text())
    assert len(recorded) == 172
    assert _sorted(_of(planned, IpSet, SetEntry)) == _sorted(recorded)


def test_addresses(planned: WholePlan) -> None:
    found = _of(planned, Address)
    assert {each.link for each in found} == {"kube-ipvs0"}
    assert all(each.prefix == each.ip.max_prefixlen for each in found)
    assert sorted(str(each.ip) for each in found) == sorted(map(str, _links()["kube-ipvs0"]))


def test_the_link_is_there_and_down(planned: WholePlan) -> None:
    assert _of(planned, Link) == [Link(name="kube-ipvs0", type="dummy", up=False)]


@pytest.mark.parametrize(
    ("name", "family"), [("iptables-save.txt", "ip"), ("ip6tables-save.txt", "ip6")]
)
def test_chains_rules_and_jumps(planned: WholePlan, name: str, family: Family) -> None:
    recorded = owned(parse_save((DUMPS / name).read_text(), family))
    assert len(recorded) == 11 + 9
    mine = [each for each in _of(planned, Chain) if each.family == family]
    rules = {(each.table, each.name): list(each.rules) for each in mine}
    for each in recorded:
        if isinstance(each, Chain):
            assert rules.pop((each.table, each.name)) == list(each.rules), each.name
    assert rules == {}
    jumps = [each for each in _of(planned, Jump) if each.family == family]
    assert _by_chain(jumps) == _by_chain([each for each in recorded if isinstance(each, Jump)])


def _by_chain(jumps: list[Jump]) -> dict[tuple[str, str], list[Jump]]:
    """In their order there."""
    found: dict[tuple[str, str], list[Jump]] = {}
    for each in jumps:
        found.setdefault((each.table, each.chain), []).append(each)
    return found


def test_sysctls(planned: WholePlan) -> None:
    said = (DUMPS / "sysctl-changed.txt").read_text()
    recorded = dict(re.findall(r"^(\S+) .*-> (\d+)$", said, re.MULTILINE))
    assert len(recorded) == 6
    assert {each.name: each.value for each in _of(planned, Sysctl)} == recorded


def test_health_checks(planned: WholePlan) -> None:
    """weight is the number of ready local endpoints; no answer on IPv6, which they do not have."""
    said = (DUMPS / "healthcheck-node-ports.txt").read_text()
    answers = r"^(\d+) default/(\S+) (\S+) http=\d+ weight=([\d-]+)"
    recorded = {
        (name, int(port)): int(weight)
        for port, name, address, weight in re.findall(answers, said, re.MULTILINE)
        if not address.startswith("[")
    }
    assert len(recorded) == 4
    found = {
        (name, one.health.port): one.health
        for (_, name), one in planned.plans.items()
        if one.health
    }
    assert {at: health.local for at, health in found.items()} == {
        at: (weight,) for at, weight in recorded.items()
    }
    assert {health.families for health in found.values()} == {("IPv4",)}


def test_nothing_is_wrong_with_them(planned: WholePlan) -> None:
    assert planned.problems == ()
    assert planned.conflicts == {}
