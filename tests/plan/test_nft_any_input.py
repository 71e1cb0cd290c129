"""Whatever Services and slices say, what is planned in nftables mode is whole: nothing leads to a
chain, and nothing looks into a set, that is not planned too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hairpin.model.configuration import KubeProxyConfiguration, NFTablesConfiguration
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.service import Service
from hairpin.plan.desired import Desired
from hairpin.plan.nftables import NftPlanner
from hairpin.plan.service_plan import Occupancy
from hairpin.present.nft import listing
from hairpin.state.change import Object
from hairpin.state.nftables import (
    InSet,
    NftChain,
    NftElement,
    NftSet,
    RandomVerdict,
    Statement,
    UpdateSet,
    Verdict,
    VerdictMap,
)
from tests.plan.test_any_input import _services, _slices
from tests.plan.values import NODE

_configs = st.builds(
    KubeProxyConfiguration,
    mode=st.just("nftables"),
    cluster_cidr=st.sampled_from(("", "10.244.0.0/16", "10.244.0.0/16,fd00::/8")),
    node_port_addresses=st.sampled_from(((), ("0.0.0.0/0",), ("10.0.0.0/8", "::/0"))),
    nftables=st.builds(NFTablesConfiguration, masquerade_all=st.booleans()),
)
Place = tuple[str, str, str]


@given(_configs, st.lists(st.tuples(_services, st.lists(_slices, max_size=3)), max_size=3))
def test_nothing_leads_nowhere(
    config: KubeProxyConfiguration, told: Sequence[tuple[Service, list[EndpointSlice]]]
) -> None:
    planner = NftPlanner(config, NODE, "")
    plans = {}
    for number, (service, slices) in enumerate(told):
        meta = replace(service.metadata, name=f"s{number}", namespace="default")
        plan = planner.service(replace(service, metadata=meta), slices)
        assert len({one.object.key for one in plan.wanted}) == len(plan.wanted)
        assert all(one.owner.startswith("service ") and one.why for one in plan.wanted)
        plans["default", f"s{number}"] = plan
    desired, other = Desired(), Desired()
    for key, plan in plans.items():
        desired.put(key, plan)
    for key, plan in reversed(plans.items()):
        other.put(key, plan)
    objects = [one.object for one in (*planner.frame(Occupancy()), *desired)]
    chains = {(one.family, one.table, one.name) for one in objects if isinstance(one, NftChain)}
    sets = {(one.family, one.table, one.name): one for one in objects if isinstance(one, NftSet)}
    for at, verdict in _verdicts(objects):
        assert not verdict.chain or (*at, verdict.chain) in chains
    for place in _looked_into(objects):
        assert place in sets
    for one in objects:
        if isinstance(one, NftElement):
            home = sets[one.family, one.table, one.set]
            assert len(one.of) == len(home.types)
            assert home.verdicts is (one.verdict is not None)
    assert {one.object.key: one.object for one in other} == {
        one.object.key: one.object for one in desired
    }
    assert listing(objects).count("{") == listing(objects).count("}")


def _statements(objects: Iterable[Object]) -> Iterable[tuple[tuple[str, str], Statement]]:
    for one in objects:
        if isinstance(one, NftChain):
            for rule in one.rules:
                for statement in rule.statements:
                    yield (one.family, one.table), statement


def _verdicts(objects: Sequence[Object]) -> Iterable[tuple[tuple[str, str], Verdict]]:
    for at, statement in _statements(objects):
        if isinstance(statement, Verdict):
            yield at, statement
        elif isinstance(statement, RandomVerdict):
            yield from ((at, verdict) for verdict in statement.verdicts)
    for one in objects:
        if isinstance(one, NftElement) and one.verdict is not None:
            yield (one.family, one.table), one.verdict


def _looked_into(objects: Sequence[Object]) -> Iterable[Place]:
    for at, statement in _statements(objects):
        match statement:
            case InSet(set=name) | UpdateSet(set=name) | VerdictMap(map=name):
                yield (*at, name)
