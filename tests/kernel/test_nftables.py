"""nf_tables on the host's kernel, with nft(8) as the witness."""

from __future__ import annotations

import subprocess
from itertools import chain as joined
from pathlib import Path

import pytest

from hairpin.model.address import from_packed, ip, network
from hairpin.netlink import nftables_rules
from hairpin.state.change import Change
from hairpin.state.nftables import (
    Chance,
    Dnat,
    Hook,
    Match,
    NftChain,
    NftElement,
    NftObject,
    NftRule,
    NftSet,
    NftTable,
    OneOf,
    Opaque,
    RandomDnat,
    SetTrace,
    Target,
    UpdateSet,
    Verdict,
)
from tests.kernel.host import Host

DUMP = Path(__file__).parent.parent / "plan/kube-proxy-1.36/nftables/ruleset.nft"
T = "t"
TABLE = NftTable(family="ip", name=T, comment="of a test")
KEY = ("ip daddr", "meta l4proto", "th dport")
MAP = NftSet(
    family="ip", table=T, name="m", types=("ipv4_addr", "inet_proto", "inet_service"), verdicts=True
)
TCP = Match(field="meta l4proto", value="TCP")


def service(number: int, *ports: int) -> NftChain:
    targets = tuple(Target(ip("10.0.0.1"), port) for port in ports)
    return NftChain(
        family="ip",
        table=T,
        name=f"service-{number}/tcp/p",
        rules=(NftRule((TCP, RandomDnat(targets=targets)), "to one of them"),),
    )


def element(number: int, verdict: Verdict, comment: str = "") -> NftElement:
    address = from_packed((0x0A60_0000 + number).to_bytes(4, "big"))
    return NftElement(
        family="ip", table=T, set="m", of=(address, "TCP", 80), verdict=verdict, comment=comment
    )


def goto(number: int) -> NftElement:
    return element(number, Verdict("goto", service(number, 1).name))


def nft(host: Host, node: str, text: str) -> None:
    argv = ["ip", "netns", "exec", node, "nft", "-f", "-"]
    subprocess.run(argv, input=text, text=True, check=True)


def by_key(objects: list[NftObject]) -> dict[tuple[object, ...], NftObject]:
    return {one.key: one for one in objects}


def rules_of(host: Host, node: str, chain: str) -> list[str]:
    lines = host.run(node, "nft", "list", "chain", "ip", T, chain).splitlines()
    return [line.strip() for line in lines[2:-2]]


@pytest.mark.host
def test_what_kube_proxy_made_is_read_and_written_the_same(host: Host) -> None:
    one, two = host.make("one", "two")
    nft(host, one, DUMP.read_text())
    for family in ("ip", "ip6"):
        found = host.kernel.observe_nft(one, family, "kube-proxy")
        rules = joined.from_iterable(x.rules for x in found if isinstance(x, NftChain))
        statements = joined.from_iterable(rule.statements for rule in rules)
        assert not [x for x in statements if isinstance(x, Opaque)]
        host.must(*(host.add(x, two) for x in found))
        assert by_key(host.kernel.observe_nft(two, family, "kube-proxy")) == by_key(found)
    texts = [host.run(node, "nft", "list", "ruleset") for node in (one, two)]
    assert sorted(texts[0].splitlines()) == sorted(texts[1].splitlines())
    assert len(texts[0]) > 20_000


@pytest.mark.host
def test_adding_twice_and_removing_what_is_absent_succeed(host: Host) -> None:
    (node,) = host.make("node")
    objects: list[NftObject] = [
        service(1, 8080, 8081),
        goto(1),
        MAP,
        TABLE,
    ]  # in the door's order, not in ours
    host.must(*(host.add(one, node) for one in objects))
    host.must(*(host.add(one, node) for one in objects))
    assert by_key(host.kernel.observe_nft(node, "ip", T)) == by_key(objects)
    assert rules_of(host, node, "service-1/tcp/p") == [
        "meta l4proto tcp dnat ip to numgen random mod 2 map"
        ' { 0 : 10.0.0.1 . 8080, 1 : 10.0.0.1 . 8081 } comment "to one of them"'
    ]
    host.must(*(host.remove(one, node) for one in objects[:3]))
    host.must(*(host.remove(one, node) for one in objects[:3]))
    assert host.kernel.observe_nft(node, "ip", T) == [TABLE]
    host.must(host.remove(TABLE, node), host.remove(goto(1), node))
    host.must(host.remove(TABLE, node))
    assert host.kernel.observe_nft(node, "ip", T) == []


