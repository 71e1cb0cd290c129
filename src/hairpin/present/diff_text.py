"""Changes for people, a line or a few for each: + what is to be made, - what is to go, ~ what is
to become otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import unified_diff

import msgspec

from hairpin.model.address import to_builtin
from hairpin.present import iptables
from hairpin.present.nft_statement import rule_text, verdict_text
from hairpin.present.phrase import Shape, phrase
from hairpin.state.change import Change, Object
from hairpin.state.netfilter import Chain, ServiceChain
from hairpin.state.nftables import NftChain, NftElement

_SIGNS = {"add": "+", "remove": "-", "set": "~"}
_COLOURS = {"+": "32", "-": "31", "~": "33"}


def diff_lines(changes: Iterable[tuple[Change, str]], *, colour: bool = False) -> Iterator[str]:
    """``+ virtual server TCP 10.96.0.1:80, rr  (service default/web: its ClusterIP)``.

    Each Change comes with its owner's text, "" for nobody.
    """
    for one, owner in changes:
        sign = _SIGNS[one.verb]
        why = ": ".join(text for text in (owner, one.reason) if text)
        reason = f"  ({why})" if why else ""
        yield _coloured(f"{sign} {_what(one)}{reason}", sign, colour)
        if isinstance(one.object, Chain | ServiceChain | NftChain):
            before = _lines(one.before)
            after = [] if one.verb == "remove" else _lines(one.object)
            if one.verb == "remove":
                before = _lines(one.object)
            for line in _rules(before, after):
                yield _coloured(f"    {line}", line[0], colour)


def _what(one: Change) -> str:
    after = _shape(one.object)
    if one.before is None:
        return phrase(after)
    before = _shape(one.before)
    if after.get("in_place") and not before.get("in_place"):
        return f"{phrase(after)}, was not at its place in the chain"
    changed = [name for name in after if after[name] != before.get(name)]
    if isinstance(one.object, Chain | ServiceChain | NftChain):
        return phrase(after)
    if isinstance(one.before, NftElement) and one.before.verdict and changed == ["verdict"]:
        return f"{phrase(after)}, was {verdict_text(one.before.verdict)}"
    was = ", ".join(
        _value(before.get(name))
        if name == "value"
        else f"{_words(name)} {_value(before.get(name))}"
        for name in changed
    )
    return f"{phrase(after)}, was {was}" if was else phrase(after)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _value(value: object) -> str:
    if value is None or value in ([], ""):
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict):
        return " ".join(f"{name} {_value(inner)}" for name, inner in value.items() if inner)
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _shape(thing: object) -> Shape:
    shape: Shape = msgspec.to_builtins(thing, enc_hook=to_builtin)
    return shape


def _lines(chain: Object | None) -> list[str]:
    """The rules of a chain as iptables-save or nft list ruleset prints them."""
    if isinstance(chain, ServiceChain):
        return [f"-A {chain.name} {rule}" for rule in chain.rules]
    if isinstance(chain, Chain):
        return [iptables.line(chain.name, rule) for rule in chain.rules]
    if isinstance(chain, NftChain):
        return [rule_text(rule) for rule in chain.rules]
    return []


def _rules(was: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    """The rules that differ, + and -."""
    for line in list(unified_diff(was, now, n=0, lineterm=""))[2:]:
        if not line.startswith("@@"):
            yield f"{line[0]} {line[1:]}"


def _coloured(line: str, sign: str, colour: bool) -> str:
    return f"\033[{_COLOURS[sign]}m{line}\033[0m" if colour else line
