"""The text of ipset, iptables-save and ip6tables-save: what kube-proxy 1.36 made, and every value.

The dumps were written by ipset 7.17 and iptables 1.8.9 (tests/plan/kube-proxy-1.36).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.model.address import ip, network
from hairpin.present import ipset, iptables, ipvsadm, restore
from hairpin.state.base import KernelObject
from hairpin.state.ipset import IpSet, SetEntry, SetType
from hairpin.state.netfilter import Chain, ChainPolicy, Family, Jump, Rule
from tests.present.dumps import chains_of

DUMPS = Path(__file__).parents[1] / "plan" / "kube-proxy-1.36" / "ipvs"


def _comparable(text: str) -> list[str]:
    """Without what kube-proxy does not choose: counters, dates, the seed of a set's hash."""
    text = re.sub(r"\[\d+:\d+\]", "[0:0]", re.sub(r" initval 0x[0-9a-f]+", "", text))
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_sets_are_written_as_ipset_does() -> None:
    text = (DUMPS / "ipset-save.txt").read_text()
    objects = ipset.parse(text)
    assert len(objects) == len(text.splitlines())
    written = ipset.save(objects).splitlines()
    assert sorted(written) == sorted(_comparable(text))
    assert ipset.parse(ipset.save(reversed(objects))) == ipset.parse(ipset.save(objects))


@pytest.mark.parametrize(
    ("name", "family"), [("iptables-save.txt", "ip"), ("ip6tables-save.txt", "ip6")]
)
def test_chains_are_written_as_iptables_does(name: str, family: Family) -> None:
    text = (DUMPS / name).read_text()
    objects = chains_of(text, family)
    assert len([one for one in objects if isinstance(one, Jump)]) == 9
    assert iptables.save(objects, family).splitlines() == _comparable(text)


def test_the_four_sections_hold_what_each_tool_knows() -> None:
    files = ("ipvsadm-save.txt", "ipset-save.txt", "iptables-save.txt", "ip6tables-save.txt")
    texts = {name.removesuffix(".txt"): (DUMPS / name).read_text() for name in files}
    objects: list[KernelObject] = [
        *chains_of(texts["ip6tables-save"], "ip6"),
        *ipvsadm.parse(texts["ipvsadm-save"]),
        *ipset.parse(texts["ipset-save"]),
        *chains_of(texts["iptables-save"], "ip"),
    ]
    got = restore.sections(restore.restore(objects))
    assert tuple(got) == restore.SECTIONS
    for name, text in texts.items():
        assert set(got[name].splitlines()) == set(_comparable(text)), name


def test_nothing_is_four_empty_sections() -> None:
    assert restore.restore([]).splitlines() == [f"### {name}" for name in restore.SECTIONS]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (SetEntry(set="s", port=80), "80"),
        (SetEntry(set="s", ip=ip("10.0.0.1")), "10.0.0.1"),
        (SetEntry(set="s", ip=ip("fd00::1"), protocol="SCTP", port=9), "fd00::1,sctp:9"),
        (
            SetEntry(set="s", ip=ip("10.0.0.1"), protocol="UDP", port=53, ip2=ip("10.0.0.2")),
            "10.0.0.1,udp:53,10.0.0.2",
        ),
        # Printed by ipset 7.17: no prefix length where the network is one address.
        (
            SetEntry(
                set="s", ip=ip("10.0.0.1"), protocol="TCP", port=1, net=network("10.1.2.3/32")
            ),
            "10.0.0.1,tcp:1,10.1.2.3",
        ),
        (
            SetEntry(
                set="s", ip=ip("::ffff:1.2.3.4"), protocol="UDP", port=53,
                net=network("::1:2:0:0/112"),
            ),
            "::ffff:1.2.3.4,udp:53,::1:2:0:0/112",
        ),
    ],
)  # fmt: skip
def test_entries(entry: SetEntry, text: str) -> None:
    assert ipset.entry_text(entry) == text


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        # Printed by iptables 1.8.9: quotes for all but letters, digits, - and _, and only there.
        (("-m", "comment", "--comment", "one"), "-A C -m comment --comment one"),
        (("-m", "comment", "--comment", "a.b"), '-A C -m comment --comment "a.b"'),
        (("-m", "comment", "--comment", 'say "hi"'), r'-A C -m comment --comment "say \"hi\""'),
        (("!", "-i", "cni+", "-j", "ACCEPT"), "-A C ! -i cni+ -j ACCEPT"),
    ],
)
def test_rules(spec: tuple[str, ...], line: str) -> None:
    assert iptables.line("C", spec) == line


