"""What all Services share in a node's kernel, as far as one Service's packets meet it.

Of the frame (``docs/terms.md``) they meet the chains that lead to what is the Service's own, those
that its own leads to, and those that look at the mark that these set.  A rule that asks for a set
in which the Service is not, or that leads to a chain in which nothing is for it, lets its packets
by: it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from hairpin.present import iptables
from hairpin.present.nft_statement import rule_text
from hairpin.state.change import Object
from hairpin.state.ipset import SetEntry
from hairpin.state.links import Link
from hairpin.state.netfilter import Chain, DispatchChain, DispatchRule, Jump, ServiceChain
from hairpin.state.nftables import NftChain, NftElement
from hairpin.state.sysctl import Sysctl

if TYPE_CHECKING:
    from hairpin.present.rules import Held

_Place = tuple[str, str, str]  # family, table, chain

_SETS = re.compile(r"(?:--match-set |@)([^\s}]+)")
_TARGET = re.compile(r"(?:-j (?=KUBE-)|jump |goto )(\S+)")
_BESIDE = {"service-nodeports": "nodeport-ips", "no-endpoint-nodeports": "nodeport-ips"}
"""What rules ask together with a set of node ports: which addresses have them."""
_LOCALHOST, _LOOPBACK = "KUBE-FIREWALL", "127.0.0.0/8"
"""A chain that is there for node ports on 127.0.0.1 alone, and what a rule of such a one says."""


def way(own: Sequence[Held], frame: Sequence[Held]) -> list[Held]:
    """Of the frame what the Service's packets meet; its chains without rules that let them by."""
    met = _Met([one.object for one in own])
    left = [one for one in frame if met.may(one.object)]
    while True:  # a chain that goes takes along what leads to it, and what it alone leads to
        met.chains = met.own | {place for one in left if (place := _place(one.object)) is not None}
        met.led = {place for one in [*own, *left] for place in _led(one.object)}
        trimmed = [
            msgspec.structs.replace(one, object=thing)
            for one in left
            if (thing := met.trimmed(one.object)) is not None
        ]
        if len(trimmed) == len(left):
            return trimmed
        left = trimmed


class _Met:
    """What a packet to the Service can meet, by what is the Service's own.

    ``chains``: its own and those of the frame that something is left in; ``led``: what any of
    these leads to.
    """

    def __init__(self, own: Sequence[Object]) -> None:
        self.own = {place for one in own if (place := _place(one)) is not None}
        self.chains = self.led = self.own
        self._families = set(_families(own))
        self._sets = {one.set for one in own if isinstance(one, SetEntry | NftElement)}
        self._sets |= {_BESIDE[name] for name in self._sets & _BESIDE.keys()}
        self._localhost = any(
            isinstance(one, DispatchRule) and _LOOPBACK in one.rule for one in own
        )

    def may(self, thing: Object) -> bool:
        """Whether it can be on the way at all."""
        match thing:
            case Link():
                return True
            case Sysctl(name=name):
                return not name.startswith("net.netfilter.")  # connection tracking's times
            case NftElement(set=name, family=family):
                return name in self._sets and family in self._families
            case Chain(name=name, family=family) if name == _LOCALHOST:
                return self._localhost and family in self._families
            case Chain() | DispatchChain() | NftChain() | Jump():
                return thing.family in self._families
        return False

    def trimmed(self, thing: Object) -> Object | None:
        """What is for the Service; None where nothing is."""
        match thing:
            case Chain() | DispatchChain() | NftChain(hook=None) if _place(thing) not in self.led:
                return None
            case Chain(rules=rules):
                some = tuple(one for one in rules if self._meets(thing, iptables.line("", one)))
                return msgspec.structs.replace(thing, rules=some) if some else None
            case NftChain(rules=statements):
                left = tuple(one for one in statements if self._meets(thing, rule_text(one)))
                return msgspec.structs.replace(thing, rules=left) if left else None
            case DispatchChain(last=last):
                rest = tuple(one for one in last if self._meets(thing, one))
                kept = rest or _place(thing) in self.own
                return msgspec.structs.replace(thing, last=rest) if kept else None
            case Jump(family=family, table=table, to=to):
                return thing if (family, table, to) in self.chains else None
        return thing

    def _meets(self, chain: Chain | NftChain | DispatchChain, rule: str) -> bool:
        """Whether a rule of that chain does anything to the Service's packets."""
        places = ((chain.family, chain.table, name) for name in _TARGET.findall(rule))
        return self._sets.issuperset(_SETS.findall(rule)) and self.chains.issuperset(places)


def _led(thing: Object) -> Iterator[_Place]:
    """The chains that an object leads to."""
    match thing:
        case Jump(family=family, table=table, to=to):
            yield family, table, to
        case NftElement(family=family, table=table, verdict=verdict) if verdict is not None:
            yield family, table, verdict.chain
        case Chain() | ServiceChain() | DispatchChain() | DispatchRule() | NftChain():
            for target in _TARGET.findall("\n".join(_texts(thing))):
                yield thing.family, thing.table, target.rstrip(",")


def _texts(
    thing: Chain | ServiceChain | DispatchChain | DispatchRule | NftChain,
) -> Iterable[str]:
    """Its rules as they are read."""
    match thing:
        case Chain(rules=rules):
            return [iptables.line("", one) for one in rules]
        case NftChain(rules=statements):
            return [rule_text(one) for one in statements]
        case ServiceChain(rules=lines) | DispatchChain(last=lines):
            return lines
        case DispatchRule(rule=rule):
            return [rule]


def _place(thing: Object) -> _Place | None:
    """Of a chain, or of a rule in one that many have rules in."""
    match thing:
        case Chain() | ServiceChain() | DispatchChain() | NftChain():
            return thing.family, thing.table, thing.name
        case DispatchRule(family=family, table=table, chain=chain):
            return family, table, chain
    return None


def _families(own: Iterable[Object]) -> Iterator[str]:
    for one in own:
        if isinstance(one, SetEntry):
            yield "ip6" if one.set.startswith("KUBE-6-") else "ip"
        elif isinstance(one, ServiceChain | DispatchRule | NftChain | NftElement):
            yield one.family
