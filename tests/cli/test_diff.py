"""``hairpin diff`` and ``hairpin proxy cleanup`` on a real kernel, read back by the tools.

In a namespace of its own on a lab's node, as root there would on a machine.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hairpin.cli.main import main
from hairpin.present.restore import sections
from tests.cli.command import WEB, Hairpin, Ran
from tests.cli.test_plan import OBJECTS, recorded

FLAGS = ("--hostname-override", "node1", "--cluster-cidr", "10.192.0.0/12,fd00:200::/56")
NETNS = "diffed"
ROOT = Path(__file__).parents[2]


class Node:
    """A network namespace with the addresses of the recorded node."""

    def __init__(self, lab: Hairpin) -> None:
        self._lab = lab
        self.objects = "\n---\n".join(Path(name).read_text() for name in OBJECTS)

    def run(self, *words: str, stdin: str = "") -> Ran:
        return self._lab("exec", "-i", "node/node", "--", *words, stdin=stdin)

    def ok(self, line: str, stdin: str = "") -> str:
        """A shell line in the namespace that must succeed."""
        ran = self.run("ip", "netns", "exec", NETNS, "sh", "-ec", line, stdin=stdin)
        assert ran.code == 0, f"{line}: {ran.err}"
        return ran.out

    def hairpin(self, *words: str) -> Ran:
        command = ("ip", "netns", "exec", NETNS, sys.executable, "-m", "hairpin", *words)
        given = self.objects if words[0] in ("diff", "audit") else ""
        # The guest sees the machine's files, but has a /tmp of its own: where hairpin was cloned
        # below /tmp, that is put there for this command.
        seen = f'mkdir -p "{ROOT}"; mount -t hostfs -o "{ROOT}" none "{ROOT}"'
        script = f'[ -e "{sys.executable}" ] || {{ {seen}; }}'
        return self.run("sh", "-ec", f'{script}; exec "$@"', "sh", *command, stdin=given)

    def diff(self, *words: str) -> Ran:
        return self.hairpin("diff", "-f", "-", *FLAGS, *words)


@pytest.fixture(scope="module", name="node")
def _node(shared: Hairpin) -> Iterator[Node]:
    made = Node(shared)
    assert made.run("ip", "netns", "add", NETNS).code == 0
    made.ok(
        "ip link set lo up; ip link add vec0 type dummy; ip link set vec0 up;"
        "ip addr add 172.31.0.2/24 dev vec0; ip addr add fd31::2/64 dev vec0 nodad"
    )
    yield made
    made.run("ip", "netns", "del", NETNS)


def _signs(out: str) -> dict[str, int]:
    return {sign: len(re.findall(rf"^\{sign} ", out, re.MULTILINE)) for sign in "+-~"}


@pytest.mark.guest
@pytest.mark.timeout(300)  # some 600 commands, one after the other
def test_an_empty_kernel_is_brought_there_and_back(node: Node) -> None:
    node.ok(
        "ipvsadm -A -t 203.0.113.9:9 -s rr; ipset create OTHER hash:ip; ipset add OTHER 1.1.1.1"
    )
    node.ok("iptables -A INPUT -p tcp --dport 9 -j ACCEPT")
    foreign = node.ok("ipvsadm -Sn; ipset save; iptables-save | grep '^-A'; ip -o addr")

    first = node.diff()
    assert first.code == 1, first.err
    wanted = json.loads(recorded("-o", "json").out)["objects"]
    signs = _signs(first.out)
    assert signs["-"] == 0 and signs["+"] + signs["~"] <= len(wanted)
    settings = {"sysctl", "ipvs-timeouts"}
    assert signs["+"] == len([one for one in wanted if one["object"]["kind"] not in settings])
    shown = json.loads(node.diff("-o", "json").out)  # nothing was changed by the first
    assert shown["kind"] == "Diff" and len(shown["changes"]) == signs["+"] + signs["~"]

    node.ok("sh -e >/dev/null", stdin=node.diff("-o", "shell").out)
    assert node.diff() == Ran(0, "", "")
    _equals_the_plan(node)

    assert node.hairpin("proxy", "cleanup").code == 0
    again = node.hairpin("proxy", "cleanup")
    assert again == Ran(0, "nothing of hairpin's is in this network namespace\n", "")
    left = node.ok("ipvsadm -Sn; ipset save; iptables-save | grep '^-A'; ip -o addr")
    assert left == foreign
    node.ok("ipvsadm -C; ipset destroy OTHER; iptables -F INPUT")


def _equals_the_plan(node: Node) -> None:
    """The tools print what -o restore says, but for what was there before."""
    wanted = sections(recorded("-o", "restore").out)
    for name, command in (
        ("ipvsadm-save", "ipvsadm -Sn"),
        ("ipset-save", "ipset save"),
        ("iptables-save", "iptables-save"),
        ("ip6tables-save", "ip6tables-save"),
    ):
        text = re.sub(r"\[\d+:\d+\]", "[0:0]", re.sub(r" initval 0x\w+", "", node.ok(command)))
        seen = {line for line in text.splitlines() if not line.startswith("#")}
        others = {line for line in seen if re.search("203.0.113.9|OTHER|--dport 9", line)}
        assert seen - others == set(wanted[name].splitlines()), name


@pytest.mark.guest
@pytest.mark.timeout(300)
def test_each_difference_is_told_with_its_reason(node: Node) -> None:
    planned = sections(recorded("-o", "restore").out)
    for name, command in (
        ("ipset-save", "ipset restore"),
        ("iptables-save", "iptables-restore"),
        ("ip6tables-save", "ip6tables-restore"),
        ("ipvsadm-save", "ipvsadm -R"),
    ):
        node.ok(command, stdin=planned[name])
    rest = node.diff("-o", "shell").out  # what the four tools know nothing of
    assert re.findall("^(?!ip link |ip addr |sysctl ).+", rest, re.MULTILINE) == []
    node.ok("sh -e >/dev/null", stdin=rest)
    node.ok(
        "ipvsadm -D -t 10.96.1.1:80;"
        "ipvsadm -e -t 10.96.1.3:80 -r 10.200.0.13:8080 -m -w 7;"
        "ipvsadm -a -t 10.96.1.3:80 -r 10.200.0.99:8080 -m;"
        "ipvsadm -E -t 10.96.1.3:443 -s wrr;"
        "ipset del KUBE-CLUSTER-IP 10.96.1.4,tcp:80; ipset add KUBE-NODE-PORT-TCP 31999;"
        "ip addr del 10.96.1.5/32 dev kube-ipvs0; ip addr add 10.96.99.99/32 dev kube-ipvs0;"
        "iptables -t nat -D KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ;"
        "sysctl -qw net.ipv4.vs.conntrack=0;"
        "ipvsadm -A -t 203.0.113.9:9 -s rr"
    )
    ran = node.diff()
    assert ran.code == 1, ran.err
    own = "(service default/g03-multiport:http: "
    for line in (
        r"\+ virtual server TCP 10\.96\.1\.1:80, rr  \(service default/g01-clusterip-tcp:p: ",
        r"\+ real server 10\.200\.0\.11:8080, masquerade, weight 1  \(service default/g01",
        rf"~ real server 10\.200\.0\.13:8080, masquerade, weight 1, was weight 7  {re.escape(own)}",
        r"- real server 10\.200\.0\.99:8080, masquerade, weight 1  \(",
        r"~ virtual server TCP 10\.96\.1\.3:443, rr, was scheduler wrr  \(service default/g03-",
        r"\+ entry 10\.96\.1\.4,tcp:80 of KUBE-CLUSTER-IP  \(service default/g04-nodeport",
        r"- entry 31999 of KUBE-NODE-PORT-TCP  \(not wanted",
        r"\+ address 10\.96\.1\.5/32 on kube-ipvs0  \(service default/g05-externalips",
        r"- address 10\.96\.99\.99/32 on kube-ipvs0  \(not wanted",
        r"~ chain nat KUBE-LOAD-BALANCER, 2 rules  \(proxy: ",
        r"    \+ -A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ$",
        r"~ net\.ipv4\.vs\.conntrack = 1, was 0  \(proxy: ",
    ):
        assert re.search(f"^{line}", ran.out, re.MULTILINE), f"{line}\n{ran.out}"
    assert len(ran.out.splitlines()) == 13, ran.out  # g01 has two real servers
    assert "203.0.113.9" not in ran.out
    node.ok("sh -e >/dev/null", stdin=node.diff("-o", "shell").out)
    assert node.diff() == Ran(0, "", "")
    node.hairpin("proxy", "cleanup")
    node.ok("ipvsadm -C")


@pytest.mark.guest
def test_a_labs_node_against_its_own_objects(shared: Hairpin) -> None:
    assert shared("diff", "--node", "node") == Ran(0, "", "")
    shared.ok("set", "masquerade=off")  # it stays off, whatever the node's proxy does
    try:
        ran = shared("diff", "--node", "node")
        assert (ran.code, ran.err) == (1, "")
        said = "+ jump nat POSTROUTING to KUBE-POSTROUTING  (proxy: "
        assert ran.out.startswith(said) and len(ran.out.splitlines()) == 1
        shown = json.loads(shared("diff", "--node", "node", "-o", "json").out)
        assert [one["owner"] for one in shown["changes"]] == ["proxy"]
        shell = shared("diff", "--node", "node", "-o", "shell").out
        assert shell.startswith("iptables -t nat -I POSTROUTING ") and len(shell.splitlines()) == 1
    finally:
        shared.ok("set", "masquerade=on")
    assert shared("diff", "--node", "node") == Ran(0, "", "")


@pytest.mark.guest
def test_errors_of_diff_are_2(node: Node, shared: Hairpin) -> None:
    assert shared("diff").err.startswith("hairpin: which Services?\n  say -f FILE")
    ran = shared("diff", "-f", "nosuch.yaml")
    assert (ran.code, ran.out) == (2, "") and "nosuch.yaml: cannot be read" in ran.err
    ran = shared("diff", "-f", WEB, "--lab", "none", "--node", "node")
    assert (ran.code, ran.out) == (2, "") and 'no lab named "none"' in ran.err
    ran = shared("diff", "-f", WEB, "--node", "nobody")
    assert (ran.code, ran.out) == (2, "") and "the lab has no node nobody" in ran.err


def test_without_ipvs_it_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    from hairpin.kernel import probe

    if os.geteuid():
        assert main(["proxy", "cleanup"]) == 1
        assert capsys.readouterr().err.splitlines()[1] == "  run it with sudo"
        return
    if probe.attempt(["ipvs"])[0].able:
        pytest.skip("this kernel has IPVS")
    for words, code in ((["diff", "-f", WEB], 2), (["diff", "-f", WEB, "-o", "json"], 2)):
        assert main(words) == code
        said = capsys.readouterr()
        assert said.out == "" and len(said.err.splitlines()) == 2
        assert "this kernel cannot do IPVS mode: it lacks ipvs (" in said.err
        assert "modprobe ip_vs" in said.err
