"""Changes to the tables of nftables mode."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import msgspec

from hairpin.state.nftables import (
    Hook,
    Match,
    NftChain,
    NftElement,
    NftObject,
    NftRule,
    NftSet,
    RandomDnat,
    Target,
    Verdict,
)
from tests.audit.play import ANY, Mutant, Play, swap

_FORWARD = Hook(type="filter", hook="forward", priority=0)


def _nft(play: Play, *kinds: type) -> tuple[int, Any]:
    """One of what is wanted: dynamic sets' elements are nobody's."""
    found = [
        at
        for at, one in enumerate(play.case.held.nftables)
        if isinstance(one, kinds) and one.key in play.wanted
    ]
    at = play.random.choice(found)
    return at, play.case.held.nftables[at]


def _changed(
    play: Play, kind: str, verb: str, thing: object, owners: Sequence[str], at: int, *new: NftObject
) -> Mutant:
    return play.made(kind, verb, thing, owners, nftables=swap(play.case.held.nftables, at, *new))


def element(play: Play) -> Mutant | None:
    at, one = _nft(play, NftElement)
    owner = [play.wanted[one.key]]
    for part in one.of:
        if hasattr(part, "packed"):
            owner += play.case.owners.users(part)
    verb = play.random.choice(("remove", "add", "alter"))
    if verb == "remove":
        return _changed(play, "nft-element", verb, one, owner, at)
    if verb == "alter":
        if one.verdict is None:
            return None
        other = Verdict("drop") if one.verdict.kind != "drop" else Verdict("goto", "reject-chain")
        new = msgspec.structs.replace(one, verdict=other)
        return _changed(play, "nft-element", verb, new, owner, at, new)
    if isinstance(one.of[-1], int):
        of = (*one.of[:-1], play.random.randint(10000, 29999))
    else:
        of = (ip_address(int(one.of[0]) + 700),)
    new = msgspec.structs.replace(one, of=of)
    return _changed(
        play, "nft-element", verb, new, [*owner, ANY] if len(of) == 1 else owner, at, one, new
    )


def nft_chain(play: Play) -> Mutant | None:
    at, one = _nft(play, NftChain)
    verb = play.random.choice(("remove", "flush", "add", "hook"))
    owner = [play.wanted[one.key]]
    if verb == "remove":
        return _changed(play, "nft-chain", verb, one.name, owner, at)
    if verb == "flush":
        return _changed(
            play, "nft-chain", verb, one.name, owner, at, msgspec.structs.replace(one, rules=())
        )
    if verb == "hook":
        if one.hook is None:
            return None
        hook = (
            msgspec.structs.replace(one.hook, policy="drop")
            if play.random.random() < 0.5
            else msgspec.structs.replace(one.hook, priority=one.hook.priority + 50)
        )
        return _changed(
            play, "nft-chain", verb, one.name, owner, at, msgspec.structs.replace(one, hook=hook)
        )
    name = "service-ABCDEFGH-gone/web/tcp/http"
    new = NftChain(
        family=one.family, table=one.table, name=name,
        rules=(NftRule((Verdict("drop"),)),),
        hook=_FORWARD if play.random.random() < 0.2 else None,
    )  # fmt: skip
    return _changed(play, "nft-chain", verb, name, ["service gone/web:http"], at, one, new)


def nft_rule(play: Play) -> Mutant | None:
    at, one = _nft(play, NftChain)
    if not one.rules:
        return None
    owner = [play.wanted[one.key]]
    number = play.random.randrange(len(one.rules))
    verb = play.random.choice(("remove", "add", "alter"))
    if verb == "remove":
        rules = swap(one.rules, number)
    elif verb == "add":
        rules = (
            *one.rules[:number],
            NftRule((Match(field="th dport", value=81), Verdict("drop"))),
            *one.rules[number:],
        )
    else:
        rules = swap(one.rules, number, _nft_altered(play, one.rules[number]))
    if one.name == "cluster-ips-check" and not play.case.node.service_cidrs:
        return None  # what the manifests do not say is not judged
    return _changed(
        play,
        "nft-rule",
        verb,
        f"{one.name} {number}",
        owner,
        at,
        msgspec.structs.replace(one, rules=rules),
    )


def _nft_altered(play: Play, rule: NftRule) -> NftRule:
    *others, last = rule.statements
    if isinstance(last, RandomDnat):
        targets = list(last.targets)
        way = play.random.choice(("drop", "port", "add"))
        if way == "drop" and len(targets) > 1:
            targets.pop()
        elif way == "port":
            targets[0] = Target(targets[0].ip, targets[0].port + 1)
        else:
            targets.append(Target(ip_address(int(targets[0].ip) + 66), targets[0].port))
        return NftRule((*others, RandomDnat(targets=tuple(targets))), rule.comment)
    return NftRule((*others, Verdict("accept")), rule.comment)


def nft_set(play: Play) -> Mutant | None:
    at, one = _nft(play, NftSet)
    owner = [play.wanted[one.key]]
    if one.timeout and play.random.random() < 0.5:
        new = msgspec.structs.replace(one, timeout=one.timeout + 60)
        return _changed(play, "nft-set", "alter", one.name, owner, at, new)
    kept = tuple(
        each
        for each in play.case.held.nftables
        if each is not one
        and not (
            isinstance(each, NftElement) and each.set == one.name and each.family == one.family
        )
    )
    return play.made("nft-set", "remove", one.name, owner, nftables=kept)


def nft_table(play: Play) -> Mutant | None:
    if play.random.random() < 0.7:
        return None  # there are but two
    family = play.random.choice(("ip", "ip6"))
    kept = tuple(one for one in play.case.held.nftables if one.family != family)
    return play.made("nft-table", "remove", family, ["proxy"], nftables=kept)
