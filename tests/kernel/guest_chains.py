"""Chains and jumps on a real kernel: what a kube-proxy made, made again and read back.

Plain functions, run in a guest; the dumps are in ``tests/plan/kube-proxy-1.36``.
"""

from __future__ import annotations

from pathlib import Path

from hairpin.kernel.apply import Kernel
from hairpin.kernel.iptables_script import owned, parse_save
from hairpin.kernel.spawn import find, run
from hairpin.present import ipset
from hairpin.present.shell import commands
from hairpin.state.change import Change
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.netfilter import Chain, Family, Jump
from tests.kernel.guest_world import add, must, put, remove, world

FAMILIES: tuple[tuple[Family, str], ...] = (("ip", "iptables"), ("ip6", "ip6tables"))
DUMPS = Path(__file__).parents[1] / "plan" / "kube-proxy-1.36" / "ipvs"

Owned = Chain | Jump


def dumped(family: Family, program: str) -> list[Owned]:
    return owned(parse_save((DUMPS / f"{program}-save.txt").read_text(), family))


def sets() -> list[IpSet | SetEntry]:
    return list(ipset.parse((DUMPS / "ipset-save.txt").read_text()))


def by_key(things: list[Owned]) -> dict[tuple[object, ...], Owned]:
    return {thing.key: thing for thing in things}


def program(kernel: Kernel, name: str, *arguments: str, stdin: str = "") -> str:
    ended = run(kernel.namespaces["node"], [find([name]), *arguments], stdin)
    assert ended.code == 0, ended
    return ended.out


def rules(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("-A", ":KUBE", "*"))]


def difference(wanted: list[Owned], seen: list[Owned]) -> list[Change]:
    have = by_key(seen)
    keys = set(by_key(wanted))
    return [
        *(
            put(one, have[one.key]) if one.key in have else add(one)
            for one in wanted
            if have.get(one.key) != one
        ),
        *(remove(one) for key, one in have.items() if key not in keys),
    ]


def observed(kernel: Kernel, family: Family, wanted: list[Owned]) -> list[Owned]:
    jumps = [one for one in wanted if isinstance(one, Jump)]
    return kernel.observe_chains("node", family, jumps)


def check_a_kube_proxys_rules_are_made_as_they_were() -> None:
    with world("node") as kernel:
        must(kernel, *map(add, sets()))
        assert set(kernel.observe_sets("node")) == set(sets())
        every = [one for family, name in FAMILIES for one in dumped(family, name)]
        must(kernel, *map(add, every))
        for family, name in FAMILIES:
            wanted = dumped(family, name)
            assert len(wanted) > 15
            assert by_key(observed(kernel, family, wanted)) == by_key(wanted)
            save = program(kernel, f"{name}-legacy-save")
            text = (DUMPS / f"{name}-save.txt").read_text()
            assert parse_save(save, family).chains == parse_save(text, family).chains
        calls = kernel.spent.get("iptables", 0.0)
        must(kernel, *map(add, every))
        assert kernel.spent["iptables"] > calls
        must(kernel, *map(remove, reversed(every)))
        must(kernel, *map(remove, every))
        for family, name in FAMILIES:
            assert kernel.observe_chains("node", family) == []
            assert not [one for one in rules(program(kernel, f"{name}-legacy-save")) if "A" in one]


