"""Whatever Services and slices say, what is planned in iptables mode is whole: nothing leads to a
chain that is not planned too, and each chain is one that something leads to."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hairpin.model.configuration import IPTablesConfiguration, KubeProxyConfiguration
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.service import Service
from hairpin.plan.desired import Desired
from hairpin.plan.iptables import IptablesPlanner
from hairpin.plan.service_plan import Occupancy
from hairpin.present.iptables_save import split
from hairpin.state.netfilter import Chain, DispatchChain, DispatchRule, Jump, ServiceChain
from tests.plan.test_any_input import _services, _slices
from tests.plan.values import NODE

_MOST_NAME, _MOST_COMMENT = 28, 255  # XT_EXTENSION_MAXNAMELEN less one, XT_MAX_COMMENT_LEN less one

_configs = st.builds(
    KubeProxyConfiguration,
    mode=st.just("iptables"),
    cluster_cidr=st.sampled_from(("", "10.244.0.0/16", "10.244.0.0/16,fd00::/8")),
    node_port_addresses=st.sampled_from(((), ("0.0.0.0/0",), ("10.0.0.0/8", "::/0"))),
    iptables=st.builds(IPTablesConfiguration, masquerade_all=st.booleans()),
)


@given(_configs, st.lists(st.tuples(_services, st.lists(_slices, max_size=3)), max_size=3))
def test_nothing_leads_nowhere(
    config: KubeProxyConfiguration, told: Sequence[tuple[Service, list[EndpointSlice]]]
) -> None:
    planner = IptablesPlanner(config, NODE, "")
    plans = {}
    for number, (service, slices) in enumerate(told):
        meta = replace(service.metadata, name=f"s{number}", namespace="default")
        plans["default", f"s{number}"] = planner.service(replace(service, metadata=meta), slices)
    desired, other = Desired(), Desired()
    for key, plan in plans.items():
        desired.put(key, plan)
    for key, plan in reversed(plans.items()):
        other.put(key, plan)
    assert {one.object.key: one.object for one in other} == {
        one.object.key: one.object for one in desired
    }
    chains: set[tuple[str, str, str]] = set()
    rules: list[tuple[str, str, list[str]]] = []
    own: set[tuple[str, str, str]] = set()
    for wanted in (*planner.frame(Occupancy()), *desired):
        assert wanted.owner
        assert wanted.why
        match wanted.object:
            case ServiceChain(family=family, table=table, name=name, rules=lines):
                own.add((family, table, name))
                rules += [(family, table, split(line)) for line in lines]
            case Chain(family=family, table=table, name=name, rules=words):
                chains.add((family, table, name))
                rules += [(family, table, list(each)) for each in words]
            case DispatchChain(family=family, table=table, name=name, last=last):
                chains.add((family, table, name))
                rules += [(family, table, split(line)) for line in last]
            case DispatchRule(family=family, table=table, rule=line):
                rules.append((family, table, split(line)))
            case Jump(family=family, table=table, to=to):
                rules.append((family, table, ["-j", to]))
    reached = {(f, t, rule[rule.index("-j") + 1]) for f, t, rule in rules if "-j" in rule}
    assert {one for one in reached if one[2].startswith("KUBE-")} <= chains | own
    assert own <= reached
    assert all(len(name) <= _MOST_NAME for _, _, name in chains | own)
    for _, _, rule in rules:
        assert all(re.fullmatch(r"[ -~]+", word) for word in rule), rule
        if "--comment" in rule:
            assert len(rule[rule.index("--comment") + 1]) <= _MOST_COMMENT