@pytest.mark.host
def test_a_chain_and_an_element_are_replaced_in_one_transaction(host: Host) -> None:
    (node,) = host.make("node")
    host.must(*(host.add(one, node) for one in (TABLE, MAP, service(1, 1), service(2, 1), goto(1))))
    before = host.kernel.nft_generation(node)
    other = element(1, Verdict("goto", service(2, 1).name), "moved")
    host.must(
        host.put(service(1, 2, 3, 4), node, service(1, 1)),
        host.put(other, node, goto(1)),
        host.remove(service(2, 1), node),
        host.add(service(2, 9), node),
    )
    assert host.kernel.nft_generation(node) == before + 1
    found = by_key(host.kernel.observe_nft(node, "ip", T))
    assert found[other.key] == other
    assert found[service(1).key] == service(1, 2, 3, 4)


@pytest.mark.host
def test_what_somebody_took_away_is_made_anew(host: Host) -> None:
    (node,) = host.make("node")
    flat = NftChain(family="ip", table=T, name="c")
    based = NftChain(
        family="ip", table=T, name="c", hook=Hook(type="filter", hook="input", priority=1)
    )
    wide = NftSet(family="ip", table=T, name="s", types=("ipv4_addr",), size=9)
    narrow = NftSet(family="ip", table=T, name="s", types=("ipv6_addr",))
    host.must(*(host.add(one, node) for one in (TABLE, MAP, service(1, 1), flat, narrow)))
    host.must(host.put(based, node, flat), host.put(wide, node, narrow))
    nft(host, node, f"delete set ip {T} s; delete chain ip {T} c")
    host.must(
        host.put(based, node, flat),
        host.put(wide, node, narrow),
        host.put(goto(1), node, element(1, Verdict("drop"))),
    )
    found = by_key(host.kernel.observe_nft(node, "ip", T))
    assert [found[one.key] for one in (based, wide, goto(1))] == [based, wide, goto(1)]
    host.must(host.remove(TABLE, node), host.add(TABLE, node))
    assert host.kernel.observe_nft(node, "ip", T) == [TABLE]


@pytest.mark.host
def test_each_error_belongs_to_its_change_and_the_rest_is_done(host: Host) -> None:
    (node,) = host.make("node")
    nowhere = element(3, Verdict("goto", "nowhere"))
    wrong = NftChain(
        family="ip", table=T, name="w", rules=(NftRule((Match(field="ip saddr", value="x"),)),)
    )
    lost = NftChain(family="ip", table="no-such-table", name="c")
    hook = Hook(type="filter", hook="input", priority=0)
    loop = NftChain(family="ip", table=T, name="l", rules=(NftRule((Verdict("jump", "l"),)),))
    to_loop = NftChain(family="ip", table=T, name="i", rules=loop.rules, hook=hook)
    objects: list[NftObject] = [TABLE, MAP, service(1, 1), goto(1), nowhere, wrong, lost]
    objects += [loop, to_loop]
    failed = host.kernel.apply([host.add(one, node) for one in objects])
    assert {one.change.object.key: one.error.name for one in failed} == {
        nowhere.key: "ENOENT",
        wrong.key: "EINVAL",
        lost.key: "ENOENT",
        to_loop.key: "EMLINK",
    }
    found = by_key(host.kernel.observe_nft(node, "ip", T))
    assert found.keys() >= {one.key for one in objects[:4]}


