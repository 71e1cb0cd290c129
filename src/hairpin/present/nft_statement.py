"""Rules of nf_tables as ``nft list ruleset`` prints them: nft(8) 1.0.6 to the letter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from hairpin.model.address import IP, Network
from hairpin.present.address import address_text
from hairpin.state.nftables import (
    Chance,
    Counter,
    Dnat,
    Field,
    InSet,
    Masquerade,
    Match,
    NftRule,
    OneOf,
    Opaque,
    RandomDnat,
    RandomVerdict,
    Reject,
    SetMark,
    SetTrace,
    Statement,
    UpdateSet,
    Value,
    Verdict,
    VerdictMap,
)

_NAMES = {"meta iifname": "iifname", "meta oifname": "oifname"}
_LINKS = frozenset(_NAMES)


def rule_text(rule: NftRule) -> str:
    """Its statements, and its comment."""
    words = [statement_text(one) for one in rule.statements]
    if rule.comment:
        words.append(f'comment "{rule.comment}"')
    return " ".join(words)


def statement_text(one: Statement) -> str:
    """``ip saddr != 10.0.0.0/8``; of one that is not told apart, its name in brackets."""
    match one:
        case Verdict():
            return verdict_text(one)
        case Match():
            return _match(one)
        case InSet(fields=fields, set=name, negated=negated):
            return f"{fields_text(fields)} {'!= ' if negated else ''}@{name}"
        case OneOf(field=field, values=values, negated=negated):
            listed = ", ".join(_spans(values))
            return f"{_name(field)} {'!= ' if negated else ''}{{ {listed} }}"
        case VerdictMap(fields=fields, map=name):
            return f"{fields_text(fields)} vmap @{name}"
        case Chance(of=of):
            return f"{_random(of)} 0"
        case RandomVerdict(verdicts=verdicts):
            return f"{_random(len(verdicts))} vmap {{ {_numbered(map(verdict_text, verdicts))} }}"
        case RandomDnat(targets=targets):
            listed = _numbered(f"{address_text(each.ip)} . {each.port}" for each in targets)
            to = "ip" if targets[0].ip.version == 4 else "ip6"
            return f"dnat {to} to {_random(len(targets))} map {{ {listed} }}"
        case Dnat(ip=ip, port=port):
            text = address_text(ip)
            return f"dnat to {f'[{text}]' if ip.version == 6 else text}:{port}"
        case UpdateSet(set=name, field=field):
            return f"update @{name} {{ {_name(field)} }}"
        case SetMark(operator=operator, bits=bits):
            return f"meta mark set meta mark {operator} {bits:#010x}"
        case Masquerade(fully_random=fully_random):
            return "masquerade fully-random" if fully_random else "masquerade"
        case Reject():
            return "reject"
        case Counter():
            return "counter"
        case SetTrace():
            return "meta nftrace set 1"
        case Opaque(name=name):
            return f"({name})"
        case _:
            assert_never(one)


def verdict_text(verdict: Verdict) -> str:
    """``drop``, ``goto reject-chain``."""
    return f"{verdict.kind} {verdict.chain}" if verdict.chain else verdict.kind


def fields_text(fields: Iterable[Field]) -> str:
    """``ip daddr . meta l4proto . th dport``."""
    return " . ".join(map(_name, fields))


def value_text(value: Value) -> str:
    """A part of a key: ``10.96.0.1``, ``10.0.0.0/8``, ``tcp``, ``80``."""
    if isinstance(value, IP):
        return address_text(value)
    if isinstance(value, Network):
        return f"{address_text(value.network_address)}/{value.prefixlen}"
    return value.lower() if value in ("TCP", "UDP", "SCTP") else str(value)


def _match(one: Match) -> str:
    field, name = one.field, _name(one.field)
    by = "!= " if one.negated else ""
    if field == "meta mark" and isinstance(one.value, int):
        if one.mask is None:
            return f"{name} {by}{one.value:#010x}"
        if prefix := _leading(one.mask):
            return f"{name} {by}{one.value:#010x}/{prefix}"
        return f"{name} & {one.mask:#010x} {by or '== '}{one.value:#010x}"
    text = f'"{one.value}"' if field in _LINKS else value_text(one.value)
    return f"{name} {by}{text}"


def _leading(mask: int) -> int:
    """How many bits a mask of 32 has if they are its first ones, which nft prints as a prefix; 0
    for any other mask, and for one of all bits, which is none."""
    bits = mask.bit_count()
    return bits if bits < 32 and mask == (1 << 32) - (1 << 32 - bits) else 0


def _name(field: Field) -> str:
    return _NAMES.get(field, field)


def _random(count: int) -> str:
    return f"numgen random mod {count}"


def _numbered(texts: Iterable[str]) -> str:
    return ", ".join(f"{number} : {text}" for number, text in enumerate(texts))


def _spans(values: Sequence[Value]) -> Iterator[str]:
    """The values; addresses and networks that touch are one range."""
    held: list[Value] = []  # that touch
    for value in values:
        if held and not _touch(held[-1], value):
            yield _span(held)
            held = []
        held.append(value)
    if held:
        yield _span(held)


def _touch(one: Value, other: Value) -> bool:
    if isinstance(one, IP | Network) and isinstance(other, IP | Network):
        return int(_ends(one)[1]) + 1 == int(_ends(other)[0])
    return False


def _span(held: Sequence[Value]) -> str:
    first, last = held[0], held[-1]
    if len(held) == 1 or not (isinstance(first, IP | Network) and isinstance(last, IP | Network)):
        return value_text(first)
    return f"{address_text(_ends(first)[0])}-{address_text(_ends(last)[1])}"


def _ends(one: IP | Network) -> tuple[IP, IP]:
    """Its first and last address."""
    return (one, one) if isinstance(one, IP) else (one.network_address, one.broadcast_address)