def check_what_others_did_is_put_right() -> None:
    """Displaced, doubled, swapped and missing jumps, changed and flushed chains; others' stay."""
    wanted = dumped("ip", "iptables")
    deeds = [
        ["-I", "INPUT", "-s", "203.0.113.9", "-j", "DROP"],
        ["-t", "nat", "-A", "POSTROUTING", "-m", "comment", "--comment",
         "kubernetes postrouting rules", "-j", "KUBE-POSTROUTING"],
        ["-D", "FORWARD", "1"],
        ["-t", "nat", "-F", "KUBE-SERVICES"],
        ["-I", "KUBE-FORWARD", "-j", "ACCEPT"],
        ["-D", "OUTPUT", "1"],
        ["-D", "INPUT", "1"],
        ["-I", "INPUT", "2", "-m", "comment", "--comment", "kubernetes ipvs access filter",
         "-j", "KUBE-IPVS-FILTER"],
    ]  # fmt: skip
    kubelet = [["-N", "KUBE-FIREWALL"], ["-I", "OUTPUT", "-j", "KUBE-FIREWALL"]]
    stray = [
        ["-N", "KUBE-STRAY"],
        ["-A", "KUBE-STRAY", "-j", "KUBE-FORWARD"],
        ["-A", "INPUT", "-j", "KUBE-STRAY"],
    ]
    with world("node") as kernel:
        must(kernel, *map(add, sets()), *map(add, wanted))
        for deed in [[one] for one in deeds] + [stray, deeds, deeds[2:6] + stray, kubelet]:
            for one in deed:
                program(kernel, "iptables-legacy", "-w", *one)
            changes = difference(wanted, observed(kernel, "ip", wanted))
            assert (changes == []) == (deed is kubelet), (deed, changes)
            must(kernel, *changes)
            assert difference(wanted, observed(kernel, "ip", wanted)) == [], deed
        left = [line for line in rules(program(kernel, "iptables-legacy-save")) if line[0] == "-"]
        ours = [one for one in rules((DUMPS / "iptables-save.txt").read_text()) if one[0] == "-"]
        others = [line for line in left if line not in ours]
        assert others == [
            "-A INPUT -s 203.0.113.9/32 -j DROP",
            "-A OUTPUT -j KUBE-FIREWALL",
        ], others
        assert sorted(line for line in left if line in ours) == sorted(ours)


def check_errors_go_to_the_change_that_caused_them() -> None:
    def chain(name: str, *specs: str) -> Chain:
        return Chain(table="filter", name=name, rules=tuple(tuple(one.split()) for one in specs))

    good = chain("KUBE-A", "-j KUBE-B", "-s 10.0.0.0/8 -j RETURN")
    behind = chain("KUBE-B", "-j DROP")
    bad = chain("KUBE-C", "-m set --match-set NOPE dst -j DROP")
    worse = chain("KUBE-D", "-j MASQUERADE")  # which the kernel refuses at the COMMIT
    nowhere = Jump(table="filter", chain="INPUT", to="KUBE-E", comment="c")
    used = chain("KUBE-F", "-j ACCEPT")
    with world("node") as kernel:
        failed = kernel.apply([add(good), add(bad), add(behind), add(nowhere)])
        assert {one.change.object for one in failed} == {bad, nowhere}, failed
        assert "NOPE" in str(failed[0].error), failed
        failed = kernel.apply([add(worse), add(used)])
        assert [one.change.object for one in failed] == [worse], failed
        program(kernel, "iptables-legacy", "-w", "-A", "INPUT", "-s", "10.9.9.9", "-j", "KUBE-F")
        failed = kernel.apply([remove(used), remove(good), remove(behind)])
        assert [one.change.object for one in failed] == [used], failed
        names = {one.key[3] for one in kernel.observe_chains("node")}
        assert names - {"KUBE-D"} == {"KUBE-F"}, names


def check_the_shell_lines_make_the_same() -> None:
    wanted = [one for one in dumped("ip", "iptables") if one.table == "filter"]
    named = " ".join(
        " ".join(rule) for one in wanted if isinstance(one, Chain) for rule in one.rules
    )
    needed = [one for one in sets() if isinstance(one, IpSet) and one.name in named]
    chains = [one for one in wanted if isinstance(one, Chain)]
    jumps = [one for one in wanted if isinstance(one, Jump)]
    bare = [Chain(table=one.table, name=one.name) for one in chains]
    entries = [one for one in sets() if isinstance(one, SetEntry) and one.set in named][::9]
    steps = [
        *map(add, needed),
        *map(add, entries),
        *map(add, bare),
        *(put(one) for one in chains),
        *map(add, reversed(jumps)),
    ]
    undo = [*map(remove, jumps), *map(put, bare), *map(remove, chains), *map(remove, entries)]
    undo += map(remove, needed)
    with world("node") as kernel:
        shell = 'set -e\niptables() { iptables-legacy -w "$@"; }\n'
        text = "\n".join(line for step in steps for line in commands(step, "node"))
        program(kernel, "sh", stdin=shell + text)
        assert by_key(observed(kernel, "ip", wanted)) == by_key(wanted)
        text = "\n".join(line for step in undo for line in commands(step, "node"))
        program(kernel, "sh", stdin=shell + text)
        assert kernel.observe_chains("node") == []
        assert kernel.observe_sets("node") == []
