"""Changes of nf_tables objects as commands of nft(8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import get_args

from hairpin.present.nft import element_text, hook_text, set_properties
from hairpin.present.nft_statement import rule_text, value_text
from hairpin.state.change import Change
from hairpin.state.nftables import NftChain, NftElement, NftObject, NftSet, NftTable


class _Stage(IntEnum):
    """In which order a transaction goes: what is led to is there before what leads to it."""

    TABLE_GONE = 0
    TABLE = 1
    SET = 2
    CHAIN = 3
    RULES = 4
    ELEMENT = 5
    ELEMENT_GONE = 6
    CHAIN_EMPTY = 7
    CHAIN_GONE = 8
    SET_GONE = 9


def transaction(changes: Iterable[Change]) -> list[str]:
    """All changes of nf_tables objects as the lines of one file for ``nft -f``.

    The kernel takes all of it or nothing.  Changes of other objects are passed over.
    """
    staged: list[tuple[_Stage, str]] = []
    for change in changes:
        if isinstance(change.object, get_args(NftObject)):
            staged += _staged(change.object, change)
    return [line for _, line in sorted(staged, key=lambda one: one[0])]


def _staged(thing: NftObject, change: Change) -> Iterator[tuple[_Stage, str]]:
    removed = change.verb == "remove"
    match thing:
        case NftTable():
            yield (_Stage.TABLE_GONE if removed else _Stage.TABLE), script(thing, change)
        case NftSet() if removed:
            yield _Stage.SET_GONE, script(thing, change)
        case NftSet():
            yield _Stage.SET, _made(thing)
        case NftElement():
            stage = _Stage.ELEMENT_GONE if removed else _Stage.ELEMENT
            for line in _element(thing, change):
                yield stage, line
        case NftChain():
            where = _chain_name(thing)
            if removed:
                yield _Stage.CHAIN_EMPTY, f"flush chain {where}"
                yield _Stage.CHAIN_GONE, f"delete chain {where}"
                return
            before = change.before
            if isinstance(before, NftChain) and before.hook != thing.hook:
                yield _Stage.CHAIN, f"flush chain {where}"
                yield _Stage.CHAIN, f"delete chain {where}"
            yield _Stage.CHAIN, f"add chain {where}{_block(thing)}"
            yield _Stage.RULES, f"flush chain {where}"
            for rule in thing.rules:
                yield _Stage.RULES, f"add rule {where} {rule_text(rule)}"


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
            words = [*again, _made(thing)]
        case NftElement():
            words = _element(thing, change)
        case NftChain():
            words = _chain(thing, change)
    return "; ".join(words)


def _set(one: NftSet) -> str:
    return f"{'map' if one.verdicts else 'set'} {one.family} {one.table} {one.name}"


def _made(one: NftSet) -> str:
    return f"add {_set(one)} {{ {'; '.join(set_properties(one))}; }}"


def _element(one: NftElement, change: Change) -> list[str]:
    where = f"element {one.family} {one.table} {one.set}"
    gone = f"delete {where} {{ {' . '.join(map(value_text, one.of))} }}"
    if change.verb == "remove":
        return [gone]
    made = f"add {where} {{ {element_text(one)} }}"
    return [gone, made] if change.verb == "set" else [made]


def _chain(one: NftChain, change: Change) -> list[str]:
    where = _chain_name(one)
    if change.verb == "remove":
        return [f"flush chain {where}", f"delete chain {where}"]
    before = change.before
    words = []
    if isinstance(before, NftChain) and before.hook != one.hook:
        words = [f"flush chain {where}", f"delete chain {where}"]
    words += [f"add chain {where}{_block(one)}", f"flush chain {where}"]
    return words + [f"add rule {where} {rule_text(rule)}" for rule in one.rules]


def _chain_name(one: NftChain) -> str:
    return f"{one.family} {one.table} {one.name}"


def _block(one: NftChain) -> str:
    """What the chain hangs on, or else its comment."""
    said = hook_text(one.hook).rstrip(";") if one.hook is not None else ""
    said = f'comment "{one.comment}"' if one.comment else said
    return f" {{ {said}; }}" if said else ""
