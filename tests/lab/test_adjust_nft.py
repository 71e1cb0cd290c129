"""What ingredients take out of a node's nftables."""

from __future__ import annotations

from hairpin.lab.adjust import adjusting
from hairpin.lab.ingredients import Ingredients
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.plan.nftables import NftPlanner
from hairpin.plan.node import NodeFacts
from hairpin.plan.service_plan import Occupancy
from hairpin.state.abilities import Abilities
from hairpin.state.nftables import NftChain


def test_without_masquerading_nothing_leads_there() -> None:
    config = KubeProxyConfiguration(mode="nftables", cluster_cidr="10.244.0.0/16")
    frame = [one.object for one in NftPlanner(config, NodeFacts(name="n"), "").frame(Occupancy())]
    adjust = adjusting(Ingredients(masquerade="off"), Abilities(), ("ip",))
    assert adjust is not None
    gone = [one for one in frame if adjust(one) is None]
    assert [(type(one), one.key) for one in gone] == [
        (NftChain, ("nft-chain", "ip", "kube-proxy", "nat-postrouting"))
    ]
    assert all(adjust(one) in (one, None) for one in frame)
