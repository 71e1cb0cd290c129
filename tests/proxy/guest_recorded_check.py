"""What a Proxy programs for the recorded Services, as ipvsadm, ipset, iptables and ip print it.

``tests/plan/kube-proxy-1.36`` holds what they printed of the real kube-proxy 1.36.2.  Not compared:
what is not its choice (hash sizes and seeds, counters, the order of a set's entries).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from hairpin.kernel.apply import Kernel
from hairpin.kernel.modules import Modules
from hairpin.kernel.spawn import find, run
from hairpin.model.address import ip
from hairpin.model.snapshot import Snapshot
from hairpin.proxy.proxy import Proxy
from hairpin.source.configuration import load as load_configuration
from hairpin.source.manifests import load
from hairpin.state.change import Change
from hairpin.state.links import Address, Link, Netns
from tests.kernel.guest_world import add, must
from tests.proxy.guest_node import furnish

MODULES: Modules | None = None
RECORDED = f"{__file__.rpartition('/tests/')[0]}/tests/plan/kube-proxy-1.36"


def check_tools_print_what_they_printed_of_kube_proxy() -> None:
    furnish(MODULES)
    kernel = Kernel(legacy_iptables=True)
    must(
        kernel,
        Change(verb="add", netns="", object=Netns(name="node")),
        add(Link(name="vec0", type="dummy")),
        add(Address(link="vec0", ip=ip("172.31.0.2"), prefix=24)),
        add(Address(link="vec0", ip=ip("fd31::2"), prefix=64)),
    )
    files = [f"{RECORDED}/input/{name}.yaml" for name in ("node", "services", "endpointslices")]
    config = load_configuration(f"{RECORDED}/input/kube-proxy-config.ipvs.yaml")
    proxy = Proxy(kernel, "node", config, "node1")
    proxy.adopt(Snapshot(load(files, whole=True).objects))
    done = proxy.sync()
    assert not done.failed, done
    try:
        for name, argv, said in _TOOLS:
            now = run(kernel.namespaces["node"], [find(argv[:1]), *argv[1:]]).out
            wrong = set(said(_recorded(name))) ^ set(said(now))
            assert not wrong, f"{name}: {wrong}"
            assert said(now), name
    finally:
        kernel.close(destroy=True)


def _recorded(name: str) -> str:
    with open(f"{RECORDED}/ipvs/{name}", encoding="utf-8") as file:
        return file.read()


def _lines(text: str) -> list[str]:
    return sorted(line.strip() for line in text.splitlines())


def _sets(text: str) -> list[str]:
    chosen = re.sub(r" (hashsize|bucketsize|initval) \S+", "", text)
    return _lines(chosen)


def _rules(text: str) -> list[str]:
    """Each rule with its place in its chain, and the chains."""
    found, table, numbers = [], "", dict[str, int]()
    for line in text.splitlines():
        if line.startswith("*"):
            table = line
        elif line.startswith(":KUBE-"):
            found.append(f"{table} {line.split()[0]}")
        elif line.startswith("-A "):
            chain = f"{table} {line.split()[1]}"
            numbers[chain] = numbers.get(chain, 0) + 1
            found.append(f"{chain} {numbers[chain]} {line}")
    return found


def _addresses(text: str) -> list[str]:
    """Of kube-ipvs0, and that it is down."""
    (link,) = [one for one in json.loads(text) if one["ifname"] == "kube-ipvs0"]
    return [f"state {link['operstate']}"] + [
        f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]
    ]


_TOOLS: tuple[tuple[str, list[str], Callable[[str], list[str]]], ...] = (
    ("ipvsadm-save.txt", ["ipvsadm", "-Sn"], _lines),
    ("ipset-save.txt", ["ipset", "save"], _sets),
    ("iptables-save.txt", ["iptables-legacy-save"], _rules),
    ("ip6tables-save.txt", ["ip6tables-legacy-save"], _rules),
    ("ip-addr.json", ["ip", "-j", "addr"], _addresses),
)
