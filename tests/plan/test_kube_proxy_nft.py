"""What is planned in nftables mode for the recorded Services is what kube-proxy 1.36.2 programmed.

``kube-proxy-1.36/nftables`` holds what ``nft list ruleset`` printed.  The order of blocks inside a
table is not compared (sets and chains of Services come in no certain order there); all else is,
to the letter.  The cluster's service CIDRs are no part of the recorded input: they are told.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from hairpin.model.address import ip, network
from hairpin.model.snapshot import Snapshot
from hairpin.plan.node import node_facts
from hairpin.plan.whole import WholePlan, plan
from hairpin.present.nft import listing
from hairpin.source.configuration import load as load_configuration
from hairpin.source.manifests import load
from hairpin.state.sysctl import Sysctl

RECORDED = Path(__file__).parent / "kube-proxy-1.36"
INPUT, DUMPS = RECORDED / "input", RECORDED / "nftables"
CIDRS = (network("10.96.0.0/12"), network("fd00:96::/108"))


@pytest.fixture(scope="module")
def planned() -> WholePlan:
    names = ("node.yaml", "services.yaml", "endpointslices.yaml")
    snapshot = Snapshot(load([str(INPUT / name) for name in names], whole=True).objects)
    links = json.loads((DUMPS / "ip-addr.json").read_text())
    own = [ip(each["local"]) for link in links for each in link["addr_info"]]
    facts = node_facts("node1", snapshot.nodes["", "node1"], own)
    facts = msgspec.structs.replace(facts, service_cidrs=CIDRS)
    config = load_configuration(str(INPUT / "kube-proxy-config.nftables.yaml"))
    return plan(snapshot, config, facts, "")


def blocks(text: str) -> dict[str, list[str]]:
    """The lines of each ``set``, ``map`` and ``chain`` by table and name, and of the tables."""
    found: dict[str, list[str]] = {}
    table = name = ""
    for line in text.splitlines():
        if line.startswith("table "):
            table = name = line.split(" {")[0]
        elif re.match(r"\t(set|map|chain) ", line):
            name = f"{table} {line.strip().split(' {')[0]}"
        elif line == "}":
            name = table
        assert name
        if line:
            found.setdefault(name, []).append(line)
    return found


def test_the_ruleset(planned: WholePlan) -> None:
    recorded = blocks((DUMPS / "ruleset.nft").read_text())
    assert len(recorded) == 105
    mine = blocks(listing(one.object for one in planned))
    assert mine == recorded


def test_sysctls(planned: WholePlan) -> None:
    said = (DUMPS / "sysctl-changed.txt").read_text()
    recorded = dict(re.findall(r"^(\S+) .*-> (\d+)$", said, re.MULTILINE) or ())
    recorded |= dict(re.findall(r"^(\S+) -> (\d+)$", said, re.MULTILINE))
    assert len(recorded) == 2
    found = [one.object for one in planned if isinstance(one.object, Sysctl)]
    assert {each.name: each.value for each in found} == recorded


def test_nothing_is_wrong_with_them(planned: WholePlan) -> None:
    assert planned.problems == ()
    assert planned.conflicts == {}


def test_everything_says_who_asked_and_why(planned: WholePlan) -> None:
    assert all(one.owner and one.why for one in planned)
    assert len({one.object.key for one in planned}) == len(list(planned))


def test_health_checks_are_those_of_every_mode(planned: WholePlan) -> None:
    assert {key[1]: one.health.local for key, one in planned.plans.items() if one.health} == {
        "g08-etp-local": (1,),
        "g16-etp-local-no-local": (0,),
        "g21-affinity-lb-etp-local": (1,),
        "g22-etp-local-terminating": (0,),
    }
