"""Chains and rules as ``iptables-save`` (1.8.9, either variant) prints them.

Chains that a table is born with come first, others by name; rules stand under them in the order in
which they are asked.  The dates are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hairpin.state.netfilter import (
    Chain,
    ChainPolicy,
    DispatchChain,
    DispatchRule,
    Family,
    Jump,
    Rule,
    ServiceChain,
    Table,
)

Object = Chain | ChainPolicy | Jump | Rule | ServiceChain | DispatchChain | DispatchRule
KINDS = (Chain, ChainPolicy, Jump, Rule, ServiceChain, DispatchChain, DispatchRule)

BUILT_IN: Mapping[Table, tuple[str, ...]] = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
"""The chains of each table that always exist, in the order in which they are printed."""

_QUOTED_AFTER = frozenset(("--comment", "--log-prefix", "--nflog-prefix"))
_UNQUOTED = re.compile(r"[-_0-9A-Za-z]+")  # xtables_save_string, libxtables/xtables.c


def save(objects: Iterable[Object], family: Family) -> str:
    """The tables of one family that something is in."""
    tables: dict[Table, list[Object]] = {}
    for one in objects:
        if one.family == family:
            tables.setdefault(one.table, []).append(one)
    found = [line for table in BUILT_IN if table in tables for line in _table(table, tables[table])]
    return "".join(f"{line}\n" for line in found)


def line(chain: str, spec: Sequence[str]) -> str:
    """``-A CHAIN …``: one rule."""
    words = ["-A", chain]
    before = ""
    for word in spec:
        if before in _QUOTED_AFTER:
            words.append(_quoted(word))
        elif before == "--nfacct-name":
            words.append(f" {word}")  # with two blanks (nfacct_save, libxt_nfacct.c)
        else:
            words.append(word)
        before = word
    return " ".join(words)


def _table(table: Table, objects: Sequence[Object]) -> Iterator[str]:
    policies = {one.chain: one.target for one in objects if isinstance(one, ChainPolicy)}
    rules: dict[str, list[str]] = {chain: [] for chain in BUILT_IN[table]}
    own: dict[str, list[str]] = {}
    for one in objects:
        if isinstance(one, Chain):
            own[one.name] = [line(one.name, spec) for spec in one.rules]
        elif isinstance(one, ServiceChain):
            own[one.name] = [f"-A {one.name} {rule}" for rule in one.rules]
        elif isinstance(one, DispatchChain):
            own.setdefault(one.name, [])
        elif isinstance(one, Rule | DispatchRule) and one.chain not in rules:
            own.setdefault(one.chain, [])
    rules |= {name: own[name] for name in sorted(own)}
    # Jumps are at the head, whoever else has rules there.
    for kind in (Jump, Rule, DispatchRule, DispatchChain):
        for one in objects:
            if isinstance(one, kind):
                _add(rules, one)
    yield f"*{table}"
    for chain in rules:
        target = policies.get(chain, "ACCEPT") if chain in BUILT_IN[table] else "-"
        yield f":{chain} {target} [0:0]"
    for lines in rules.values():
        yield from lines
    yield "COMMIT"


def _add(rules: dict[str, list[str]], one: Jump | Rule | DispatchRule | DispatchChain) -> None:
    if isinstance(one, DispatchChain):
        rules[one.name] += [f"-A {one.name} {rule}" for rule in one.last]
    elif isinstance(one, DispatchRule):
        rules[one.chain].append(f"-A {one.chain} {one.rule}")
    else:
        rules[one.chain].append(line(one.chain, one.spec))


def _quoted(word: str) -> str:
    if _UNQUOTED.fullmatch(word):
        return word
    return '"' + re.sub(r"([\"\\'])", r"\\\1", word) + '"'
