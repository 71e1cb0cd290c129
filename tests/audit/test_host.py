"""The same on real kernels: what tools changed is found and named; what the audit says mends it.

In namespaces of the host that hold what kube-proxy left on its node, in nftables mode and in
iptables mode of both variants.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hairpin.model.snapshot import Snapshot
from hairpin.proxy.proxy import Proxy
from hairpin.source.configuration import load as load_configuration
from hairpin.source.manifests import load
from tests.audit.play import RECORDED
from tests.kernel.host import Host

INPUT = RECORDED / "input"
NODE = """
ip link set lo up
ip addr add 172.31.0.2/32 dev lo; ip addr add fd31::2/128 dev lo
ip link add eth0 type veth peer name far
ip addr add 172.31.1.2/24 dev eth0; ip addr add fd31:1::2/64 dev eth0 nodad
cd /proc/sys/net
echo 3600 >netfilter/nf_conntrack_tcp_timeout_close_wait
echo 86400 >netfilter/nf_conntrack_tcp_timeout_established
echo 1 >ipv4/conf/all/route_localnet
"""
NFT = "nft 'delete element ip kube-proxy {}'"

NFTABLES = [
    (NFT.format("service-ips { 10.96.1.1 . tcp . 80 }"), "missing", "default/g01-clusterip-tcp:p"),
    (NFT.format("cluster-ips { 10.96.1.9 }"), "missing", "default/g09-itp-local:p"),
    (NFT.format("nodeport-ips { 172.31.0.2 }"), "missing", "proxy"),
    ("nft 'add element ip kube-proxy service-ips { 10.96.1.1 . tcp . 81 : drop }'", "extra",
     "default/g01-clusterip-tcp"),
    ("nft 'add element ip kube-proxy hairpin-connections { 9.9.9.9 . 9.9.9.9 . tcp . 80 }'",
     "extra", ""),
    ("nft 'flush chain ip kube-proxy service-WUZP6I72-default/g01-clusterip-tcp/tcp/p'", "wrong",
     "default/g01-clusterip-tcp:p"),
    ("nft 'insert rule ip kube-proxy services drop'", "wrong", "proxy"),
    ("nft 'flush chain ip6 kube-proxy masquerading'", "wrong", "proxy"),
    ("nft 'add chain ip kube-proxy x; add rule ip kube-proxy x drop'", "extra", ""),
    ("sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_close_wait=60", "wrong", "proxy"),
    ("iptables -t nat -N KUBE-SVC-ABCDEFGHIJKLMNOP", "leftover", "iptables"),
    ("nft 'add table ip kube-proxy { flags dormant; }'", "wrong", "proxy"),
    ("nft 'add table inet kube-proxy; add chain inet kube-proxy x'", "extra", "proxy"),
]  # fmt: skip

OTHER_SET = """nft 'flush chain ip kube-proxy services; flush chain ip kube-proxy cluster-ips-check
delete set ip kube-proxy cluster-ips
add set ip kube-proxy cluster-ips { type ipv4_addr; timeout 1h; }
add rule ip kube-proxy services ip daddr @cluster-ips drop'"""
TABLES = [
    ("nft delete table ip6 kube-proxy", "missing", "proxy"),
    (OTHER_SET, "wrong", "proxy"),
]

IPTABLES = [
    ("{} -t nat -F KUBE-SVC-TVPLAWSBFJZCXDUS", "missing", "default/"),
    ("{} -t nat -D PREROUTING 1", "missing", "proxy"),
    ("{} -t nat -I PREROUTING -j ACCEPT", "wrong", "proxy"),
    ("{} -t nat -D KUBE-SERVICES 3", "missing", "default/"),
    ("{} -t nat -I KUBE-POSTROUTING -j RETURN", "extra", "proxy"),
    ("{} -t nat -D KUBE-MARK-MASQ 1", "missing", "proxy"),
    ("{} -t filter -I KUBE-FORWARD 2 -j DROP", "extra", "proxy"),
    ("{} -t nat -N KUBE-SEP-ABCDEFGHIJKLMNOP", "extra", ""),
    ("sysctl -qw net.ipv4.conf.all.route_localnet=0", "wrong", "proxy"),
    ("nft 'add table ip6 kube-proxy'", "leftover", "nftables"),
    ("{0} -t nat -N KUBE-SVC-AAAAAAAAAAAAAAAA; {0} -t nat -N KUBE-SEP-AAAAAAAAAAAAAAAA; "
     "{0} -t nat -A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA; "
     "{0} -t nat -A KUBE-SERVICES -d 10.96.9.9/32 -j KUBE-SVC-AAAAAAAAAAAAAAAA", "extra", ""),
]  # fmt: skip
FLUSHED = [("{0} -F; {0} -t nat -F", "missing", "proxy")]


