"""Rules of nftables mode in one form, where several forms are the same to every packet.

kube-proxy chooses an endpoint by one lookup (``numgen random mod 3 map { … }``); hairpin may do so
by a rule for each (``numgen random mod 3 0 dnat to …``, one third, then one half of the rest), as
the kernel takes that faster where there are thousands of Services.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hairpin.model.address import Network
from hairpin.state.nftables import (
    Chance,
    Counter,
    Dnat,
    Match,
    NftRule,
    OneOf,
    RandomDnat,
    RandomVerdict,
    Statement,
    Target,
    Value,
    Verdict,
)


def plain(rule: NftRule) -> NftRule:
    """Without comment and counters; what is by chance in one order."""
    kept = (_in_order(one) for one in rule.statements if not isinstance(one, Counter))
    return NftRule(tuple(kept))


def merged(rules: Sequence[NftRule]) -> list[NftRule]:
    """The same with a row of chances at the end as one choice."""
    for start in range(len(rules)):
        found = _choice(rules[start:])
        if found is not None:
            return [*rules[:start], found]
    return list(rules)


def same(seen: Iterable[NftRule], wanted: Iterable[NftRule]) -> bool:
    """The same rules, the last of both the same."""
    left, right = list(seen), list(wanted)
    return left[-1:] == right[-1:] and sorted(map(repr, left)) == sorted(map(repr, right))


def dropped(rule: NftRule) -> list[Network]:
    """The networks of destinations that a rule drops, if that is all it does."""
    match rule.statements:
        case (Match(field="ip daddr" | "ip6 daddr", value=value, negated=False), Verdict("drop")):
            values: Sequence[Value] = (value,)
        case (OneOf(field="ip daddr" | "ip6 daddr", values=values, negated=False), Verdict("drop")):
            pass
        case _:
            return []
    return [one for one in values if isinstance(one, Network)]


def _in_order(one: Statement) -> Statement:
    match one:
        case RandomDnat(targets=targets):
            ordered = sorted(targets, key=lambda each: (int(each.ip), each.port))
            return RandomDnat(targets=tuple(ordered))
        case RandomVerdict(verdicts=verdicts):
            return RandomVerdict(verdicts=tuple(sorted(verdicts, key=lambda each: each.chain)))
        case Dnat(ip=ip, port=port):
            return RandomDnat(targets=(Target(ip, port),))
        case _:
            return one


def _choice(rules: Sequence[NftRule]) -> NftRule | None:
    """Rules of which each takes its share of what is left, the last all of it, as one rule."""
    if len(rules) < 2:
        return None
    before: set[tuple[Statement, ...]] = set()
    targets: list[Target] = []
    verdicts: list[Verdict] = []
    for left, rule in zip(range(len(rules), 0, -1), rules, strict=True):
        chances = [one for one in rule.statements if isinstance(one, Chance)]
        if [one.of for one in chances] != ([left] if left > 1 else []):
            return None
        *rest, last = (one for one in rule.statements if not isinstance(one, Chance))
        before.add(tuple(rest))
        match last:
            case RandomDnat(targets=(target,)):
                targets.append(target)
            case Verdict(kind="goto"):
                verdicts.append(last)
            case _:
                return None
    if len(before) != 1 or (targets and verdicts):
        return None
    whole: Statement = RandomVerdict(verdicts=tuple(verdicts))
    if targets:
        whole = RandomDnat(targets=tuple(targets))
    return NftRule((*before.pop(), _in_order(whole)))
