"""How a table or a set of nftables mode becomes what it should be: lines for the shell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hairpin.audit.nftables_seen import Table, command
from hairpin.present.nft import element_text, hook_text, set_lines
from hairpin.present.nft_statement import rule_text
from hairpin.state.change import Wanted
from hairpin.state.nftables import NftChain, NftElement, NftSet


def kind_of(one: NftSet) -> str:
    """The word that nft has for it."""
    return "map" if one.verdicts else "set"


def add_set(table: Table, one: NftSet, inside: Sequence[Wanted] = ()) -> str:
    """What makes a set with what is in it."""
    elements = [each.object for each in inside if isinstance(each.object, NftElement)]
    _, *lines, _ = (line.strip() for line in set_lines(one, elements))
    body = "; ".join(lines).replace(",; ", ", ")
    return f"add {kind_of(one)} {table.at} {one.name} {{ {body}; }}"


def set_anew(table: Table, one: NftSet, seen: NftSet) -> tuple[str, ...]:
    """In one transaction: no packet meets rules without it."""
    flushed = [
        chain.name for chain in table.seen if isinstance(chain, NftChain) and _asks(chain, one)
    ]
    chains = [
        want.object
        for want in table.of(NftChain).values()
        if isinstance(want.object, NftChain) and want.object.name in flushed
    ]
    return (
        command(
            "; ".join(
                (
                    *(f"flush chain {table.at} {name}" for name in flushed),
                    f"delete {kind_of(seen)} {table.at} {seen.name}",
                    add_set(table, one, table.inside(one.name)),
                    *(line for chain in chains for line in _rules(table, chain)),
                )
            )
        ),
    )


def whole_table(table: Table) -> Iterator[str]:
    """What is led to comes before what leads there."""
    yield command(f"add table {table.at}")
    wanted = [one.object for one in table.wanted.values()]
    sets = [one for one in wanted if isinstance(one, NftSet)]
    chains = [one for one in wanted if isinstance(one, NftChain)]
    for each in sets:
        yield command(add_set(table, each))
    for chain in chains:
        hook = f" {{ {hook_text(chain.hook)} }}" if chain.hook is not None else ""
        yield command(f"add chain {table.at} {chain.name}{hook}")
    for one in wanted:
        if isinstance(one, NftElement):
            yield command(f"add element {table.at} {one.set} {{ {element_text(one)} }}")
    for chain in chains:
        if chain.rules:
            yield command("; ".join(_rules(table, chain)))


def _asks(chain: NftChain, one: NftSet) -> bool:
    return any(f"@{one.name}" in rule_text(rule).split() for rule in chain.rules)


def _rules(table: Table, chain: NftChain) -> Iterator[str]:
    for rule in chain.rules:
        yield f"add rule {table.at} {chain.name} {rule_text(rule)}"
