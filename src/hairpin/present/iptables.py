"""Chains and rules as ``iptables-save`` (1.8.9, either variant) prints them.

Chains that a table is born with come first, others by name; rules stand under them in the order in
which they are asked.  The dates are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hairpin.state.netfilter import Chain, ChainPolicy, Family, Jump, Rule, Table

Object = Chain | ChainPolicy | Jump | Rule

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
        words.append(_quoted(word) if before in _QUOTED_AFTER else word)
        before = word
    return " ".join(words)


def _table(table: Table, objects: Sequence[Object]) -> Iterator[str]:
    policies = {one.chain: one.target for one in objects if isinstance(one, ChainPolicy)}
    rules: dict[str, list[Sequence[str]]] = {chain: [] for chain in BUILT_IN[table]}
    own = {one.name: one.rules for one in objects if isinstance(one, Chain)}
    own |= {one.chain: () for one in objects if isinstance(one, Rule) and one.chain not in rules}
    rules |= {name: list(own[name]) for name in sorted(own)}
    # Jumps are at the head, whoever else has rules there.
    for kind in (Jump, Rule):
        for one in objects:
            if isinstance(one, kind):
                rules[one.chain].append(one.spec)
    yield f"*{table}"
    for chain in rules:
        target = policies.get(chain, "ACCEPT") if chain in BUILT_IN[table] else "-"
        yield f":{chain} {target} [0:0]"
    for chain, specs in rules.items():
        for spec in specs:
            yield line(chain, spec)
    yield "COMMIT"


def _quoted(word: str) -> str:
    if _UNQUOTED.fullmatch(word):
        return word
    return '"' + re.sub(r"([\"\\'])", r"\\\1", word) + '"'
