"""nftables mode: the tables ``ip kube-proxy`` and ``ip6 kube-proxy``.

Not compared, as no packet cares: comments, the order of a random choice, counters, what packets
themselves put into affinity sets.  A chain without rules that nothing leads to is one that
kube-proxy takes away a moment later.
"""

from __future__ import annotations

from collections.abc import Iterator

from hairpin.audit import nftables_words as words
from hairpin.audit.case import Case, differing, many, split
from hairpin.audit.held import Held
from hairpin.audit.nftables_chain import chains
from hairpin.audit.nftables_element import elements
from hairpin.audit.nftables_mends import add_set, kind_of, set_anew, whole_table
from hairpin.audit.nftables_seen import Table, command, endpoint_owner
from hairpin.audit.owners import named
from hairpin.audit.report import Differs, Finding
from hairpin.plan import nft_names as names
from hairpin.plan.owner import PROXY
from hairpin.state.nftables import (
    NftChain,
    NftElement,
    NftSet,
    NftTable,
)

_KINDS = (NftTable, NftSet, NftChain, NftElement)
_MARKING = "mark-for-masquerade"
_SET = ("types", "verdicts", "timeout")


def judge(case: Case) -> Iterator[Finding]:
    """Both tables, if they could be read."""
    if not case.held.knows("nftables"):
        return
    wanted = case.wanted(*_KINDS)
    for family in ("ip", "ip6"):
        own = {key: one for key, one in wanted.items() if key[1] == family}
        seen = [one for one in case.held.nftables if one.family == family]
        yield from _judge(Table(case, family, own, seen))
    yield from _others(case)


def older(held: Held) -> bool:
    """Whether an older kube-proxy made the tables: one that marks packets in a chain of its own
    (1.31 does), and chooses, marks and masquerades by other rules than 1.36.  Its sets and maps
    have the same names and elements."""
    return any(isinstance(one, NftChain) and one.name == _MARKING for one in held.nftables)


def _others(case: Case) -> Iterator[Finding]:
    """Tables of the proxy's name in families that no proxy uses."""
    for one in case.held.nftables:
        if not isinstance(one, NftTable) or one.family in ("ip", "ip6"):
            continue
        inside = [
            each
            for each in case.held.nftables
            if not isinstance(each, NftTable) and each.family == one.family
        ]
        hooked = any(isinstance(each, NftChain) and each.hook is not None for each in inside)
        yield Finding(
            what="extra",
            subject=f"table {one.family} {one.name}, {many(len(inside), 'object')} in it",
            object=one,
            owner=PROXY,
            consequence="Packets meet its rules as well, which no proxy wrote."
            if hooked
            else "No packet comes there: none of its chains hangs on a hook.",
            mend=(f"nft delete table {one.family} {one.name}",),
            count=1 + len(inside),
        )


def _judge(table: Table) -> Iterator[Finding]:
    if not table.wanted:
        return
    there = next((one for one in table.seen if isinstance(one, NftTable)), None)
    if there is None:
        yield _no_table(table)
        return
    if there.dormant:
        yield _dormant(table)
    if older(table.case.held):
        table.gone.add(names.HAIRPIN_CONNECTIONS)
        yield from _sets(table)
    else:
        yield from _sets(table)
        yield from chains(table)
    yield from elements(table)


def _no_table(table: Table) -> Finding:
    (want,) = table.of(NftTable).values()
    owners = dict.fromkeys(one.owner for one in table.wanted.values() if one.owner != PROXY)
    return Finding(
        what="missing",
        subject=f"table {table.at}, {many(len(table.wanted) - 1, 'object')} in it",
        object=want.object,
        owner=PROXY,
        shared=tuple(owners),
        consequence="Packets to Services of this IP version go by the node's routes, and reach "
        "nobody.",
        mend=tuple(whole_table(table)),
    )


def _dormant(table: Table) -> Finding:
    (want,) = table.of(NftTable).values()
    return Finding(
        what="wrong",
        subject=f"table {table.at}",
        object=want.object,
        owner=PROXY,
        differs=(Differs("dormant", "yes", "no"),),
        consequence="None of its rules counts: packets to Services of this IP version go by the "
        "node's routes, and reach nobody.",
        mend=(f"nft add table {table.at}",),
    )


def _sets(table: Table) -> Iterator[Finding]:
    wanted = table.of(NftSet)
    seen = [one for one in table.seen if isinstance(one, NftSet)]
    missing, both, extra = split(wanted, seen)
    for want in missing:
        one = want.object
        assert isinstance(one, NftSet)
        if one.name in table.gone:
            continue
        table.gone.add(one.name)
        inside = table.inside(one.name)
        yield Finding(
            what="missing",
            subject=f"{kind_of(one)} {table.at} {one.name}, {many(len(inside), 'element')}",
            object=one,
            owner=want.owner,
            shared=tuple(dict.fromkeys(each.owner for each in inside)),
            consequence=words.no_set(one.name),
            mend=(command(add_set(table, one, inside)),),
        )
    for want, have in both:
        assert isinstance(want.object, NftSet)
        if odd := differing(have, want.object, _SET):
            yield Finding(
                what="wrong",
                subject=f"{kind_of(want.object)} {table.at} {have.name}",
                object=want.object,
                owner=want.owner,
                differs=odd,
                consequence=words.wrong_set(have, want.object),
                mend=set_anew(table, want.object, have),
            )
            table.gone.add(have.name)  # what is in it comes with it
    for have in extra:
        yield Finding(
            what="extra",
            subject=f"{kind_of(have)} {table.at} {have.name}",
            object=have,
            owner=named(have.name) or endpoint_owner(have.name) or PROXY,
            consequence="No rule of the proxy looks it up: packets do not care.",
            mend=(f"nft delete {kind_of(have)} {table.at} {have.name}",),
        )
        table.gone.add(have.name)
