"""Changes to chains, rules and jumps of iptables."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from hairpin.present.iptables_save import Place, Printed, Spec
from hairpin.state.ipset import SetEntry
from hairpin.state.netfilter import (
    Chain,
    DispatchChain,
    DispatchRule,
    Family,
    Jump,
    ServiceChain,
)
from tests.audit.play import Mutant, Play, swap


def _printed(play: Play) -> tuple[Family, Printed, dict[Place, set[str]]]:
    """A family's tables, and who has rules in each chain that the plan has."""
    family: Family = play.random.choice(("ip", "ip6"))
    owners: dict[Place, set[str]] = {}
    for one in play.case.plan:
        match one.object:
            case Chain() | ServiceChain() | DispatchChain() as chain if chain.family == family:
                owners.setdefault((chain.table, chain.name), set()).add(one.owner)
            case DispatchRule() as rule if rule.family == family:
                owners.setdefault((rule.table, rule.chain), set()).add(one.owner)
    return family, play.case.held.tables[family], owners


def with_rules(
    play: Play, family: Family, place: Place, rules: Sequence[Spec] | None
) -> dict[str, Any]:
    printed = play.case.held.tables[family]
    chains = dict(printed.chains)
    if rules is None:
        del chains[place]
    else:
        chains[place] = list(rules)
    tables = dict(play.case.held.tables)
    tables[family] = Printed(chains, printed.policies)
    return {"tables": tables}


def rule(play: Play) -> Mutant | None:
    family, printed, owners = _printed(play)
    places = [place for place in owners if printed.chains[place]]
    place = play.random.choice(places)
    rules = printed.chains[place]
    at = play.random.randrange(len(rules))
    verb = play.random.choice(("remove", "add", "alter", "order"))
    text = f"{family} {place} {rules[at]}"
    who = sorted(owners[place])
    if place[1] == "KUBE-IPVS-OUT-FILTER":  # all share it, each rule is a Service's
        who += play.case.owners.users(ip_network(rules[at][1]).network_address)
    if verb == "remove":
        if rules.count(rules[at]) > 1 or _nobody_notices(play, rules[at]):
            return None
        return play.made(
            "rule", verb, text, who, **with_rules(play, family, place, swap(rules, at))
        )
    if verb == "add":
        new = play.random.choice(
            (
                ("-j", "ACCEPT"),
                ("-p", "tcp", "-m", "tcp", "--dport", "81", "-j", "DROP"),
                ("-j", "RETURN"),
            )
        )
        if new in rules:
            return None
        changed = [*rules[:at], new, *rules[at:]]
        return play.made(
            "rule", verb, f"{text} + {new}", who, **with_rules(play, family, place, changed)
        )
    if verb == "order":
        if place[1] == "KUBE-IPVS-OUT-FILTER" or len(who) > 1 or len(rules) < 2:
            return None
        changed = list(rules)
        to = play.random.randrange(len(rules))
        if "--rcheck" in rules[at] and "--rcheck" in rules[to]:
            return None  # whichever set of clients is asked first
        changed[at], changed[to] = changed[to], changed[at]
        if changed == list(rules):
            return None
        named = {one.object.name for one in play.case.plan if isinstance(one.object, DispatchChain)}
        if place[1] in named:
            return None
        return play.made("rule", verb, text, who, **with_rules(play, family, place, changed))
    altered = _altered(play, rules[at])
    if altered == rules[at] or altered in rules:
        return None
    return play.made(
        "rule",
        verb,
        f"{text} -> {altered}",
        who,
        **with_rules(play, family, place, swap(rules, at, altered)),
    )


def _nobody_notices(play: Play, spec: Spec) -> bool:
    """Of a rule that only counts what the next one does as well (node ports at 127.0.0.1), and of
    one that looks up a set without entries and that kube-proxy 1.28 does not have."""
    if spec[:2] == ("-d", "127.0.0.0/8") and "--nfacct-name" in spec:
        return True
    name = next((word for word in spec if word.endswith("-EXTERNAL-IP-LOCAL")), None)
    inside = {one.set for one in play.case.held.sets if isinstance(one, SetEntry)}
    return spec[-1] == "RETURN" and name is not None and name not in inside


def _altered(play: Play, spec: Spec) -> Spec:
    """Another target, or another address, port, mark or probability."""
    at = play.random.randrange(len(spec))
    word = spec[at]
    before = spec[at - 1] if at else ""
    if before == "-j":
        return (*spec[:at], "ACCEPT" if word != "ACCEPT" else "DROP")
    if word.isdecimal():
        return (*spec[:at], str(int(word) + 1), *spec[at + 1 :])
    if before in ("-s", "-d") and "/" in word:
        network = ip_network(word)
        other = ip_address(
            int(network.network_address) + (1 << (network.max_prefixlen - network.prefixlen))
        )
        return (*spec[:at], f"{other}/{network.prefixlen}", *spec[at + 1 :])
    if before in ("--ctstate",):
        return (*spec[:at], "INVALID" if word != "INVALID" else "NEW", *spec[at + 1 :])
    return (*spec[:-1], "DROP") if spec[-1] not in ("DROP",) and spec[-2:-1] == ("-j",) else spec


def chain(play: Play) -> Mutant | None:
    family, printed, owners = _printed(play)
    if play.random.random() < 0.7:
        place = play.random.choice([*owners])
        text = f"{family} {place}"
        who = sorted(owners[place])
        for rule in printed.chains[place]:
            if rule[:1] == ("-s",):  # a Service's in a chain that all share
                who += play.case.owners.users(ip_network(rule[1]).network_address)
        if play.random.random() < 0.5:
            return play.made(
                "chain", "remove", text, [*who, "proxy"], **with_rules(play, family, place, None)
            )
        if not printed.chains[place]:
            return None
        return play.made(
            "chain", "flush", text, [*who, "proxy"], **with_rules(play, family, place, ())
        )
    if play.case.config.mode != "iptables":
        return None
    hashed = "".join(play.random.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16))
    place = ("nat", f"KUBE-{play.random.choice(('SVC', 'SEP', 'EXT'))}-{hashed}")
    rules = [("-m", "comment", "--comment", "gone/web:http", "-j", "RETURN")]
    return play.made(
        "chain",
        "add",
        f"{family} {place}",
        ["service gone/web:http"],
        **with_rules(play, family, place, rules),
    )


def jump(play: Play) -> Mutant | None:
    family: Family = play.random.choice(("ip", "ip6"))
    jumps = [
        one.object
        for one in play.case.plan
        if isinstance(one.object, Jump) and one.object.family == family
    ]
    one = play.random.choice(jumps)
    place = (one.table, one.chain)
    rules = play.case.held.tables[family].chains[place]
    at = rules.index(one.spec)
    verb = play.random.choice(("remove", "hide", "alter", "double"))
    changed: Sequence[Spec]
    match verb:
        case "remove":
            changed = swap(rules, at)
        case "hide":
            changed = [*rules[:at], ("-j", "ACCEPT"), *rules[at:]]
        case "double":
            changed = [*rules, one.spec]
        case _:
            changed = swap(rules, at, ("-p", "udp", *one.spec))
    return play.made(
        "jump",
        verb,
        f"{family} {place} {one.to}",
        ["proxy", ""],
        **with_rules(play, family, place, changed),
    )
