"""What the tests of iptables mode share: a proxy, what the tables hold, and a random walk."""

from __future__ import annotations

import subprocess

from hairpin.kernel.apply import Kernel
from hairpin.kernel.iptables import Variant
from hairpin.lab.rules import identity
from hairpin.mode.iptables import IptablesMode
from hairpin.model.address import ip
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.snapshot import Snapshot
from hairpin.plan import whole
from hairpin.plan.node import node_facts
from hairpin.proxy.proxy import Proxy
from hairpin.state.change import Change, Object
from hairpin.state.links import Address
from hairpin.state.netfilter import Chain, DispatchChain, DispatchRule, Jump, ServiceChain
from tests.proxy.cluster import NODE
from tests.proxy.guest_node import FaultyKernel
from tests.proxy.nft_node import bare_node
from tests.proxy.walk import Walk

CONFIG = KubeProxyConfiguration(mode="iptables", cluster_cidr="10.244.0.0/16,fd00:244::/48")
KINDS = (Chain, Jump, ServiceChain, DispatchChain, DispatchRule)
Keyed = dict[tuple[object, ...], Object]

_SPARE = ("192.0.2.77", "2001:db8::77")


def proxy(kernel: Kernel, config: KubeProxyConfiguration = CONFIG, **more: object) -> Proxy:
    return Proxy(kernel, "node", config, NODE, **more)  # type: ignore[arg-type]


def held(kernel: Kernel) -> Keyed:
    """All of iptables mode that the tables hold."""
    seen = IptablesMode(kernel, "node", CONFIG).observe()
    return {identity(one): one for one in seen if isinstance(one, KINDS)}


def same(kernel: Kernel, snapshot: Snapshot, config: KubeProxyConfiguration = CONFIG) -> str:
    """Where the tables differ from a fresh plan, in words; "" for nowhere."""
    own = [one.ip for one in kernel.observe_addresses("node")]
    facts = node_facts(NODE, snapshot.nodes.get(("", NODE)), own)
    plan = whole.plan(snapshot, config, facts, "node")
    want = {identity(one.object): one.object for one in plan if isinstance(one.object, KINDS)}
    have = held(kernel)
    last = {rule for one in want.values() if isinstance(one, DispatchChain) for rule in one.last}
    lines = [f"missing {want[one]}" for one in want.keys() - have.keys()]
    lines += [f"too much {one}" for one in have.keys() - want.keys() if one[-1] not in last]
    lines += [
        f"{have[one]} instead of {want[one]}"
        for one in want.keys() & have.keys()
        if isinstance(want[one], Chain | ServiceChain | Jump) and have[one] != want[one]
    ]
    return "\n".join(lines)


def iptables(kernel: Kernel, variant: Variant, *argv: str, six: bool = False) -> str:
    """Runs iptables, or with ``-save`` first iptables-save, in the node's namespace."""
    name = f"{'ip6tables' if six else 'iptables'}-{variant}"
    words = [f"{name}-save", *argv[1:]] if argv[:1] == ("-save",) else [name, *argv]
    with kernel.namespaces["node"].entered():
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout


class IptablesWalk(Walk):
    """``Walk`` where what the kernel holds is chains."""

    def _anew(self) -> Proxy:
        return proxy(self.kernel, clock=lambda: self.now, dice=self.dice.random)

    def _node_address(self) -> None:
        text = self.dice.choice(_SPARE)
        one = Address(link="lo", ip=ip(text), prefix=128 if ":" in text else 32)
        verb = "remove" if text in self.spare else "add"
        assert not self.kernel.apply([_change(verb, one)])
        self.spare ^= {text}
        self.edited = True

    def _kill_process(self) -> None:
        self._kill()  # processes are killed in the guest's walk

    def _edit(self) -> None:
        mine = list(held(self.kernel).values())
        for _ in range(self.dice.randint(1, 4)):
            self.kernel.apply(self._meddling(self.dice.choice(mine)))
        self.edited = True

    def _meddling(self, victim: object) -> list[Change]:
        match victim:
            case ServiceChain():
                other = ServiceChain(
                    table=victim.table, name=victim.name, rules=victim.rules[1:],
                    family=victim.family,
                )  # fmt: skip
                return [Change(verb="set", netns="node", object=other, before=victim)]
            case DispatchRule():
                stray = DispatchRule(
                    table=victim.table, chain=victim.chain, family=victim.family,
                    rule=f"-s 203.0.113.{self.dice.randrange(9)}/32 -j RETURN",
                )  # fmt: skip
                wrong = stray if victim.family == "ip" and self.dice.random() < 0.5 else None
                return [_change("remove", victim) if wrong is None else _change("add", wrong)]
            case Jump():
                return [_change("remove", victim)]
        name = f"KUBE-SVC-STRAY{self.dice.randrange(3)}"
        return [_change("add", ServiceChain(table="nat", name=name, rules=("-j RETURN",)))]

    def _check(self, number: int, kind: str, *, everything: bool) -> None:
        wrong = same(self.kernel, self.snapshot())
        assert not wrong, f"step {number}, {kind}:\n{wrong}"


def walk(steps: int, seed: int, variant: Variant) -> None:
    kernel = FaultyKernel(lambda call, what: None, iptables=variant)
    with bare_node(kernel):
        one = IptablesWalk(kernel, seed)
        for number in range(1, steps + 1):
            one.step(number)


def _change(verb: str, one: Object) -> Change:
    return Change(verb="remove" if verb == "remove" else "add", netns="node", object=one)
