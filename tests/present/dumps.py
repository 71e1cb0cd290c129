"""Recorded dumps as state values."""

from __future__ import annotations

from hairpin.kernel.iptables_script import parse_save
from hairpin.state.netfilter import Chain, Family, Jump


def chains_of(text: str, family: Family) -> list[Chain | Jump]:
    """The chains of kube-proxy in what iptables-save printed, and the jumps that lead there."""
    found: list[Chain | Jump] = []
    for (table, name), rules in parse_save(text, family).chains.items():
        if name.startswith("KUBE-"):
            found.append(Chain(table=table, name=name, rules=tuple(rules), family=family))
            continue
        for rule in rules:
            match rule:
                case ("-m", "comment", "--comment", comment, "-j", to):
                    found.append(
                        Jump(table=table, chain=name, to=to, comment=comment, family=family)
                    )
                case _:
                    raise AssertionError(f"{rule} in {table} {name} is no jump")
    return found