class Node:
    """A namespace with what kube-proxy left on a node."""

    def __init__(self, host: Host, mode: str, name: str) -> None:
        self._host = host
        (self.name,) = host.make(name)
        self._mode = mode
        self.sh(NODE)

    def sh(self, script: str) -> str:
        command = ["ip", "netns", "exec", self.name, "sh", "-ec", script]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{script}: {ran.stderr}"
        return ran.stdout

    def audit(self, *words: str) -> tuple[int, str]:
        files = [f"-f {INPUT}/{name}.yaml" for name in ("services", "endpointslices", "node")]
        config = f"--config {INPUT}/kube-proxy-config.{self._mode}.yaml"
        script = " ".join([sys.executable, "-m hairpin audit", *files, config, *words])
        command = ["ip", "netns", "exec", self.name, "sh", "-ec", script]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "Traceback" not in ran.stderr, ran.stderr
        return ran.returncode, ran.stdout

    def findings(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.audit("-o", "json")[1])["findings"]
        return found


def _found_and_mended(node: Node, changes: list[tuple[str, str, str]]) -> None:
    """All at once; in the long run also one by one."""
    for some in [changes, *([one] for one in changes if os.environ.get("HAIRPIN_LONG"))]:
        node.sh("\n".join(command for command, _, _ in some))
        found = node.findings()
        told = [(one["what"], one["owner"] or "") for one in found]
        for command, what, owner in some:
            assert any(what == said and owner in each for said, each in told), f"{command}: {told}"
        node.sh("\n".join(line for one in found for line in one["mend"]))
        left = [(one["subject"], one["mend"]) for one in node.findings()]
        assert left == [], some


@pytest.fixture(name="host", scope="module")
def _host() -> Iterator[Host]:
    made = Host()
    yield made
    made.kernel.close(destroy=True)


@pytest.mark.host
def test_nftables(host: Host, tmp_path: Path) -> None:
    node = Node(host, "nftables", "nft")
    node.sh(f"nft -f {RECORDED}/nftables/ruleset.nft")
    before = node.sh("nft list ruleset")
    code, said = node.audit()
    assert code == 0, said
    assert node.audit("--collect", str(tmp_path))[0] == 0
    assert node.audit("--state", str(tmp_path))[0] == 0
    assert node.sh("nft list ruleset") == before  # nothing is changed
    _found_and_mended(node, NFTABLES)
    _found_and_mended(node, TABLES)


@pytest.mark.host
@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_iptables(host: Host, variant: str) -> None:
    node = Node(host, "iptables", variant + "-tables")
    for program in ("iptables", "ip6tables"):
        text = (RECORDED / "iptables" / f"{program}-save.txt").read_text()
        text = re.sub(" -m nfacct --nfacct-name +\\S+", "", text)  # the counter is not there
        subprocess.run(
            ["ip", "netns", "exec", node.name, f"{program}-{variant}-restore"],
            input=text,
            text=True,
            check=True,
        )
    code, said = node.audit()
    assert code == 0, said
    program = f"iptables-{variant}"
    for some in (IPTABLES, FLUSHED):
        _found_and_mended(node, [(a.format(program), b, c) for a, b, c in some])


@pytest.mark.host
@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_what_hairpins_own_proxy_makes_is_clean(host: Host, mode: str) -> None:
    node = Node(host, mode, f"own-{mode}")
    node.sh("echo 0 >/proc/sys/net/ipv4/conf/all/route_localnet")
    config = load_configuration(str(INPUT / f"kube-proxy-config.{mode}.yaml"))
    proxy = Proxy(host.kernel, node.name, config, "node1")
    files = [str(INPUT / f"{name}.yaml") for name in ("services", "endpointslices", "node")]
    snapshot = Snapshot(load(files, whole=True).objects)
    proxy.adopt(snapshot)
    done = proxy.sync()
    assert not done.failed, done.failed
    code, said = node.audit()
    assert code == 0, said
