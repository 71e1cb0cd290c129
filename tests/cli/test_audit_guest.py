"""``hairpin audit`` of a real kernel in IPVS mode: damaged by the tools, mended by what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from hairpin.present.restore import sections
from tests.cli.command import Hairpin
from tests.cli.test_diff import FLAGS, NETNS, Node
from tests.cli.test_plan import recorded

DAMAGE = {
    "ipvsadm -D -t 10.96.1.1:80": ("missing", "default/g01-clusterip-tcp:p"),
    "ipvsadm -e -t 10.96.1.3:80 -r 10.200.0.13:8080 -m -w 7": (
        "wrong",
        "default/g03-multiport:http",
    ),
    "ipvsadm -a -t 10.96.1.3:80 -r 10.200.0.99:8080 -m": ("extra", "default/g03-multiport:http"),
    "ipvsadm -d -t 10.96.1.5:80 -r 10.200.0.15:8080": ("missing", "default/g05-externalips:p"),
    "ipvsadm -E -t 10.96.1.3:443 -s wrr": ("wrong", "default/g03-multiport:https"),
    "ipvsadm -A -t 10.96.1.4:81 -s rr": ("extra", "default/g04-nodeport"),
    "ipset del KUBE-CLUSTER-IP 10.96.1.4,tcp:80": ("missing", "default/g04-nodeport:p"),
    "ipset add KUBE-NODE-PORT-TCP 31999": ("extra", ""),
    "ip addr del 10.96.1.9/32 dev kube-ipvs0": ("missing", "default/g09-itp-local"),
    "ip addr add 10.96.99.99/32 dev kube-ipvs0": ("extra", ""),
    "iptables -t nat -D KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ": ("missing", "proxy"),
    "ip6tables -t nat -F KUBE-POSTROUTING": ("missing", "proxy"),
    "iptables -t filter -I INPUT -j ACCEPT": ("wrong", "proxy"),
    "sysctl -qw net.ipv4.vs.conntrack=0": ("wrong", "proxy"),
    "iptables -t nat -N KUBE-SVC-ABCDEFGHIJKLMNOP": ("leftover", "iptables"),
    "ipset -exist add KUBE-LOAD-BALANCER-SOURCE-CIDR 192.0.2.6,tcp:80,10.0.0.0/8 nomatch": (
        "wrong",
        "default/g06-lb-sourceranges:p",
    ),
    "ipset create T hash:ip,port timeout 600; ipset swap T KUBE-EXTERNAL-IP-LOCAL": (
        "wrong",
        "proxy",
    ),
    "ip6tables -D KUBE-IPVS-FILTER 3; ipset destroy KUBE-6-EXTERNAL-IP;"
    "ipset create KUBE-6-EXTERNAL-IP hash:ip family inet6; ip6tables -I KUBE-IPVS-FILTER 3 -m set "
    "--match-set KUBE-6-EXTERNAL-IP dst,dst -j RETURN": ("wrong", "proxy"),
    # What no proxy made is nobody's finding.
    "ipvsadm -A -f 9 -s rr": ("", ""),
    "ipset create OTHER hash:net": ("", ""),
    "iptables -A FORWARD -p tcp --dport 9 -j ACCEPT": ("", ""),
}


@pytest.fixture(name="node", scope="module")
def _node(shared: Hairpin) -> Iterator[Node]:
    made = Node(shared)
    assert made.run("ip", "netns", "add", NETNS).code == 0
    made.ok(
        "ip link set lo up; ip link add vec0 type dummy; ip link set vec0 up;"
        "ip addr add 172.31.0.2/24 dev vec0; ip addr add fd31::2/64 dev vec0 nodad"
    )
    yield made
    made.run("ip", "netns", "del", NETNS)


def _audit(node: Node, *words: str) -> tuple[int, list[dict[str, Any]]]:
    ran = node.hairpin("audit", "-f", "-", *FLAGS, "-o", "json", *words)
    assert ran.code in (0, 1) and ran.out, ran
    return ran.code, json.loads(ran.out)["findings"]


@pytest.mark.guest
@pytest.mark.timeout(300)
def test_damage_is_found_and_mended(node: Node) -> None:
    planned = sections(recorded("-o", "restore").out)
    for name, command in (
        ("ipset-save", "ipset restore"),
        ("iptables-save", "iptables-restore"),
        ("ip6tables-save", "ip6tables-restore"),
        ("ipvsadm-save", "ipvsadm -R"),
    ):
        node.ok(command, stdin=planned[name])
    node.ok("sh -e >/dev/null", stdin=node.diff("-o", "shell").out)
    assert _audit(node) == (0, [])

    node.ok("; ".join(DAMAGE))
    code, found = _audit(node)
    assert code == 1
    assert node.hairpin("audit", "--collect", "/tmp/dump").code == 0
    assert _audit(node, "--state", "/tmp/dump") == (code, found)
    told = [(one["what"], (one["owner"] or "").removeprefix("service ")) for one in found]
    for command, expected in DAMAGE.items():
        assert expected == ("", "") or expected in told, f"{command}: {told}"
    assert len(found) <= 23, told  # a chain of four rules that is flushed is four findings
    node.ok("sh -e", stdin="\n".join(line for one in found for line in one["mend"]))
    assert _audit(node) == (0, [])
    assert re.search(r"-f 9 ", node.ok("ipvsadm -Sn")) and "OTHER" in node.ok("ipset save")
