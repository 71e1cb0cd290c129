"""iptables on the host's kernel, both variants, with iptables-save as the witness."""

from __future__ import annotations

import errno
import fcntl
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.kernel import iptables, spawn
from hairpin.kernel.apply import Kernel
from hairpin.kernel.errors import KernelError
from hairpin.kernel.iptables_script import join, split
from hairpin.kernel.netns import Netns as Handle
from hairpin.state.change import Change
from hairpin.state.netfilter import Chain, ChainPolicy, Jump, Rule
from tests.kernel.host import DIRECTORY, Host

MASQUERADE = Rule(
    table="nat",
    chain="POSTROUTING",
    spec=("-s", "172.22.0.0/24", "-m", "comment", "--comment", 'a "b" \\c', "-j", "MASQUERADE"),
)
ACCEPT = Rule(table="filter", chain="FORWARD", spec=("-i", "cni0", "-j", "ACCEPT"))
OWN_CHAIN = Rule(table="nat", chain="KUBE-X", spec=("-j", "RETURN"))
ACCEPT_ALL = Rule(table="filter", chain="FORWARD", spec=("-j", "ACCEPT"))
CHAIN = Chain(
    table="filter",
    name="KUBE-A",
    rules=(
        ("-s", "10.0.0.0/8", "-j", "KUBE-B"),
        ("-m", "mark", "--mark", "0x4000/0x4000", "-j", "ACCEPT"),
    ),
)
INNER = Chain(table="filter", name="KUBE-B", rules=(("-j", "DROP"),))
JUMP = Jump(table="filter", chain="FORWARD", to="KUBE-A", comment='one "and" all')
SECOND = Jump(table="filter", chain="FORWARD", to="KUBE-B", comment="two")
OWN_JUMP = Jump(table="filter", chain="INPUT", to="KUBE-B", comment="two")
DROP = ChainPolicy(table="filter", chain="FORWARD", target="DROP")
SIX = Rule(table="filter", chain="INPUT", spec=("-s", "fd00::/64", "-j", "DROP"), family="ip6")


@pytest.fixture(params=["nft", "legacy"])
def variant(
    request: pytest.FixtureRequest,
    host: Host,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Host, str, str]:
    """A host, a namespace, and the save command of the variant that is used there.

    The plain names are made to mean the nft variant, whatever the machine has chosen.
    """
    for family in ("iptables", "ip6tables"):
        for part in ("save", "restore"):
            (tmp_path / f"{family}-{part}").symlink_to(f"/usr/sbin/{family}-nft-{part}")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    host.kernel = Kernel(DIRECTORY, legacy_iptables=request.param == "legacy")
    (node,) = host.make("node")
    return host, node, f"iptables-{request.param}-save"


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("-A")]


@pytest.mark.host
def test_rules_and_policies_are_applied_once(variant: tuple[Host, str, str]) -> None:
    host, node, save = variant
    changes = [
        host.put(DROP, node),
        host.add(ACCEPT, node),
        host.add(MASQUERADE, node),
        host.add(ACCEPT, node),
        host.add(OWN_CHAIN, node),
        host.add(SIX, node),
    ]
    host.must(*changes)
    first = host.run(node, save)
    host.must(*changes)
    second = host.run(node, save)
    assert lines(first) == lines(second)
    assert set(lines(first)) == {
        '-A POSTROUTING -s 172.22.0.0/24 -m comment --comment "a \\"b\\" \\\\c" -j MASQUERADE',
        "-A FORWARD -i cni0 -j ACCEPT",
        "-A KUBE-X -j RETURN",
    }
    assert ":FORWARD DROP" in first
    seen = host.kernel.observe_rules(node)
    assert {MASQUERADE, ACCEPT, OWN_CHAIN, DROP} <= set(seen)
    assert SIX in host.kernel.observe_rules(node, "ip6")


