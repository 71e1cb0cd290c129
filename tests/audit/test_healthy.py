"""What a healthy proxy holds is clean: what is planned, for whatever Services, and what kube-proxy
does otherwise on purpose."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from hairpin.audit.case import Case
from hairpin.audit.dump import held
from hairpin.audit.judge import case_of, report
from hairpin.audit.report import Finding
from hairpin.model.address import ip
from hairpin.model.configuration import KubeProxyConfiguration, Mode
from hairpin.model.snapshot import Snapshot
from hairpin.plan.node import node_facts
from hairpin.plan.whole import plan
from hairpin.present.restore import restore, sections
from hairpin.source.cluster import admit
from hairpin.source.configuration import load as load_configuration
from hairpin.source.manifests import load
from hairpin.source.settings import PLAN
from hairpin.state.links import Address, Link
from hairpin.state.nftables import NftObject
from hairpin.state.sysctl import Sysctl
from tests.audit.play import MODES, RECORDED, recorded

EXAMPLES = Path(__file__).parents[2] / "examples"
NODE = [ip("192.168.1.2"), ip("fd00::2")]
INPUT = RECORDED / "input"


def _snapshot(*files: Path) -> Snapshot:
    loaded = load([str(file) for file in files], whole=True)
    return admit(loaded.objects, settings=PLAN, where=loaded.where)


def synced(snapshot: Snapshot, config: KubeProxyConfiguration) -> Case:
    """The kernel as the plan has it, by way of the tools' words."""
    facts = node_facts("node1", snapshot.nodes.get(("", "node1")), NODE)
    wanted = [one.object for one in plan(snapshot, config, facts, "")]
    text = sections(restore(wanted))
    texts: dict[Any, Any] = {
        "ipvs": text.get("ipvsadm-save", ""),
        "ipset": text.get("ipset-save", ""),
        "iptables": text.get("iptables-save", ""),
        "ip6tables": text.get("ip6tables-save", ""),
        "conntrack": "",
    }
    seen = held(texts, nftables=[one for one in wanted if isinstance(one, get_args(NftObject))])
    own = (Address(link="eth0", ip=one, prefix=24) for one in NODE)
    seen = msgspec.structs.replace(
        seen,
        links=tuple(one for one in wanted if isinstance(one, Link)),
        addresses=(*own, *(one for one in wanted if isinstance(one, Address))),
        settings={one.name: one.value for one in wanted if isinstance(one, Sysctl)},
        unread={},
    )
    return case_of(snapshot, config, facts, seen)


def clean(case: Case) -> None:
    found = report(case)
    assert (found.findings, found.exit_code) == ((), 0)