def test_jumps_stand_before_the_rules_of_others_and_policies_show() -> None:
    objects: list[iptables.Object] = [
        Rule(table="filter", chain="INPUT", spec=("-j", "DROP")),
        Rule(table="filter", chain="MINE", spec=("-j", "RETURN")),
        ChainPolicy(table="filter", chain="INPUT", target="DROP"),
        Jump(table="filter", chain="INPUT", to="KUBE", comment="first of all"),
        Chain(table="filter", name="KUBE"),
    ]
    assert iptables.save(objects, "ip").splitlines() == [
        "*filter",
        ":INPUT DROP [0:0]",
        ":FORWARD ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        ":KUBE - [0:0]",
        ":MINE - [0:0]",
        '-A INPUT -m comment --comment "first of all" -j KUBE',
        "-A INPUT -j DROP",
        "-A MINE -j RETURN",
        "COMMIT",
    ]
    assert iptables.save(objects, "ip6") == ""


_TYPES: tuple[SetType, ...] = (
    "hash:ip", "hash:ip,port", "hash:ip,port,ip", "hash:ip,port,net", "bitmap:port",
)  # fmt: skip


@st.composite
def _tables(draw: st.DrawFn) -> list[IpSet | SetEntry]:
    found: dict[object, IpSet | SetEntry] = {}
    for number in range(draw(st.integers(0, 4))):
        name = f"KUBE-{number}"
        kind = draw(st.sampled_from(_TYPES))
        v6 = draw(st.booleans())
        addresses = st.ip_addresses(v=6 if v6 else 4)
        bitmap = kind == "bitmap:port"
        made = IpSet(
            name=name,
            type=kind,
            family=None if bitmap else "inet6" if v6 else "inet",
            maxelem=0 if bitmap else draw(st.integers(1, 2**32 - 1)),
        )
        found[made.key] = made
        for _ in range(draw(st.integers(0, 4))):
            port = draw(st.integers(0, 65535))
            if bitmap:
                entry = SetEntry(set=name, port=port)
            elif kind == "hash:ip":
                entry = SetEntry(set=name, ip=draw(addresses))
            else:
                last = draw(addresses)
                prefix = draw(st.integers(1, last.max_prefixlen))
                wide = network(f"{ip(str(last))}/{last.max_prefixlen}").supernet(new_prefix=prefix)
                entry = SetEntry(
                    set=name,
                    ip=draw(addresses),
                    protocol=draw(st.sampled_from(["TCP", "UDP", "SCTP"])),
                    port=port,
                    ip2=last if kind.endswith(",ip") else None,
                    net=wide if kind.endswith(",net") else None,
                )
            found[entry.key] = entry
    return list(found.values())


@given(_tables(), st.randoms())
def test_every_set_comes_back(table: list[IpSet | SetEntry], dice: object) -> None:
    got = ipset.parse(ipset.save(table))
    assert {one.key: one for one in got} == {one.key: one for one in table}
    shuffled = list(table)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    assert ipset.save(shuffled) == ipset.save(table)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("destroy A", "neither create nor add"),
        ("create A list:set", "no set of hairpin's"),
        ("add B 10.0.0.1", "no set B"),
        ("add A 10.0.0.1,igmp:4", "is no entry"),
        ("add A ten", "ten"),
    ],
)
def test_a_wrong_line_is_named(line: str, said: str) -> None:
    with pytest.raises(ipset.IpsetError) as caught:
        ipset.parse(f"create A hash:ip,port family inet\n{line}\n")
    assert str(caught.value).startswith("line 2: ") and said in str(caught.value)
