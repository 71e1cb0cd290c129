"""How many rules of iptables a proxy has, for its metrics.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from hairpin.state.change import Object
from hairpin.state.netfilter import Chain, DispatchChain, DispatchRule, Jump, ServiceChain

_FAMILIES = {"ip": "IPv4", "ip6": "IPv6"}


def rules_wanted(objects: Iterable[Object]) -> dict[tuple[str, str], int]:
    """By table and IP family, tables without any left out."""
    found: dict[tuple[str, str], int] = {}
    for one in objects:
        if isinstance(one, DispatchRule | Jump):
            count = 1
        elif isinstance(one, ServiceChain | Chain):
            count = len(one.rules)
        elif isinstance(one, DispatchChain):
            count = len(one.last)
        else:
            continue
        place = (one.table, _FAMILIES[one.family])
        found[place] = found.get(place, 0) + count
    return found
