"""iptables rules and chain policies."""

from __future__ import annotations

from typing import Literal

from hairpin.state.base import KernelObject

Family = Literal["ip", "ip6"]
Table = Literal["raw", "mangle", "nat", "filter", "security"]


class Rule(KernelObject, frozen=True, tag="rule", kw_only=True):
    """One iptables rule: ``spec`` is what follows ``-A CHAIN``, as iptables-save prints it."""

    table: Table
    chain: str
    spec: tuple[str, ...]
    family: Family = "ip"

    @property
    def key(self) -> tuple[object, ...]:
        return ("rule", self.family, self.table, self.chain, self.spec)


class ChainPolicy(KernelObject, frozen=True, tag="policy", kw_only=True):
    """What a built-in chain does with a packet that no rule decided."""

    table: Table
    chain: str
    target: Literal["ACCEPT", "DROP"]
    family: Family = "ip"

    @property
    def key(self) -> tuple[object, ...]:
        return ("policy", self.family, self.table, self.chain)
