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
    ``match`` is what a packet must be to be led there (``-m conntrack --ctstate NEW``).
    ``in_place`` is False only of one that was observed elsewhere, or twice: it is put right by
    setting it.
    """

    table: Table
    chain: str
    to: str
    comment: str
    family: Family = "ip"
    in_place: bool = True
    match: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        return ("jump", self.family, self.table, self.chain, self.to)

    @property
    def spec(self) -> tuple[str, ...]:
        """What follows ``-A CHAIN`` in iptables-save."""
        if not self.comment:
            return (*self.match, "-j", self.to)
        return (*self.match, "-m", "comment", "--comment", self.comment, "-j", self.to)


# Of the kinds below there may be a hundred thousand, so that a rule is the line of iptables-save
# without "-A CHAIN": taking it apart into words would cost more than all else.


class ServiceChain(KernelObject, frozen=True, tag="service-chain", kw_only=True, gc=False):
    """A chain that belongs to one ServicePort alone, with all its rules in their order.

    It is written as a whole.
    """

    table: Table
    name: str
    rules: tuple[str, ...] = ()
    family: Family = "ip"

    @property
    def key(self) -> tuple[object, ...]:
        return ("service-chain", self.family, self.table, self.name)


class DispatchChain(KernelObject, frozen=True, tag="dispatch-chain", kw_only=True):
    """A chain in which many ServicePorts have a DispatchRule each, and ``last`` after all these."""

    table: Table
    name: str
    last: tuple[str, ...] = ()
    family: Family = "ip"

    @property
    def key(self) -> tuple[object, ...]:
        return ("dispatch-chain", self.family, self.table, self.name)


class DispatchRule(KernelObject, frozen=True, tag="dispatch-rule", kw_only=True, gc=False):
    """What leads packets to one frontend of a ServicePort on, or ends them.

    ``frontend`` is which: two of one chain with the same are the same thing, and only one Service
    can have it.  It is empty of a rule that is observed, and of one that several may have.
    """

    table: Table
    chain: str
    rule: str
    frontend: str = ""
    family: Family = "ip"

    @property
    def key(self) -> tuple[object, ...]:
        return ("dispatch-rule", self.family, self.table, self.chain, self.frontend or self.rule)

    @property
    def exclusive(self) -> str:
        return self.frontend


class PacketCounter(KernelObject, frozen=True, tag="packet-counter", kw_only=True):
    """A counter with a name that rules count packets in (nfacct)."""

    name: str

    @property
    def key(self) -> tuple[object, ...]:
        return ("packet-counter", self.name)
