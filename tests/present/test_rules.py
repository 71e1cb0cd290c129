"""What serves a Service, line by line: every line has its reason, on a packet's way."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from hairpin.model.address import from_builtin, ip, network
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.snapshot import Snapshot
from hairpin.plan.node import node_facts
from hairpin.plan.owner import service_of
from hairpin.plan.whole import plan
from hairpin.present import rules
from hairpin.present.rules import Held, Line
from hairpin.present.rules_way import way
from hairpin.source.manifests import load
from hairpin.state.ipset import SetEntry
from hairpin.state.nftables import NftElement, NftSet

INPUT = Path(__file__).parents[1] / "plan" / "kube-proxy-1.36" / "input"
Mode = Literal["ipvs", "iptables", "nftables"]
MODES: tuple[Mode, ...] = ("ipvs", "iptables", "nftables")
ADDRESSES = ("192.168.100.2", "10.244.0.1", "127.0.0.1", "fd00:192:168:100::2", "::1")


@cache
def planned(mode: Mode) -> list[Held]:
    """All that the Services that kube-proxy was recorded with ask of the node."""
    names = ("node.yaml", "services.yaml", "endpointslices.yaml")
    snapshot = Snapshot(load([str(INPUT / name) for name in names], whole=True).objects)
    facts = node_facts("node1", snapshot.nodes["", "node1"], list(map(ip, ADDRESSES)))
    cidrs = (network("10.96.0.0/12"), network("fd00:96::/108"))
    facts = msgspec.structs.replace(facts, service_cidrs=cidrs)
    found = plan(snapshot, KubeProxyConfiguration(mode=mode), facts, "")
    return [Held(one.object, one.owner, one.why) for one in found]


@cache
def by_service(mode: Mode) -> dict[str, list[Held]]:
    """What each of the Services asks of the node."""
    found: dict[str, list[Held]] = {}
    for one in planned(mode):
        if one.owner.startswith("service "):
            found.setdefault(service_of(one.owner)[1], []).append(one)
    return found


def on_the_way(mode: Mode, name: str) -> list[Held]:
    """What of the frame the Service's packets meet."""
    frame = [one for one in planned(mode) if one.owner == "proxy"]
    return way(by_service(mode)[name], frame)


def lines(mode: Mode, name: str) -> list[Line]:
    return rules.lines(by_service(mode)[name])


@pytest.mark.parametrize("mode", MODES)
def test_each_line_has_a_reason_of_its_own(mode: Mode) -> None:
    services = by_service(mode)
    assert len(services) > 20
    for name in services:
        block = ""
        for line in lines(mode, name):
            assert line.why, line
            if not line.text.startswith(" "):
                block = line.why
            elif mode == "nftables":  # in a chain or set: not only what the whole of it is for
                assert line.why != block, line


@pytest.mark.parametrize("mode", MODES)
def test_the_text_is_the_lines_with_each_reason_before_those_it_is_for(mode: Mode) -> None:
    for name in by_service(mode):
        found = lines(mode, name)
        said = list(rules.text(found))
        given = [one for one in said if one and not re.match(r"### |\s*# ", one)]
        assert given == [one.text for one in found]
        assert [one for one in said if one.startswith("### ")] == [
            f"### {tool}" for tool in dict.fromkeys(one.tool for one in found)
        ]
        reason = ""
        for one, line in zip(said, [*said[1:], ""], strict=True):
            if re.match(r"\s*# ", one):
                assert one != reason or line.startswith(("set ", "chain ")), one
                reason = one


def _at(found: list[Line], *starts: str) -> list[int]:
    return [
        next(at for at, line in enumerate(found) if line.text.startswith(start)) for start in starts
    ]


