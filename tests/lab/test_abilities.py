"""What a lab leaves out on a kernel that lacks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hairpin.lab import topology
from hairpin.lab.ingredients import NAMES, Ingredients, absent
from hairpin.model.snapshot import Snapshot
from hairpin.source.cluster import admit
from hairpin.source.manifests import load
from hairpin.state.abilities import Abilities
from hairpin.state.change import KernelState
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Link
from hairpin.state.netfilter import ChainPolicy, Rule
from hairpin.state.sysctl import Sysctl

WEB = Path(__file__).parents[2] / "examples" / "web.yaml"


@pytest.fixture(scope="module")
def admitted() -> Snapshot:
    return admit(load([str(WEB)]).objects)


def objects(state: KernelState, kind: type | tuple[type, ...]) -> list[object]:
    return [wanted.object for wanted in state if isinstance(wanted.object, kind)]


CASES: dict[str, Callable[[object], bool]] = {
    "ipvs": lambda thing: isinstance(thing, VirtualServer | RealServer),
    "dummy": lambda thing: (
        (isinstance(thing, Link) and thing.type == "dummy")
        or getattr(thing, "link", None) == "kube-ipvs0"
    ),
    "ipvs_conntrack": lambda thing: isinstance(thing, Sysctl) and ".vs." in thing.name,
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


def test_absent_ingredients_say_why() -> None:
    none = Abilities(dummy=False, br_netfilter=False, lacking={"dummy": "no dummy links here"})
    said = {name: reason for name in NAMES if (reason := absent(name, none))}
    assert said == {"vip-local": "no dummy links here", "br-netfilter": "it has no br_netfilter"}
    assert not [name for name in NAMES if absent(name, Abilities())]
