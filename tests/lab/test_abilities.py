"""What a lab leaves out on a kernel that lacks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hairpin.lab import topology
from hairpin.lab.adjust import adjusting
from hairpin.lab.ingredients import NAMES, Ingredients, absent
from hairpin.model.address import ip
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.snapshot import Snapshot
from hairpin.plan.node import node_facts
from hairpin.plan.whole import plan
from hairpin.source.cluster import admit
from hairpin.source.manifests import load
from hairpin.state.abilities import Abilities
from hairpin.state.change import KernelState, Object
from hairpin.state.links import Address
from hairpin.state.netfilter import Chain, ChainPolicy, Jump, Rule
from hairpin.state.sysctl import Sysctl

WEB = Path(__file__).parents[2] / "examples" / "web.yaml"


@pytest.fixture(scope="module")
def admitted() -> Snapshot:
    return admit(load([str(WEB)]).objects)


def objects(state: KernelState, kind: type | tuple[type, ...]) -> list[object]:
    return [wanted.object for wanted in state if isinstance(wanted.object, kind)]


CASES: dict[str, Callable[[object], bool]] = {
    "br_netfilter": lambda thing: isinstance(thing, Sysctl) and ".bridge." in thing.name,
    "iptables": lambda thing: isinstance(thing, Rule | ChainPolicy),
}


@pytest.mark.parametrize("name", CASES)
def test_what_the_kernel_cannot_do_is_left_out_and_nothing_else(
    admitted: Snapshot, name: str
) -> None:
    whole = list(topology.desired(admitted, Ingredients()))
    able = msgspec.structs.replace(Abilities(), **{name: False})
    left = list(topology.desired(admitted, Ingredients(), able))
    concerned = CASES[name]
    assert any(concerned(wanted.object) for wanted in whole)
    assert left == [wanted for wanted in whole if not concerned(wanted.object)]


@pytest.fixture(scope="module")
def proxied(admitted: Snapshot) -> list[Object]:
    config = KubeProxyConfiguration(mode="ipvs", detect_local_mode="NodeCIDR")
    facts = node_facts("node", admitted.nodes["", "node"], [ip("192.168.100.2")])
    return [want.object for want in plan(admitted, config, facts, "node_node")]


ADJUSTED: dict[str, tuple[Object, ...]] = {
    "forwarding": (Sysctl(name="net.ipv4.ip_forward", value="0"),),
    "forward_accept": (),
    "vip_local": (),
    "masquerade": (),
    "ipvs_conntrack": (Sysctl(name="net.ipv4.vs.conntrack", value="0"),),
    "gateway": (),
    "br_netfilter": (),
}
"""What is there instead while an ingredient is off."""


@pytest.mark.parametrize("name", ADJUSTED)
def test_an_ingredient_takes_its_own_of_the_proxys_objects(
    proxied: list[Object], name: str
) -> None:
    adjust = adjusting(msgspec.structs.replace(Ingredients(), **{name: "off"}), Abilities())
    kept = [one for one in map(adjust or (lambda one: one), proxied) if one is not None]
    gone = [one for one in proxied if one not in kept]
    assert [one for one in kept if one not in proxied] == list(ADJUSTED[name])
    match name:
        case "vip_local":
            assert gone == [one for one in proxied if isinstance(one, Address)] != []
        case "masquerade" | "forward_accept":
            (jump,) = gone
            assert isinstance(jump, Jump)
            chain = "POSTROUTING" if name == "masquerade" else "FORWARD"
            assert (jump.chain, jump.to, jump.family) == (chain, f"KUBE-{chain}", "ip")
        case _:
            assert len(gone) == len(ADJUSTED[name])


def test_without_iptables_a_proxy_writes_none(proxied: list[Object]) -> None:
    adjust = adjusting(Ingredients(), Abilities(iptables=False))
    assert adjust is not None
    gone = [one for one in proxied if adjust(one) is None]
    assert gone == [one for one in proxied if isinstance(one, Chain | Jump)] != []
    assert adjusting(Ingredients(), Abilities()) is None


def test_absent_ingredients_say_why() -> None:
    none = Abilities(dummy=False, br_netfilter=False, lacking={"dummy": "no dummy links here"})
    said = {name: reason for name in NAMES if (reason := absent(name, none))}
    assert said == {
        "vip-local": "no dummy links here",
        "masquerade": "no dummy links here",
        "br-netfilter": "it has no br_netfilter",
    }
    assert not [name for name in NAMES if absent(name, Abilities())]
