"""nf_tables: tables, chains with their rules, sets, maps and their elements.

A rule is a row of typed statements, in the words of nft(8); the vocabulary is what proxies of
Services need, and whatever else stands in a kernel is kept as ``Opaque``.  Objects belong to a
table of a family; a chain is owned and written whole, with all its rules in their order.
"""

from __future__ import annotations

from abc import ABCMeta
from typing import TYPE_CHECKING, Literal

import msgspec

from hairpin.model.address import IP, Network, read_value
from hairpin.state.base import KernelObject

NftFamily = Literal["ip", "ip6", "inet"]
KeyType = Literal["ipv4_addr", "ipv6_addr", "inet_proto", "inet_service", "mark", "ifname"]
Field = Literal[
    "ip saddr",
    "ip daddr",
    "ip6 saddr",
    "ip6 daddr",
    "th sport",
    "th dport",
    "meta l4proto",
    "meta mark",
    "meta iifname",
    "meta oifname",
    "ct state",
    "ct status",
    "fib saddr type",
    "fib daddr type",
]
"""What a rule can look at in a packet."""

if TYPE_CHECKING:
    Value = IP | Network | int | str
else:

    class Value(metaclass=ABCMeta):  # noqa: B024  # only for isinstance and msgspec
        """One part of a key: an address or network; a port, mark or number; a word.

        Words: "TCP", "UDP", "SCTP" for ``meta l4proto`` (of any other protocol its number as
        text); the name of a link, with ``*`` at its end for a prefix; of ``ct`` and ``fib`` what
        nft(8) calls it, several with commas between ("established,related").
        """

        from_builtin = staticmethod(read_value)

    for _kind in (IP, Network, int, str):
        Value.register(_kind)

Key = tuple[Value, ...]


class Verdict(msgspec.Struct, frozen=True, tag_field="op", tag="verdict", gc=False):
    """accept, drop, return, or on to another chain of the table, and back (jump) or not (goto)."""

    kind: Literal["accept", "drop", "return", "jump", "goto"]
    chain: str = ""


class Match(msgspec.Struct, frozen=True, tag_field="op", tag="match", kw_only=True):
    """``ip saddr != 10.0.0.0/8``, ``ct state new``, ``meta mark & 0x4000 != 0``.

    ``mask`` is for ``meta mark`` only; None compares the whole.  For ``ct`` the value's bits are
    asked for, any of them, as nft(8) does.
    """

    field: Field
    value: Value
    negated: bool = False
    mask: int | None = None


class InSet(msgspec.Struct, frozen=True, tag_field="op", tag="in-set", kw_only=True):
    """``ip saddr . ip daddr @set``: the packet's fields are an element of a named set."""

    fields: tuple[Field, ...]
    set: str
    negated: bool = False


class OneOf(msgspec.Struct, frozen=True, tag_field="op", tag="one-of", kw_only=True):
    """``ip saddr != { 10.0.0.0/8, 203.0.113.128/25 }``: an anonymous set of one field.

    Values are in their order and do not touch or overlap.
    """

    field: Field
    values: tuple[Value, ...]
    negated: bool = False


class VerdictMap(msgspec.Struct, frozen=True, tag_field="op", tag="vmap", kw_only=True):
    """``ip daddr . meta l4proto . th dport vmap @map``."""

    fields: tuple[Field, ...]
    map: str


class RandomVerdict(msgspec.Struct, frozen=True, tag_field="op", tag="random", kw_only=True):
    """``numgen random mod 2 vmap { 0 : goto a, 1 : goto b }``: one of these, by chance."""

    verdicts: tuple[Verdict, ...]


class Chance(msgspec.Struct, frozen=True, tag_field="op", tag="chance", kw_only=True):
    """``numgen random mod 4 0``: holds for one packet out of ``of``."""

    of: int


class SetMark(msgspec.Struct, frozen=True, tag_field="op", tag="set-mark", kw_only=True):
    """``meta mark set meta mark | 0x4000``; the operator is ``|``, ``^`` or ``&``."""

    operator: Literal["|", "^", "&"]
    bits: int


class Reject(msgspec.Struct, frozen=True, tag_field="op", tag="reject"):
    """``reject``: ICMP port unreachable."""


class Masquerade(msgspec.Struct, frozen=True, tag_field="op", tag="masquerade", kw_only=True):
    """``masquerade``, ``masquerade fully-random``."""

    fully_random: bool = False


