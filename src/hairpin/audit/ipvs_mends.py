"""How a set that is otherwise becomes what it should be, while rules look it up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from hairpin.audit.case import Case, add, remove
from hairpin.audit.layout import Layout
from hairpin.audit.rules_seen import Tables
from hairpin.present.iptables_save import Place, Spec
from hairpin.state.change import Wanted
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.netfilter import Family

_NEW = "hairpin-new"


def made_anew(case: Case, want: Wanted, seen: IpSet, inside: Sequence[Wanted]) -> tuple[str, ...]:
    """The commands that make a set anew with what is to be in it.

    The kernel swaps two sets of one type and family in an instant (``ip_set_swap`` in
    net/netfilter/ipset).  Of another one the rules that look it up must go before it can.
    """
    one = want.object
    assert isinstance(one, IpSet)
    if (seen.type, seen.family) == (one.type, one.family):
        return (
            *add(_as(want, one)),
            *(line for each in inside for line in add(_as(each, each.object))),
            f"ipset swap {_NEW} {one.name}",
            f"ipset destroy {_NEW}",
        )
    rules = list(_looking_up(case, seen.name))
    return (
        *(tables.command(place, "-D", spec) for tables, place, _, spec in rules),
        *remove(seen),
        *add(want),
        *(line for each in inside for line in add(each)),
        *(tables.command(place, "-I", spec, at) for tables, place, at, spec in rules),
    )


def _as(want: Wanted, one: object) -> Wanted:
    """The same in the set that is made beside it."""
    if isinstance(one, IpSet):
        return msgspec.structs.replace(want, object=msgspec.structs.replace(one, name=_NEW))
    assert isinstance(one, SetEntry)
    return msgspec.structs.replace(want, object=msgspec.structs.replace(one, set=_NEW))


def _looking_up(case: Case, name: str) -> Iterator[tuple[Tables, Place, int, Spec]]:
    """The rules that hold on to a set, and their numbers: put back in this order, they stand where
    they stood."""
    families: tuple[Family, ...] = ("ip", "ip6")
    for family in families:
        tables = Tables(case, family, Layout((), family))
        for place, specs in tables.seen.chains.items():
            for at, spec in enumerate(specs, 1):
                if "--match-set" in spec and name in spec:
                    yield tables, place, at, spec
