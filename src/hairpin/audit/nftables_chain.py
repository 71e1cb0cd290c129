"""Chains of a proxy's nftables table."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from hairpin.audit import nftables_words as words
from hairpin.audit.case import split
from hairpin.audit.nftables_alike import dropped, merged, plain, same
from hairpin.audit.nftables_seen import Table, command, endpoint_owner
from hairpin.audit.owners import named
from hairpin.audit.report import Differs, Finding
from hairpin.plan import nft_names as names
from hairpin.plan.owner import PROXY
from hairpin.present.nft import hook_text
from hairpin.present.nft_statement import rule_text
from hairpin.state.change import Wanted
from hairpin.state.nftables import (
    NftChain,
    NftElement,
    NftRule,
    RandomVerdict,
    Verdict,
)

_ANY_ORDER = ("service-", "local-")  # of affinity: whose set knows the client leads to it


def chains(table: Table) -> Iterator[Finding]:
    """Chains that are missing, extra, or have other rules or another hook."""
    wanted = table.of(NftChain)
    seen = [one for one in table.seen if isinstance(one, NftChain)]
    missing, both, extra = split(wanted, seen)
    for want in missing:
        one = want.object
        assert isinstance(one, NftChain)
        yield Finding(
            what="missing",
            subject=f"chain {table.at} {one.name}",
            object=one,
            owner=want.owner,
            consequence=words.chain(one.name),
            mend=(_write(table, one, f"add chain {table.at} {one.name}{_hook(one)}"),),
        )
    for want, have in both:
        yield from _chain(table, want, have)
    led = _led_to(table)
    for have in extra:
        idle = not have.rules and have.hook is None and have.name not in led
        if idle and named(have.name):
            continue
        yield Finding(
            what="extra",
            subject=f"chain {table.at} {have.name}",
            object=have,
            owner=named(have.name) or endpoint_owner(have.name) or PROXY,
            consequence=words.extra_chain(have, have.name in led),
            mend=(
                command(f"flush chain {table.at} {have.name}"),
                command(f"delete chain {table.at} {have.name}"),
            ),
        )


def _led_to(table: Table) -> set[str]:
    found: set[str] = set()
    for one in table.seen:
        if isinstance(one, NftElement) and one.verdict is not None:
            found.add(one.verdict.chain)
        for rule in one.rules if isinstance(one, NftChain) else ():
            for each in rule.statements:
                if isinstance(each, Verdict):
                    found.add(each.chain)
                elif isinstance(each, RandomVerdict):
                    found |= {verdict.chain for verdict in each.verdicts}
    return found


def _chain(table: Table, want: Wanted, have: NftChain) -> Iterator[Finding]:
    one = want.object
    assert isinstance(one, NftChain)
    if have.hook != one.hook:
        yield Finding(
            what="wrong",
            subject=f"chain {table.at} {one.name}",
            object=one,
            owner=want.owner,
            differs=(Differs("hook", _hook_text(have), _hook_text(one)),),
            consequence=words.hook(one, have),
            mend=(
                command(f"flush chain {table.at} {one.name}"),
                command(f"delete chain {table.at} {one.name}"),
                _write(table, one, f"add chain {table.at} {one.name}{_hook(one)}"),
            ),
        )
    if one.name == names.CLUSTER_IPS_CHECK and not table.case.node.service_cidrs:
        yield from _unallocated(table, want, have)
    seen, wanted = _judged(table, have, one), _judged(table, one, one)
    if seen == wanted or (one.name.startswith(_ANY_ORDER) and same(seen, wanted)):
        return
    over = [rule for rule in seen if rule not in wanted]
    lost = [rule for rule in wanted if rule not in seen]
    odd = tuple(
        Differs("rule", _rule(left), _rule(right)) for left, right in zip_longest(over, lost)
    )
    if not odd:
        odd = (
            Differs("order of rules", "; ".join(map(_rule, seen)), "; ".join(map(_rule, wanted))),
        )
    yield Finding(
        what="wrong",
        subject=f"chain {table.at} {one.name}",
        object=one,
        owner=want.owner,
        differs=odd,
        consequence=words.wrong_chain(one.name, over, lost),
        mend=(_write(table, one, f"flush chain {table.at} {one.name}"),),
    )


def _unallocated(table: Table, want: Wanted, have: NftChain) -> Iterator[Finding]:
    """Of the rule that drops what is to no ClusterIP, where only the API server knows the
    cluster's networks: one family has it as well as the other, and no ClusterIP is outside."""
    version = 4 if table.family == "ip" else 6
    ips = [ip for ip in table.case.owners.cluster_ips if ip.version == version]
    networks = [one for rule in have.rules for one in dropped(plain(rule))]
    outside = [ip for ip in ips if not any(ip in one for one in networks)]
    elsewhere = any(
        dropped(plain(rule))
        for one in table.case.held.nftables
        if isinstance(one, NftChain) and one.name == names.CLUSTER_IPS_CHECK
        for rule in one.rules
    )
    if outside and elsewhere:
        said = ", ".join(map(str, networks)) or "none"
        yield Finding(
            what="wrong",
            subject=f"chain {table.at} {have.name}",
            object=have,
            owner=want.owner,
            differs=(Differs("networks that are dropped", said, "those of all ClusterIPs"),),
            consequence="Packets to addresses that no Service has leave by the node's routes.",
            mend=("# the proxy writes it anew when it is restarted",),
        )


def _judged(table: Table, chain: NftChain, want: NftChain) -> list[NftRule]:
    """Its rules as far as they are compared."""
    rules = merged([plain(rule) for rule in chain.rules])
    if want.name == names.CLUSTER_IPS_CHECK and not table.case.node.service_cidrs:
        # The API server knows the cluster's Service networks, manifests may not.
        rules = [rule for rule in rules if not dropped(rule)]
    return rules


def _write(table: Table, one: NftChain, first: str) -> str:
    lines = [first, *(f"add rule {table.at} {one.name} {rule_text(rule)}" for rule in one.rules)]
    return command("; ".join(lines))


def _hook(one: NftChain) -> str:
    return f" {{ {hook_text(one.hook)} }}" if one.hook is not None else ""


def _hook_text(one: NftChain) -> str:
    return hook_text(one.hook) if one.hook is not None else "none"


def _rule(rule: NftRule | None) -> str:
    return "" if rule is None else rule_text(rule)
