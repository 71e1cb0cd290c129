"""What the checks of the Proxy in the guest share: a node, faults, and what its kernel holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hairpin.kernel.apply import Failed, Kernel
from hairpin.kernel.errors import KernelError
from hairpin.kernel.iptables import Variant
from hairpin.kernel.modules import Modules
from hairpin.kernel.spawn import find, run
from hairpin.model.address import ip
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.snapshot import Snapshot
from hairpin.plan import whole
from hairpin.plan.node import node_facts
from hairpin.proxy.proxy import Proxy
from hairpin.state.change import Change, Object
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.links import Address, Link, Netns
from hairpin.state.netfilter import Jump
from tests.kernel.guest_world import add, must
from tests.proxy.cluster import CONFIG, NODE

SETS = (
    "ip_set", "ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip",
    "ip_set_hash_ipportnet", "ip_set_bitmap_port", "xt_set",
)  # fmt: skip
RULES = (
    "xt_ipvs", "xt_addrtype", "xt_physdev", "xt_conntrack", "xt_mark", "ipt_REJECT",
    "ip6t_REJECT", "ip6table_filter", "ip6table_nat", "br_netfilter",
)  # fmt: skip

ADDRESSES = ("192.168.7.2", "fd07::2")

Keyed = dict[tuple[object, ...], object]


def furnish(modules: Modules | None) -> None:
    """Loads what guest_init does not."""
    assert modules is not None
    modules.load(*SETS, *RULES)


@contextmanager
def node(kernel: Kernel | None = None) -> Iterator[Kernel]:
    """A Kernel with a namespace ``node`` that has the ADDRESSES."""
    kernel = kernel if kernel is not None else Kernel(legacy_iptables=True)
    try:
        must(
            kernel,
            Change(verb="add", netns="", object=Netns(name="node")),
            add(Link(name="eth0", type="dummy")),
            *(add(address(one)) for one in ADDRESSES),
        )
        yield kernel
    finally:
        kernel.close(destroy=True)


def address(text: str) -> Address:
    """One of the node's own."""
    return Address(link="eth0", ip=ip(text), prefix=64 if ":" in text else 24)


def proxy(kernel: Kernel, config: KubeProxyConfiguration = CONFIG, **more: Any) -> Proxy:
    return Proxy(kernel, "node", config, NODE, **more)


def held(kernel: Kernel, *, chains: bool = True) -> Keyed:
    """All that the namespace has of what a Proxy might have made, whoever made it."""
    found: list[Object] = []
    found += [one for one in kernel.observe_addresses("node") if one.link == "kube-ipvs0"]
    found += kernel.observe_sets("node")
    for family in ("ip", "ip6") if chains else ():
        found += kernel.observe_chains("node", family)
    found += kernel.observe_servers("node")
    return {one.key: one for one in found}


def fresh(snapshot: Snapshot, kernel: Kernel, config: KubeProxyConfiguration = CONFIG) -> Keyed:
    """What a fresh plan says that ``held`` should be."""
    own = [one.ip for one in kernel.observe_addresses("node") if one.link != "kube-ipvs0"]
    facts = node_facts(NODE, snapshot.nodes.get(("", NODE)), own)
    kinds = Address | IpSet | SetEntry | VirtualServer | RealServer
    found: Keyed = {}
    for want in whole.plan(snapshot, config, facts, "node"):
        one = want.object
        if isinstance(one, kinds) or one.key[0] in ("chain", "jump"):
            found[one.key] = one
    return found


def same(
    kernel: Kernel,
    snapshot: Snapshot,
    config: KubeProxyConfiguration = CONFIG,
    *,
    foreign: Keyed | None = None,
    chains: bool = True,
) -> str:
    """Where the kernel differs from a fresh plan, in words; "" for nowhere.

    ``foreign`` must be there as well.  ``chains`` False leaves iptables out, which is dear.
    """
    have = held(kernel, chains=chains)
    want = fresh(snapshot, kernel, config) | (foreign or {})
    if not chains:
        want = {each: one for each, one in want.items() if each[0] not in ("chain", "jump")}
    lines = [f"missing {want[one]}" for one in want.keys() - have.keys()]
    lines += [f"too much {have[one]}" for one in have.keys() - want.keys()]
    lines += [
        f"{have[one]} instead of {want[one]}"
        for one in want.keys() & have.keys()
        if _comparable(have[one]) != _comparable(want[one])
    ]
    return "\n".join(lines)


def witnessed(kernel: Kernel) -> str:
    """Where ipvsadm and ipset see something else than we do; "" for nowhere."""
    where = kernel.namespaces["node"]
    seen = kernel.observe_servers("node")
    servers = [one for one in seen if isinstance(one, VirtualServer)]
    lines = run(where, [find(["ipvsadm"]), "-Sn"]).out.splitlines()
    theirs = (
        sum(line.startswith("-A") for line in lines),
        sum(line.startswith("-a") for line in lines),
    )
    if theirs != (len(servers), len(seen) - len(servers)):
        return f"ipvsadm counts {theirs}"
    sets = kernel.observe_sets("node")
    ours = {f"add {one.set} {one}" for one in sets if isinstance(one, SetEntry)}
    saved = run(where, [find(["ipset"]), "save"]).out.splitlines()
    odd = ours ^ {line for line in saved if line.startswith("add ")}
    return "\n".join(sorted(odd))


def _comparable(one: object) -> object:
    if isinstance(one, IpSet):
        return one.key, one.type, one.family
    if isinstance(one, Jump):
        return one.key, one.in_place
    return one


Fault = Callable[[int, str], BaseException | str | None]


class FaultyKernel(Kernel):
    """A Kernel whose calls fail as ``fault`` says.

    ``fault`` is asked before each call with its number and what it is: an exception means that
    the call raises it; "refuse" that an apply does nothing and says EIO of each Change; "half"
    that it does the first half and refuses the rest.  ``kill`` in place of a fault is any
    exception that is no OSError.
    """

    def __init__(
        self, fault: Fault, netns_dir: str | None = None, iptables: Variant | None = None
    ) -> None:
        super().__init__(netns_dir, legacy_iptables=True, iptables=iptables)
        self.fault = fault
        self.calls = 0

    def _next(self, what: str) -> str | None:
        self.calls += 1
        found = self.fault(self.calls, what)
        if isinstance(found, BaseException):
            raise found
        return found

    def apply(self, changes: Sequence[Change]) -> list[Failed]:  # type: ignore[override]
        found = self._next("apply")
        if found is None:
            return super().apply(changes)
        half = len(changes) // 2 if found == "half" else 0
        failed = super().apply(changes[:half]) if half else []
        return failed + [Failed(one, KernelError(5, "injected")) for one in changes[half:]]


def _faulty(name: str) -> Any:
    real = getattr(Kernel, name)

    def call(self: FaultyKernel, *args: Any, **more: Any) -> Any:
        self._next(name)
        return real(self, *args, **more)

    return call


for _name in (
    "observe_link", "observe_addresses", "observe_sets", "observe_chains", "observe_groups",
    "observe_real_servers", "observe_nft", "nft_generation", "read_sysctl", "ipvs", "flows",
    "delete_flows",
):  # fmt: skip
    setattr(FaultyKernel, _name, _faulty(_name))
