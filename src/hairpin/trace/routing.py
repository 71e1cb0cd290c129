"""What a namespace's routing says of a packet: policy rules in their order, then the tables.

As fib_rules_lookup() and fib_lookup() do (net/core/fib_rules.c, net/ipv4/fib_trie.c): the first
rule whose table has a route decides; in a table the longest prefix, then the smallest metric.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from hairpin.model.address import IP
from hairpin.state.circumstances import MAIN, Circumstances, Path, Policy
from hairpin.trace.observation import Place

REFUSALS = ("blackhole", "unreachable", "prohibit")
_USUAL = (0, 32766, 32767)  # priorities of the rules that each namespace begins with


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided.  ``path`` None and ``verdict`` empty: no route.

    ``policy`` is the rule that led there; ``usual``: it is one that each namespace has.
    """

    verdict: str = ""
    path: Path | None = None
    policy: Policy | None = None

    @property
    def usual(self) -> bool:
        return self.policy is None or self.policy.priority in _USUAL


def decide(
    place: Place, source: IP | None, destination: IP, link_in: str = "", mark: int = 0
) -> Decision | None:
    """What becomes of such a packet; None where that cannot be told.

    ``link_in`` is where it came in, as routes see it; empty: it is the namespace's own.  ``mark``
    is its fwmark, as far as it is known.
    """
    around = place.around
    if around is None:
        return None
    for policy in sorted(around.policies, key=lambda one: one.priority):
        if policy.version != destination.version:
            continue
        if policy.narrow:
            return None
        if not _matches(policy, source, destination, link_in, mark):
            continue
        if policy.action != "lookup":
            return Decision(verdict=policy.action, policy=policy)
        path = best(around, policy.table, destination, _up(place))
        if path is None or path.type == "throw":
            continue
        return Decision(verdict=path.type, path=path, policy=policy)
    return Decision()


def best(around: Circumstances, table: int, address: IP, up: set[str]) -> Path | None:
    """The route of a table that is taken; those of links that are down are none."""
    fitting = [
        one
        for one in around.paths
        if one.table == table
        and one.to.version == address.version
        and address in one.to
        and (one.link is None or one.link in up)
    ]
    return max(fitting, key=lambda one: (one.to.prefixlen, -one.metric), default=None)


def marking(place: Place) -> Iterator[Policy]:
    """The rules that ask for a mark."""
    for policy in place.around.policies if place.around is not None else ():
        if policy.mark and policy.action in ("lookup", *REFUSALS):
            yield policy


def _up(place: Place) -> set[str]:
    return {link.name for link in place.links if link.up}


def _matches(policy: Policy, source: IP | None, destination: IP, link_in: str, mark: int) -> bool:
    fits = (
        (policy.source is None or (source is not None and source in policy.source))
        and (policy.destination is None or destination in policy.destination)
        and (policy.link_in is None or policy.link_in == (link_in or "lo"))
        and (not policy.mark or mark & policy.mask == policy.mark)
    )
    return fits != policy.inverted


def said_path(path: Path) -> str:
    """As ``ip route`` takes it."""
    words: list[str] = [] if path.type == "unicast" else [path.type]
    words.append("default" if path.to.prefixlen == 0 else str(path.to))
    if path.via is not None:
        words += ["via", str(path.via)]
    if path.link is not None and path.type in ("unicast", "local"):
        words += ["dev", path.link]
    if path.table != MAIN:
        words += ["table", str(path.table)]
    return " ".join(words)


def said_policy(policy: Policy) -> str:
    """As ``ip rule`` takes it, without the priority."""
    words = ["not"] if policy.inverted else []
    if policy.source is not None or policy.destination is None:
        words += ["from", str(policy.source) if policy.source is not None else "all"]
    if policy.destination is not None:
        words += ["to", str(policy.destination)]
    if policy.link_in is not None:
        words += ["iif", policy.link_in]
    if policy.mark:
        mask = f"/{policy.mask:#x}" if policy.mask != 0xFFFFFFFF else ""
        words += ["fwmark", f"{policy.mark:#x}{mask}"]
    words += ["lookup", str(policy.table)] if policy.action == "lookup" else [policy.action]
    return " ".join(words)
