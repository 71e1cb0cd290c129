"""Changes of nf_tables objects as commands of nft(8)."""

from __future__ import annotations

from hairpin.present.nft import element_text, hook_text, set_properties
from hairpin.present.nft_statement import rule_text, value_text
from hairpin.state.change import Change
from hairpin.state.nftables import NftChain, NftElement, NftObject, NftSet, NftTable


def script(thing: NftObject, change: Change) -> str:
    """What ``nft`` is told, commands with ``; `` between them: they are one transaction."""
    removed = change.verb == "remove"
    match thing:
        case NftTable():
            said = f' {{ comment "{thing.comment}"; }}' if thing.comment and not removed else ""
            verb = "delete" if removed else "add"
            words = [f"{verb} table {thing.family} {thing.name}{said}"]
        case NftSet() if removed:
            words = [f"delete {_set(thing)}"]
        case NftSet():
            again = [f"delete {_set(thing)}"] if change.verb == "set" else []
            words = [*again, f"add {_set(thing)} {{ {'; '.join(set_properties(thing))}; }}"]
        case NftElement():
            words = _element(thing, change)
        case NftChain():
            words = _chain(thing, change)
    return "; ".join(words)


def _set(one: NftSet) -> str:
    return f"{'map' if one.verdicts else 'set'} {one.family} {one.table} {one.name}"


def _element(one: NftElement, change: Change) -> list[str]:
    where = f"element {one.family} {one.table} {one.set}"
    gone = f"delete {where} {{ {' . '.join(map(value_text, one.of))} }}"
    if change.verb == "remove":
        return [gone]
    made = f"add {where} {{ {element_text(one)} }}"
    return [gone, made] if change.verb == "set" else [made]


def _chain(one: NftChain, change: Change) -> list[str]:
    where = f"{one.family} {one.table} {one.name}"
    if change.verb == "remove":
        return [f"flush chain {where}", f"delete chain {where}"]
    before = change.before
    words = []
    if isinstance(before, NftChain) and before.hook != one.hook:
        words = [f"flush chain {where}", f"delete chain {where}"]
    said = hook_text(one.hook).rstrip(";") if one.hook is not None else ""
    said = f'comment "{one.comment}"' if one.comment else said
    block = f" {{ {said}; }}" if said else ""
    words += [f"add chain {where}{block}", f"flush chain {where}"]
    return words + [f"add rule {where} {rule_text(rule)}" for rule in one.rules]