@pytest.mark.host
def test_removal_takes_every_copy_and_forgives_absence(variant: tuple[Host, str, str]) -> None:
    host, node, save = variant
    host.must(host.add(ACCEPT, node))
    host.run(node, save.replace("-save", ""), "-A", ACCEPT.chain, *ACCEPT.spec)
    assert lines(host.run(node, save)) == ["-A FORWARD -i cni0 -j ACCEPT"] * 2
    host.must(host.remove(ACCEPT, node), host.remove(MASQUERADE, node))
    assert lines(host.run(node, save)) == []
    host.must(host.add(ACCEPT, node), host.remove(ACCEPT, node), host.add(ACCEPT, node))
    assert lines(host.run(node, save)) == ["-A FORWARD -i cni0 -j ACCEPT"]


@pytest.mark.host
@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (("-s", "1.2.3.4.5", "-j", "ACCEPT"), "1.2.3.4.5"),
        (("-j", "NO-SUCH-TARGET"), "NO-SUCH-TARGET"),
        (("-m", "conntrack", "--ctstate", "NOPE", "-j", "ACCEPT"), "ctstate"),
        # iptables takes this one, the kernel refuses it: MASQUERADE is for nat only
        (("-j", "MASQUERADE"), "MASQUERADE"),
    ],
)
def test_a_bad_rule_fails_alone(
    variant: tuple[Host, str, str], spec: tuple[str, ...], text: str
) -> None:
    host, node, save = variant
    bad = Rule(table="filter", chain="FORWARD", spec=spec)
    changes = [host.put(DROP, node), host.add(ACCEPT, node), host.add(bad, node),
               host.add(MASQUERADE, node)]  # fmt: skip
    failed = host.kernel.apply(changes)
    assert [one.change for one in failed] == [changes[2]], failed
    assert failed[0].error.errno == errno.EINVAL
    assert text in failed[0].error.text
    saved = host.run(node, save)
    assert len(lines(saved)) == 2
    assert ":FORWARD DROP" in saved