class Dnat(msgspec.Struct, frozen=True, tag_field="op", tag="dnat", kw_only=True):
    """``dnat to 10.0.0.1:80``."""

    ip: IP
    port: int


class Target(msgspec.Struct, frozen=True, gc=False):
    """Where DNAT leads to."""

    ip: IP
    port: int


class RandomDnat(msgspec.Struct, frozen=True, tag_field="op", tag="random-dnat", kw_only=True):
    """``dnat ip to numgen random mod 2 map { 0 : 10.0.0.1 . 80, 1 : 10.0.0.2 . 80 }``."""

    targets: tuple[Target, ...]


class UpdateSet(msgspec.Struct, frozen=True, tag_field="op", tag="update", kw_only=True):
    """``update @set { ip saddr }``: adds it, or begins its timeout anew."""

    set: str
    field: Field


class Counter(msgspec.Struct, frozen=True, tag_field="op", tag="counter"):
    """``counter``; what it has counted is no part of it."""


class SetTrace(msgspec.Struct, frozen=True, tag_field="op", tag="set-trace"):
    """``meta nftrace set 1``: the kernel tells which rules the packet meets."""


class Opaque(msgspec.Struct, frozen=True, tag_field="op", tag="opaque", kw_only=True):
    """An expression of the kernel's that is not told apart here: its name and its attributes."""

    name: str
    data: bytes


Statement = (
    Verdict
    | Match
    | InSet
    | OneOf
    | VerdictMap
    | RandomVerdict
    | Chance
    | SetMark
    | Reject
    | Masquerade
    | Dnat
    | RandomDnat
    | UpdateSet
    | Counter
    | SetTrace
    | Opaque
)


class NftRule(msgspec.Struct, frozen=True):
    """One rule: its statements in their order; ``comment`` at most 128 bytes, as nft(8) has it."""

    statements: tuple[Statement, ...]
    comment: str = ""


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """Where a base chain is called: ``type nat hook prerouting priority -100; policy accept``."""

    type: Literal["filter", "nat", "route"]
    hook: Literal["prerouting", "input", "forward", "output", "postrouting"]
    priority: int
    policy: Literal["accept", "drop"] = "accept"


class NftTable(KernelObject, frozen=True, tag="nft-table", kw_only=True):
    """A table.  Removing it removes all that is in it.

    ``dormant``: none of its base chains hangs on its hook (``flags dormant`` in nft(8)).
    """

    family: NftFamily
    name: str
    comment: str = ""
    dormant: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        return ("nft-table", self.family, self.name)


class NftChain(KernelObject, frozen=True, tag="nft-chain", kw_only=True):
    """A chain that belongs to one owner alone, with all its rules in their order.

    ``hook`` None: it is only jumped to.  Names have at most 127 bytes (NFT_NAME_MAXLEN).
    """

    family: NftFamily
    table: str
    name: str
    rules: tuple[NftRule, ...] = ()
    hook: Hook | None = None
    comment: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        return ("nft-chain", self.family, self.table, self.name)


class NftSet(KernelObject, frozen=True, tag="nft-set", kw_only=True):
    """A named set, or with ``verdicts`` a map from keys to verdicts.

    ``types`` are those of a key's parts.  ``timeout`` in seconds, 0 for none; ``size`` is the
    most elements it may have, 0 for no limit.  A ``dynamic`` one is filled by packets: its
    elements are nobody's.
    """

    family: NftFamily
    table: str
    name: str
    types: tuple[KeyType, ...]
    verdicts: bool = False
    interval: bool = False
    dynamic: bool = False
    timeout: int = 0
    size: int = 0
    comment: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        return ("nft-set", self.family, self.table, self.name)


class NftElement(KernelObject, frozen=True, tag="nft-element", kw_only=True, gc=False):
    """An element of a named set, or with a ``verdict`` of a map.

    ``of`` has as many values as the set has types; of an interval set it is a network, of one
    address too.
    """

    family: NftFamily
    table: str
    set: str
    of: Key
    verdict: Verdict | None = None
    comment: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        return ("nft-element", self.family, self.table, self.set, *map(_plain, self.of))

    @property
    def exclusive(self) -> str:
        if self.verdict is None:
            return ""
        return " ".join(str(each) for each in self.of)


NftObject = NftTable | NftChain | NftSet | NftElement


def _plain(value: Value) -> object:
    """A part of a key as a number or word; of a network the pair."""
    number = getattr(value, "_ip", None)  # what int(address) is, without the call
    if number is not None:
        return number
    if isinstance(value, Network):
        return int(value.network_address), value.prefixlen
    return value
