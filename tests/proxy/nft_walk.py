"""A random walk over clusters and meddling in nftables mode: where does it end?

After every step the tables must hold what a fresh plan of the same objects says.
"""

from __future__ import annotations

from hairpin.model.address import ip
from hairpin.proxy.proxy import Proxy
from hairpin.state.change import Change, Object
from hairpin.state.links import Address
from hairpin.state.nftables import NftChain, NftElement, NftRule, NftTable, Verdict
from tests.proxy.guest_node import FaultyKernel
from tests.proxy.nft_node import bare_node, held, proxy, same, witnessed
from tests.proxy.walk import Walk

_SPARE = ("192.0.2.77", "2001:db8::77")
_SEEN_BY_NFT = 20  # steps between looks with nft itself


class NftWalk(Walk):
    """``Walk`` where what the kernel holds is two tables of nf_tables."""

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
            victim = self.dice.choice(mine)
            self.kernel.apply(self._meddling(victim))
        self.edited = True

    def _meddling(self, victim: object) -> list[Change]:
        match victim:
            case NftChain():
                other = NftChain(
                    family=victim.family,
                    table=victim.table,
                    name=victim.name,
                    hook=victim.hook,
                    comment=victim.comment,
                    rules=(*victim.rules[1:], NftRule((Verdict("return"),), "not ours")),
                )
                return [Change(verb="set", netns="node", object=other, before=victim)]
            case NftElement():
                return [_change("remove", victim)]
            case NftTable() if self.dice.random() < 0.3:
                return [_change("remove", victim)]
        stray = NftChain(family="ip", table="kube-proxy", name=f"stray-{self.dice.randrange(3)}")
        return [_change("add", stray)]

    def _check(self, number: int, kind: str, *, everything: bool) -> None:
        wrong = same(self.kernel, self.snapshot())
        assert not wrong, f"step {number}, {kind}:\n{wrong}"
        if number % _SEEN_BY_NFT == 0:
            wrong = witnessed(self.kernel)
            assert not wrong, f"step {number}, {kind}, by nft:\n{wrong}"


def walk(steps: int, seed: int) -> None:
    kernel = FaultyKernel(lambda call, what: None)
    with bare_node(kernel):
        one = NftWalk(kernel, seed)
        for number in range(1, steps + 1):
            one.step(number)


def _change(verb: str, one: Object) -> Change:
    return Change(verb="remove" if verb == "remove" else "add", netns="node", object=one)
