"""What is printed of a plan is what the tools print of the kernel, once they have put it there.

``-o restore`` is compared with dumps, to the letter; here iptables-restore and nft read it, and
iptables-save and ``nft list ruleset`` say it again.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Literal, get_args

import msgspec
import pytest

from hairpin.kernel.apply import Kernel
from hairpin.model.snapshot import Snapshot
from hairpin.plan.iptables_names import COUNTERS
from hairpin.plan.whole import plan
from hairpin.present.nft import listing
from hairpin.present.nft_shell import transaction
from hairpin.present.restore import restore, sections
from hairpin.state.change import Change, Object
from hairpin.state.links import Netns
from hairpin.state.netfilter import PacketCounter
from hairpin.state.nftables import NftObject
from tests.plan.crowd import configuration, crowd
from tests.plan.test_kube_proxy_nft import blocks
from tests.plan.values import NODE

pytestmark = pytest.mark.host

NFT_NODE = msgspec.structs.replace(
    NODE, service_cidrs=tuple(map(ip_network, ("10.97.0.0/16", "10.96.0.0/16", "fd00:96::/108")))
)
NFT = get_args(NftObject)
SERVICES = 40


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    try:
        assert not kernel.apply([Change(verb="add", netns="", object=Netns(name="node"))])
        yield kernel
    finally:
        kernel.close(destroy=True)


def run(kernel: Kernel, *argv: str, text: str = "") -> str:
    with kernel.namespaces["node"].entered():
        found = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


def said(text: str) -> list[str]:
    """The lines of iptables-save, without comments and counters."""
    lines = (line.partition(" [")[0] for line in text.splitlines())
    return [line for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("seed", range(2))
def test_iptables(kernel: Kernel, seed: int) -> None:
    counters = [PacketCounter(name=name) for name in COUNTERS]
    if kernel.apply([Change(verb="add", netns="node", object=one) for one in counters]):
        pytest.skip("this kernel has no nfacct")
    found = plan(crowd(seed, SERVICES), configuration(seed, "iptables"), NODE, "")
    assert not found.conflicts
    texts = sections(restore([one.object for one in found], "iptables"))
    for name, text in texts.items():
        program = name.removesuffix("-save")
        run(kernel, f"{program}-restore", text=text)
        assert said(run(kernel, f"{program}-save")) == said(text)


@pytest.mark.parametrize("seed", range(2))
def test_nft(kernel: Kernel, seed: int) -> None:
    found = plan(crowd(seed, SERVICES), configuration(seed, "nftables"), NFT_NODE, "")
    assert not found.conflicts
    text = listing(one.object for one in found)
    run(kernel, "nft", "-f", "-", text=text)
    assert blocks(plainly(run(kernel, "nft", "list", "ruleset"))) == blocks(plainly(text))


def test_nft_from_one_plan_to_the_next(kernel: Kernel) -> None:
    """As ``hairpin diff -o shell`` prints it: one transaction, in an order that nft takes."""
    config = configuration(1, "nftables")
    held: dict[tuple[object, ...], Object] = {}
    for seed in (1, 2, None):
        services = crowd(seed, SERVICES) if seed is not None else Snapshot(())
        found = plan(services, config, NFT_NODE, "")
        wanted = {one.object.key: one.object for one in found if isinstance(one.object, NFT)}
        changes = [_change("remove", held[key]) for key in held.keys() - wanted.keys()]
        changes += [_change("add", wanted[key]) for key in wanted.keys() - held.keys()]
        changes += [
            _change("set", wanted[key], held[key])
            for key in wanted.keys() & held.keys()
            if wanted[key] != held[key]
        ]
        run(kernel, "nft", "-f", "-", text="\n".join(transaction(changes)) + "\n")
        held = wanted
        shown = blocks(plainly(run(kernel, "nft", "list", "ruleset")))
        assert shown == blocks(plainly(listing(held.values())))


def _change(
    verb: Literal["add", "remove", "set"], one: Object, was: Object | None = None
) -> Change:
    return Change(verb=verb, netns="node", object=one, before=was)


def plainly(text: str) -> str:
    """nft makes no set of one network where it reads one; several that are one stay a set."""
    return re.sub(r"(addr (?:!= )?)\{ ([^ ,]+) \} drop", r"\1\2 drop", text)