@pytest.mark.host
def test_sets_of_the_same_name_make_room(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven bytes of a digest: chance may give two chains' anonymous sets one name."""
    honest = nftables_rules.inline_name

    def clumsy(seed: bytes, elements: tuple[bytes, ...]) -> str:
        salt = seed[seed.index(b"\0") + 1]
        return honest(seed, elements) if salt else "same"

    monkeypatch.setattr(nftables_rules, "inline_name", clumsy)
    (node,) = host.make("node")
    chains = [service(number, 1, 2 + number) for number in range(4)]
    everything: list[NftObject] = [TABLE, *chains]
    host.must(*(host.add(one, node) for one in everything))
    found = by_key(host.kernel.observe_nft(node, "ip", T))
    assert [found[one.key] for one in chains] == chains


@pytest.mark.host
def test_thousands_of_changes_go_in_several_transactions(host: Host) -> None:
    (node,) = host.make("node")
    chains = [service(number, 1, 2, 3, 4) for number in range(1500)]
    big = service(9999, *range(1, 5001))  # its elements fill three nests
    gotos = [goto(at) for at in range(1500)]
    objects: list[NftObject] = [TABLE, MAP, *chains, *gotos, big]
    before = host.kernel.nft_generation(node)
    host.must(*(host.add(one, node) for one in objects))
    assert 5 < host.kernel.nft_generation(node) - before < 50
    for expected in ([], chains):
        assert by_key(host.kernel.observe_nft(node, "ip", T, expected)) == by_key(objects)
    nft(host, node, f"flush chain ip {T} {chains[7].name}")
    found = by_key(host.kernel.observe_nft(node, "ip", T, chains))
    assert found[chains[7].key] == NftChain(family="ip", table=T, name=chains[7].name)
    host.must(*(host.remove(one, node) for one in reversed(objects[2:])))
    assert host.kernel.observe_nft(node, "ip", T) == [TABLE, MAP]


_REST = (
    NftRule((TCP, Chance(of=2), Dnat(ip=ip("10.0.0.1"), port=80))),
    NftRule((TCP, Dnat(ip=ip("10.0.0.2"), port=80))),
    NftRule((Match(field="meta iifname", value="veth*", negated=True), SetTrace())),
    NftRule((UpdateSet(set="a", field="ip saddr"),)),
    NftRule(
        (
            OneOf(
                field="ip saddr",
                values=(network("10.0.0.0/8"), ip("192.0.2.7")),
                negated=True,
            ),
            Verdict("drop"),
        )
    ),
    NftRule(
        (
            OneOf(field="ip daddr", values=(network("10.0.0.128/25"), network("10.0.1.0/24"))),
            Verdict("accept"),
        )
    ),
)


@pytest.mark.host
def test_what_nft_prints_of_the_rest_of_the_vocabulary(host: Host) -> None:
    (node,) = host.make("node")
    clients = NftSet(
        family="ip",
        table=T,
        name="a",
        types=("ipv4_addr",),
        dynamic=True,
        timeout=10800,
        size=65535,
    )
    nets = NftSet(family="ip", table=T, name="n", types=("ipv4_addr",), interval=True)
    ours = [
        NftElement(family="ip", table=T, set="n", of=(network("10.0.0.0/8"),), comment="ours"),
        NftElement(family="ip", table=T, set="n", of=(network("192.0.2.1/32"),)),
    ]
    chain = NftChain(
        family="ip",
        table=T,
        name="c",
        comment="all kinds",
        hook=Hook(type="nat", hook="prerouting", priority=-100),
        rules=_REST,
    )
    objects: list[NftObject] = [TABLE, clients, nets, *ours, chain]
    host.must(*(host.add(one, node) for one in objects))
    assert by_key(host.kernel.observe_nft(node, "ip", T)) == by_key(objects)
    text = host.run(node, "nft", "list", "table", "ip", T)
    for line in (
        'comment "all kinds"',
        "type nat hook prerouting priority dstnat; policy accept;",
        "meta l4proto tcp numgen random mod 2 0 dnat to 10.0.0.1:80",
        "meta l4proto tcp dnat to 10.0.0.2:80",
        'iifname != "veth*" meta nftrace set 1',
        "update @a { ip saddr }",
        "ip saddr != { 10.0.0.0/8, 192.0.2.7 } drop",
        "ip daddr { 10.0.0.128-10.0.1.255 } accept",
        'elements = { 10.0.0.0/8 comment "ours", 192.0.2.1 }',
        "timeout 3h",
    ):
        assert line in text
    host.must(Change(verb="remove", netns=node, object=ours[0]))
    assert "10.0.0.0/8 comment" not in host.run(node, "nft", "list", "table", "ip", T)
    by_handle = host.kernel.nft_rules(node, "ip", T)
    assert list(by_handle.values()) == list(chain.rules)
