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


class Chain(KernelObject, frozen=True, tag="chain", kw_only=True):
    """A chain that belongs to one owner alone, with all its rules in their order.

    It is written as a whole.  Each rule is what follows ``-A CHAIN``, as iptables-save prints it.
    """

    table: Table
    name: str
    rules: tuple[tuple[str, ...], ...] = ()
    family: Family = "ip"

    @property
    def key(self) -> tuple[object, ...]:
        return ("chain", self.family, self.table, self.name)


class Jump(KernelObject, frozen=True, tag="jump", kw_only=True):
    """A rule at the head of a built-in chain that leads into a Chain of ours.

    Several of one chain stand in the order in which they are wanted, before all rules of others.
    ``in_place`` is False only of one that was observed elsewhere, or twice: it is put right by
    setting it.
    """

    table: Table
    chain: str
    to: str
    comment: str
    family: Family = "ip"
    in_place: bool = True

    @property
    def key(self) -> tuple[object, ...]:
        return ("jump", self.family, self.table, self.chain, self.to)

    @property
    def spec(self) -> tuple[str, ...]:
        """What follows ``-A CHAIN`` in iptables-save."""
        return ("-m", "comment", "--comment", self.comment, "-j", self.to)
