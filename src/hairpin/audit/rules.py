"""iptables, of IPVS mode and iptables mode: chains, their rules, and the jumps that lead there.

Rules are compared one by one, as words.  Their order counts in a chain that one owner has, and not
in one in which every ServicePort has a rule of its own; of jumps in built-in chains it is asked
only that they are there and that packets get to them, as CNI plugins put theirs before them.
"""

from __future__ import annotations

from collections.abc import Iterator

from hairpin.audit.case import Case
from hairpin.audit.held import TABLES
from hairpin.audit.layout import Layout
from hairpin.audit.names import is_ours
from hairpin.audit.report import Finding
from hairpin.audit.rules_chain import extra, goes_later, missing, ordered, unordered
from hairpin.audit.rules_jumps import jumps
from hairpin.audit.rules_seen import Tables
from hairpin.present import iptables
from hairpin.present.iptables_save import Place


def judge(case: Case) -> Iterator[Finding]:
    """Both families' tables, as far as they could be read."""
    wanted = list(case.plan)
    for family, part in TABLES.items():
        if case.held.knows(part):
            yield from _judge(Tables(case, family, Layout(wanted, family)))


def _judge(tables: Tables) -> Iterator[Finding]:
    mode = tables.case.config.mode
    tables.gone |= {
        place
        for place in tables.seen.chains
        if is_ours(place, mode, tables.family)
        and place not in tables.wanted.chains
        and not goes_later(tables, place)
    }
    for place, lines in tables.wanted.chains.items():
        if place not in tables.seen.chains:
            if tables.older(place):
                continue
            yield missing(tables, place, lines)
        elif place in tables.wanted.any_order:
            yield from unordered(tables, place, lines)
        else:
            yield from ordered(tables, place, lines)
    for place in sorted(tables.gone, key=_from_above):
        yield extra(tables, place, tables.seen.chains[place])
    places = {*tables.wanted.jumps, *(one for one in tables.seen.chains if _built_in(one))}
    for place in sorted(places):
        yield from jumps(tables, place, tables.wanted.jumps.get(place, []))


def _from_above(place: Place) -> tuple[int, Place]:
    """Chains that lead to others come before those: one that is led to cannot be removed."""
    last = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-")
    found = [at for at, prefix in enumerate(last, 1) if place[1].startswith(prefix)]
    return (found[0] if found else 0, place)


def _built_in(place: Place) -> bool:
    return place[1] in iptables.BUILT_IN.get(place[0], ())  # type: ignore[call-overload]