def test_they_are_on_a_packets_way() -> None:
    name = "g21-affinity-lb-etp-local"
    found = lines("nftables", name)
    way = ("firewall-ips:", "chain firewall-", "service-ips:", "chain external-", "chain service-")
    assert _at(found, *way, "set affinity-", "chain endpoint-") == sorted(
        _at(found, *way, "set affinity-", "chain endpoint-")
    )
    found = lines("iptables", name)
    chains = ("SERVICES", "NODEPORTS", "FW-", "EXT-", "SVC-", "SEP-")
    at = _at(found, *(f"-A KUBE-{chain}" for chain in chains))
    assert at == sorted(at)
    tools = list(dict.fromkeys(one.tool for one in lines("ipvs", name)))
    assert tools == ["ip", "ipset", "ipvsadm"]


_LEADS = re.compile(r"(?:-j (?=KUBE-)|jump |goto )([^\s,}]+)")
_ASKS = re.compile(r"(?:--match-set |@)([^\s}]+)")


@pytest.mark.parametrize("mode", MODES)
def test_the_way_is_whole_and_nothing_beside_it(mode: Mode) -> None:
    """Every chain that a line leads to is shown, every set that one asks has the Service in it, and
    every chain that is shown is led to, up to a hook."""
    for name in by_service(mode):
        own = by_service(mode)[name]
        sets = {one.object.set for one in own if isinstance(one.object, SetEntry | NftElement)}
        sets |= {"nodeport-ips"} if any("nodeports" in one for one in sets) else set()
        sets |= {one.object.name for one in own if isinstance(one.object, NftSet)}
        found = rules.lines([*own, *on_the_way(mode, name)])
        for tool in {one.tool for one in found}:
            texts = [one.text for one in found if one.tool == tool and "  comment " not in one.text]
            chains = {
                one.split()[1]
                for one in texts
                if one.startswith("chain ") or (one.startswith("-A ") and "tables -t" in tool)
            }
            led = {target for one in texts for target in _LEADS.findall(one)}
            assert led <= chains, (name, tool)
            assert {asked for one in texts for asked in _ASKS.findall(one)} <= sets, (name, tool)
            if "tables -t" in tool:
                assert {one for one in chains if one.startswith("KUBE-")} <= led, (name, tool)


@pytest.mark.parametrize("mode", MODES)
def test_each_line_of_the_way_has_a_reason(mode: Mode) -> None:
    frame = {one.why for one in planned(mode) if one.owner == "proxy"}
    for name in by_service(mode):
        for line in rules.lines(on_the_way(mode, name)):
            assert line.why, line
            if line.text.startswith(("-A ", " ")):  # a rule: not only what its chain is for
                assert line.why not in frame, line


def test_the_way_of_one_service_in_full() -> None:
    found = rules.lines(on_the_way("iptables", "g01-clusterip-tcp"))
    assert [f"{one.tool}: {one.text}" for one in found if one.tool.endswith("nat")] == [
        'iptables -t nat: -A PREROUTING -m comment --comment "kubernetes service portals" '
        "-j KUBE-SERVICES",
        'iptables -t nat: -A OUTPUT -m comment --comment "kubernetes service portals" '
        "-j KUBE-SERVICES",
        "iptables -t nat: -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
        'iptables -t nat: -A POSTROUTING -m comment --comment "kubernetes postrouting rules" '
        "-j KUBE-POSTROUTING",
        "iptables -t nat: -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "iptables -t nat: -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0",
        'iptables -t nat: -A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic '
        'requiring SNAT" -j MASQUERADE --random-fully',
    ]


def test_words_in_a_services_name_are_no_reason() -> None:
    """It may be called drop, and its chain leads on all the same."""
    (found,) = [
        line
        for held in by_service("nftables")["g04-nodeport"]
        for line in rules.lines([_renamed(held)])
        if line.text.strip().startswith("goto service-") and "/tcp/" in line.text
    ]
    assert "/drop/" in found.text
    assert found.why == "on to all endpoints"


def _renamed(held: Held) -> Held:
    shape = json.loads(msgspec.json.encode(held, enc_hook=str).replace(b"g04-nodeport", b"drop"))
    return msgspec.convert(shape, Held, dec_hook=from_builtin)