@pytest.mark.host
def test_one_save_and_one_restore_for_a_run(
    variant: tuple[Host, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, node, _ = variant
    spawned: list[str] = []
    run = spawn.run

    def counted(netns: Handle, argv: list[str], stdin: str = "", limit: float = 30) -> spawn.Ended:
        spawned.append(argv[0].rpartition("-")[2])
        return run(netns, argv, stdin, limit)

    monkeypatch.setattr(spawn, "run", counted)
    changes: list[Change] = [
        host.put(DROP, node),
        host.add(ACCEPT, node),
        host.add(MASQUERADE, node),
    ]
    host.must(*changes)
    assert spawned == ["save", "restore"]
    host.must(*changes)
    assert spawned == ["save", "restore", "save"]


@pytest.mark.host
def test_a_program_is_bounded_and_its_end_is_told(host: Host) -> None:
    (node,) = host.make("node")
    handle = host.kernel.namespaces[node]
    ended = spawn.run(handle, ["/bin/sh", "-c", "cat; echo oops >&2; exit 3"], "x" * 300_000)
    assert (ended.code, len(ended.out), ended.err) == (3, 300_000, "oops\n")
    start = time.monotonic()
    with pytest.raises(KernelError, match=r"ETIMEDOUT.*killed after"):
        spawn.run(handle, ["/bin/sleep", "60"], limit=0.2)
    assert time.monotonic() - start < 5
    with pytest.raises(KernelError, match=r"ENOENT.*no program iptables-nope"):
        spawn.find(["iptables-nope"])
    assert spawn.run(handle, ["/bin/sh", "-c", "kill -9 $$"]).code == -9


@pytest.mark.host
def test_a_lock_that_others_hold_may_be_tried_again(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "xtables.lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(lock))
    monkeypatch.setattr(iptables, "_LOCK_WAIT", "1")
    host.kernel = Kernel(DIRECTORY, legacy_iptables=True)
    (node,) = host.make("node")
    changes = [host.add(one, node) for one in (ACCEPT, INNER, CHAIN, JUMP)]
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        failed = host.kernel.apply(changes)
    assert [(one.change, one.error.errno) for one in failed] == [
        (change, errno.EAGAIN) for change in changes
    ]
    host.must(*changes)


@pytest.mark.host
def test_chains_and_jumps_are_one_restore_and_read_back(
    variant: tuple[Host, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, node, save = variant
    spawned: list[str] = []
    run = spawn.run

    def counted(netns: Handle, argv: list[str], stdin: str = "", limit: float = 30) -> spawn.Ended:
        spawned.append(argv[0].rpartition("-")[2])
        return run(netns, argv, stdin, limit)

    monkeypatch.setattr(spawn, "run", counted)
    host.must(host.add(ACCEPT_ALL, node))
    spawned.clear()
    things: list[Chain | Jump] = [CHAIN, INNER, JUMP, SECOND, OWN_JUMP]
    host.must(*(host.add(one, node) for one in things))
    assert spawned == ["save", "restore"]
    assert {one.key: one for one in host.kernel.observe_chains(node, "ip", [JUMP, SECOND])} == {
        one.key: one for one in things
    }
    assert [line for line in lines(host.run(node, save)) if line.startswith("-A FORWARD")] == [
        r'-A FORWARD -m comment --comment "one \"and\" all" -j KUBE-A',
        "-A FORWARD -m comment --comment two -j KUBE-B",
        "-A FORWARD -j ACCEPT",
    ]
    swapped = [SECOND, JUMP]
    seen = host.kernel.observe_chains(node, "ip", swapped)
    assert [one.in_place for one in seen if isinstance(one, Jump) and one.chain == "FORWARD"] == [
        False,
        False,
    ]
    host.must(*(host.put(one, node) for one in swapped))
    assert all(
        one.in_place
        for one in host.kernel.observe_chains(node, "ip", swapped)
        if isinstance(one, Jump)
    )
    host.must(*(host.remove(one, node) for one in reversed(things)))
    assert host.kernel.observe_chains(node) == []
    assert lines(host.run(node, save)) == ["-A FORWARD -j ACCEPT"]


@pytest.mark.host
@pytest.mark.parametrize("wrong", [False, True], ids=["all good", "one bad"])
def test_many_new_chains_are_made_beside_what_is_there(
    variant: tuple[Host, str, str], *, wrong: bool
) -> None:
    """Where tables are empty, and where built-in chains and others' rules are there already."""
    host, node, save = variant
    host.must(host.add(MASQUERADE, node))
    chains = [
        Chain(table=table, name=f"KUBE-SEP-{number}", rules=(("-s", "10.0.0.1", "-j", "RETURN"),))
        for table in ("filter", "nat")
        for number in range(150)
    ]
    jumps = [
        Jump(table="filter", chain="INPUT", to="KUBE-SEP-7", comment="c"),
        Jump(table="nat", chain="PREROUTING", to="KUBE-SEP-7", comment="c"),
        Jump(table="nat", chain="POSTROUTING", to="KUBE-SEP-8", comment="c"),
    ]
    bad = Rule(table="nat", chain="OUTPUT", spec=("-p", "nosuch", "-j", "ACCEPT"))
    things: list[Chain | Jump | Rule] = [*chains, *jumps, *([bad] if wrong else [])]
    failed = host.kernel.apply([host.add(one, node) for one in things])
    assert [one.change.object for one in failed] == ([bad] if wrong else []), failed
    assert sorted(lines(host.run(node, save))) == sorted(
        [
            "-A INPUT -m comment --comment c -j KUBE-SEP-7",
            "-A PREROUTING -m comment --comment c -j KUBE-SEP-7",
            "-A POSTROUTING -m comment --comment c -j KUBE-SEP-8",
            *(f"-A {one.name} -s 10.0.0.1/32 -j RETURN" for one in chains),
            f"-A {join(['POSTROUTING', *MASQUERADE.spec])}",
        ]
    )


@given(
    st.lists(
        st.text(
            st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1
        ).filter(lambda word: not word.isspace())
    )
)
def test_words_come_back_from_a_line(words: list[str]) -> None:
    assert split(join(words)) == words


@pytest.mark.parametrize("word", ["a\nb", "a\0b"])
def test_a_word_that_would_start_a_new_line_is_refused(word: str) -> None:
    with pytest.raises(KernelError, match="EINVAL"):
        join(["-A", word])