CONFIGURATIONS: list[dict[str, str]] = [
    {},
    {"cluster-cidr": "10.192.0.0/12,fd00:200::/56", "masquerade-all": "true"},
    {"detect-local-mode": "BridgeInterface", "pod-bridge-interface": "cni0"},
    {"nodeport-addresses": "192.168.0.0/16", "ipvs-scheduler": "mh", "ipvs-strict-arp": "true"},
    {
        "iptables-masquerade-bit": "15",
        "ipvs-tcp-timeout": "15m",
        "conntrack-tcp-be-liberal": "true",
    },
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("flags", CONFIGURATIONS)
def test_what_is_planned_is_clean(mode: Mode, flags: dict[str, str]) -> None:
    recorded_input = [INPUT / f"{name}.yaml" for name in ("services", "endpointslices", "node")]
    inputs = [recorded_input, [EXAMPLES / "web.yaml"], [EXAMPLES / "seed.yaml"]]
    config = msgspec.structs.replace(load_configuration(None, flags), mode=mode)
    for files in inputs:
        clean(synced(_snapshot(*files), config))


CLAIMED = """
apiVersion: v1
kind: Service
metadata: {name: NAME, uid: "1"}
spec:
  clusterIP: CLUSTERIP
  clusterIPs: [CLUSTERIP]
  ipFamilies: [IPv4]
  externalIPs: [198.51.100.7]
  ports: [{name: http, port: 80, targetPort: 8080, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: NAME-x, uid: "2", labels: {kubernetes.io/service-name: NAME}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [ENDPOINT], conditions: {ready: true}, nodeName: node2}]
"""


def _claims(folder: Path) -> Snapshot:
    file = folder / "claims.yaml"
    texts = [
        CLAIMED.replace("NAME", name).replace("CLUSTERIP", own).replace("ENDPOINT", end)
        for name, own, end in (("a", "10.96.0.8", "10.1.0.8"), ("b", "10.96.0.9", "10.1.0.9"))
    ]
    file.write_text("---".join(texts))
    return _snapshot(file)


def _replaced(case: Case, part: str, text: str) -> Case:
    texts: dict[Any, Any] = {part: text}
    found = held(texts)
    name = {"ipvs": "servers", "ipset": "sets", "iptables": "tables"}[part]
    now: Any = getattr(found, name)
    if part == "iptables":
        now = {**case.held.tables, **now}
    return msgspec.structs.replace(case, held=msgspec.structs.replace(case.held, **{name: now}))


def _findings(case: Case) -> tuple[Finding, ...]:
    return report(case).findings


def test_kube_proxy_gives_an_address_that_two_claim_the_endpoints_of_both(tmp_path: Path) -> None:
    config = msgspec.structs.replace(load_configuration(None), mode="ipvs")
    case = synced(_claims(tmp_path), config)
    clean(case)
    servers = list(case.held.servers)
    first = next(one for one in servers if str(getattr(one, "vip", "")) == "198.51.100.7")
    both = msgspec.structs.replace(first, ip=ip("10.1.0.9"))
    clean(
        msgspec.structs.replace(
            case, held=msgspec.structs.replace(case.held, servers=(*servers, both))
        )
    )
    alien = msgspec.structs.replace(first, ip=ip("10.1.0.10"))
    (found,) = _findings(
        msgspec.structs.replace(
            case, held=msgspec.structs.replace(case.held, servers=(*servers, alien))
        )
    )
    assert (found.what, found.owner) == ("extra", "service default/a:http")


def test_the_ways_to_node_ports_are_last_in_any_order() -> None:
    """kube-proxy takes the node's addresses from a map (GetNodeIPs in nodeport_addresses.go)."""
    flags = {"nodeport-addresses": "192.168.0.0/16,127.0.0.0/8"}
    config = msgspec.structs.replace(load_configuration(None, flags), mode="iptables")
    snapshot = _snapshot(EXAMPLES / "web.yaml")
    wanted = plan(snapshot, config, node_facts("node1", None, NODE), "")
    text = sections(restore([one.object for one in wanted]))["iptables-save"]
    first, second = (one for one in text.splitlines() if "must be the last rule" in one)
    assert "-d 192.168.1.2/32" in first and "-d 127.0.0.1/32" in second
    case = synced(snapshot, config)
    swapped = text.replace(second, "-").replace(first, second).replace("\n-\n", f"\n{first}\n")
    clean(_replaced(case, "iptables", swapped))
    above = text.replace(f"{first}\n", "").replace(
        "-A KUBE-SERVICES", f"{first}\n-A KUBE-SERVICES", 1
    )
    assert above != text
    assert len(_findings(_replaced(case, "iptables", above))) == 1


def test_an_iptables_without_random_fully_is_no_finding() -> None:
    case = recorded("ipvs")
    text = (RECORDED / "ipvs" / "iptables-save.txt").read_text()
    case = _replaced(case, "iptables", text.replace(" --random-fully", ""))
    clean(case)


def test_the_kubelets_rule_in_a_chain_of_both_is_its_own() -> None:
    text = (RECORDED / "iptables" / "iptables-save.txt").read_text()
    rule = "-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP\nCOMMIT"
    at = text.index("COMMIT", text.index("*filter"))
    clean(
        _replaced(
            recorded("iptables"), "iptables", text[:at] + text[at:].replace("COMMIT", rule, 1)
        )
    )


def test_foreign_tables_and_sets_are_passed_over(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(RECORDED / "nftables", tmp_path / "d"))
    rows = json.loads((folder / "ruleset.json").read_text())["nftables"]
    rows += [
        {"table": {"family": "inet", "name": "cni", "handle": 9}},
        {"chain": {"family": "inet", "table": "cni", "name": "x", "handle": 1}},
        {"rule": {"family": "inet", "table": "cni", "chain": "x", "handle": 2, "expr": [{"?": 1}]}},
    ]
    case = recorded("nftables")
    seen = held({"nftables": json.dumps({"nftables": rows})})
    clean(
        msgspec.structs.replace(
            case, held=msgspec.structs.replace(case.held, nftables=seen.nftables)
        )
    )


def test_real_clusters_have_names_of_others(tmp_path: Path) -> None:
    """kube-router's, Calico's and the kubelet's chains begin with KUBE- or stand before ours."""
    text = (RECORDED / "iptables" / "iptables-save.txt").read_text()
    head = ":KUBE-ROUTER-FORWARD - [0:0]\n:KUBE-NWPLCY-DEFAULT - [0:0]\n:cali-FORWARD - [0:0]\n"
    jump = "-A FORWARD -j cali-FORWARD\n-A FORWARD -j KUBE-ROUTER-FORWARD\n"
    text = text.replace(":KUBE-FORWARD", f"{head}:KUBE-FORWARD", 1)
    text = text.replace("-A FORWARD", f"{jump}-A FORWARD", 1)
    clean(_replaced(recorded("iptables"), "iptables", text))
