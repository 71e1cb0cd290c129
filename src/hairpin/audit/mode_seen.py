"""Which mode's proxy made a kernel what it is: told from what is there."""

from __future__ import annotations

from hairpin.audit.held import Held
from hairpin.audit.ipvs import OUR_SETS
from hairpin.audit.names import hashed
from hairpin.model.configuration import Mode
from hairpin.plan.ipvs import LINK
from hairpin.plan.ipvs_rules import IPVS_FILTER
from hairpin.state.ipset import IpSet
from hairpin.state.nftables import NftChain


def modes_seen(held: Held) -> tuple[Mode, ...]:
    """The modes that have something there, the one with the most first.

    What each is told by is what it cannot be without: the sets and kube-ipvs0; the base chains of
    the table; a jump to KUBE-SERVICES in nat beside chains that only iptables mode makes.
    """
    found: dict[Mode, int] = {
        "ipvs": _ipvs(held),
        "nftables": _nftables(held),
        "iptables": _iptables(held),
    }
    there = [mode for mode, weight in found.items() if weight]
    return tuple(sorted(there, key=lambda mode: -found[mode]))


def _ipvs(held: Held) -> int:
    sets = sum(isinstance(one, IpSet) and one.name in OUR_SETS for one in held.sets)
    link = any(one.name == LINK for one in held.links)
    chains = [place for printed in held.tables.values() for place in printed.chains]
    if not sets and not link and ("filter", IPVS_FILTER) not in chains:
        return 0
    return len(held.servers) + sum(one.link == LINK for one in held.addresses) + sets + link


def _nftables(held: Held) -> int:
    """Every object of the tables."""
    base = any(isinstance(one, NftChain) for one in held.nftables)
    return len(held.nftables) if base else 0


def _iptables(held: Held) -> int:
    chains = [place for printed in held.tables.values() for place in printed.chains]
    own = [
        place
        for place in chains
        if hashed(place)
        or place in (("filter", "KUBE-EXTERNAL-SERVICES"), ("nat", "KUBE-NODEPORTS"))
    ]
    return len(own)
