"""What a namespace's routing decides, by rules and tables alone."""

from __future__ import annotations

from typing import Any

import pytest

from hairpin.model.address import ip, network
from hairpin.state.circumstances import Circumstances, Path, Policy
from hairpin.state.links import Link
from hairpin.trace.observation import Place
from hairpin.trace.routing import decide, said_path, said_policy

_USUAL = (
    Policy(priority=0, version=4, table=255),
    Policy(priority=32766, version=4, table=254),
    Policy(priority=32767, version=4, table=253),
)
_PATHS = (
    Path(to=network("0.0.0.0/0"), via=ip("192.168.100.1"), link="eth0"),
    Path(to=network("10.244.2.0/24"), via=ip("192.168.100.3"), link="eth0"),
    Path(to=network("10.244.2.0/24"), via=ip("192.168.100.9"), link="eth0", metric=9),
    Path(to=network("10.244.2.77/32"), type="blackhole"),
    Path(to=network("0.0.0.0/0"), type="prohibit", table=100),
    Path(to=network("10.244.3.0/24"), type="throw", table=101),
    Path(to=network("10.244.5.0/24"), link="gone0"),
)


def node(*policies: Policy, up: bool = True) -> Place:
    around = Circumstances(paths=_PATHS, policies=(*policies, *_USUAL))
    links = (Link(name="eth0", type="veth", up=up), Link(name="cni0", type="bridge"))
    return Place(netns="node_n1", role="node", name="n1", links=links, around=around)


def verdict(place: Place, to: str, link_in: str = "", mark: int = 0) -> str:
    found = decide(place, ip("10.244.1.20"), ip(to), link_in, mark)
    assert found is not None
    return found.verdict + (f" {found.path.via}" if found.path and found.path.via else "")


def test_the_longest_prefix_then_the_smallest_metric() -> None:
    assert verdict(node(), "10.244.2.10") == "unicast 192.168.100.3"
    assert verdict(node(), "10.244.2.77") == "blackhole"
    assert verdict(node(), "10.96.0.1") == "unicast 192.168.100.1"


def test_routes_of_links_that_are_down_or_gone_are_none() -> None:
    assert verdict(node(up=False), "10.244.2.10") == ""
    assert verdict(node(), "10.244.5.1") == "unicast 192.168.100.1"


@pytest.mark.parametrize(
    ("policy", "more", "expected"),
    [
        (Policy(priority=9, version=4, table=100, source=network("10.244.1.20")), {}, "prohibit"),
        (Policy(priority=9, version=4, table=100, source=network("10.9.0.0/16")), {}, "unicast"),
        (Policy(priority=9, version=6, table=100), {}, "unicast"),
        (Policy(priority=9, version=4, table=101), {}, "unicast"),
        (Policy(priority=9, version=4, action="blackhole", link_in="cni0"), {}, "unicast"),
        (
            Policy(priority=9, version=4, action="blackhole", link_in="cni0"),
            {"link_in": "cni0"}, "blackhole",
        ),
        (Policy(priority=9, version=4, table=100, mark=7, mask=0xFF), {"mark": 0x107}, "prohibit"),
        (Policy(priority=9, version=4, table=100, mark=7, mask=0xFF), {"mark": 8}, "unicast"),
        (
            Policy(priority=9, version=4, table=100, source=network("10.9.0.0/16"), inverted=True),
            {}, "prohibit",
        ),
    ],
)  # fmt: skip
def test_rules_in_their_order(policy: Policy, more: dict[str, Any], expected: str) -> None:
    assert verdict(node(policy), "10.244.3.4", **more).split()[0] == expected


def test_a_rule_that_asks_for_more_than_is_known_decides_nothing() -> None:
    narrow = Policy(priority=9, version=4, table=100, narrow=True)
    assert decide(node(narrow), None, ip("10.244.2.10")) is None


def test_as_ip_takes_them() -> None:
    policy = Policy(priority=9, version=4, table=77, source=network("10.0.0.0/8"), mark=7, mask=255)
    assert said_policy(policy) == "from 10.0.0.0/8 fwmark 0x7/0xff lookup 77"
    assert said_path(_PATHS[4]) == "prohibit default table 100"
    assert said_path(_PATHS[1]) == "10.244.2.0/24 via 192.168.100.3 dev eth0"
