"""nftables mode: the tables ``ip kube-proxy`` and ``ip6 kube-proxy``.

Not compared, as no packet cares: comments, the order of a random choice, counters, what packets
themselves put into affinity sets.  A chain without rules that nothing leads to is one that
kube-proxy takes away a moment later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hairpin.audit import nftables_words as words
from hairpin.audit.case import Case, differing, many, split
from hairpin.audit.nftables_chain import chains
from hairpin.audit.nftables_element import elements
from hairpin.audit.nftables_seen import Table, command, endpoint_owner
from hairpin.audit.owners import named
from hairpin.audit.report import Finding
from hairpin.plan.owner import PROXY
from hairpin.present.nft import set_lines
from hairpin.state.change import Wanted
from hairpin.state.nftables import (
    NftChain,
    NftElement,
    NftSet,
    NftTable,
)

_KINDS = (NftTable, NftSet, NftChain, NftElement)
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


def _judge(table: Table) -> Iterator[Finding]:
    if not table.wanted:
        return
    if not any(isinstance(one, NftTable) for one in table.seen):
        yield _no_table(table)
        return
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
        mend=("# the proxy makes it at its next full sync; restarting it is quickest",),
    )


def _sets(table: Table) -> Iterator[Finding]:
    wanted = table.of(NftSet)
    seen = [one for one in table.seen if isinstance(one, NftSet)]
    missing, both, extra = split(wanted, seen)
    for want in missing:
        one = want.object
        assert isinstance(one, NftSet)
        table.gone.add(one.name)
        inside = table.inside(one.name)
        yield Finding(
            what="missing",
            subject=f"{_kind(one)} {table.at} {one.name}, {many(len(inside), 'element')}",
            object=one,
            owner=want.owner,
            shared=tuple(dict.fromkeys(each.owner for each in inside)),
            consequence=words.no_set(one.name),
            mend=(_add_set(table, one, inside),),
        )
    for want, have in both:
        assert isinstance(want.object, NftSet)
        if odd := differing(have, want.object, _SET):
            yield Finding(
                what="wrong",
                subject=f"{_kind(want.object)} {table.at} {have.name}",
                object=want.object,
                owner=want.owner,
                differs=odd,
                consequence=words.wrong_set(have, want.object),
                mend=(
                    "# rules that look it up must go first, and come again afterwards",
                    f"nft delete {_kind(have)} {table.at} {have.name}",
                    _add_set(table, want.object, table.inside(have.name)),
                ),
            )
    for have in extra:
        yield Finding(
            what="extra",
            subject=f"{_kind(have)} {table.at} {have.name}",
            object=have,
            owner=named(have.name) or endpoint_owner(have.name),
            consequence="No rule of the proxy looks it up: packets do not care.",
            mend=(f"nft delete {_kind(have)} {table.at} {have.name}",),
        )
        table.gone.add(have.name)


def _add_set(table: Table, one: NftSet, inside: Sequence[Wanted]) -> str:
    elements = [each.object for each in inside if isinstance(each.object, NftElement)]
    _, *lines, _ = (line.strip() for line in set_lines(one, elements))
    body = "; ".join(line for line in lines).replace(",; ", ", ")
    return command(f"add {_kind(one)} {table.at} {one.name} {{ {body} }}")


def _kind(one: NftSet) -> str:
    return "map" if one.verdicts else "set"
