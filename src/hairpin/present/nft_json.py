"""``nft -j list ruleset`` (nft 1.0.6 to 1.1) to values: kube-proxy's tables of it.

libnftables-json(5).  An expression that has no value of its own is kept as ``Opaque`` with its
JSON, so that what is otherwise than wanted can be told.  Comments of tables and chains are not
printed by these versions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from ipaddress import ip_address, summarize_address_range
from typing import Any

from hairpin.model.address import IP, Network, ip, network
from hairpin.state import nftables as nft
from hairpin.state.nftables import (
    Hook,
    NftChain,
    NftElement,
    NftObject,
    NftRule,
    NftSet,
    NftTable,
    Statement,
    Value,
    Verdict,
)

TABLE = "kube-proxy"
_PROTOCOLS = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP"}
Shape = dict[str, Any]


class NftJsonError(ValueError):
    """What is not as ``nft -j list ruleset`` prints it, and where."""


def parse(text: str, table: str = TABLE) -> list[NftObject]:
    """The tables of that name, of any family, with all that is in them.

    Raises json.JSONDecodeError, NftJsonError.
    """
    document = json.loads(text)
    rows = document.get("nftables") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise NftJsonError('line 1: no list "nftables"')
    found: list[NftObject] = []
    chains: dict[tuple[str, str], int] = {}
    rules: dict[tuple[str, str], list[NftRule]] = {}
    for number, row in enumerate(rows):
        try:
            ((kind, one),) = row.items()
            if kind == "table" and one["name"] == table:
                dormant = "dormant" in (one.get("flags") or ())
                found.append(NftTable(family=_text(one["family"]), name=table, dormant=dormant))
            if kind == "metainfo" or one.get("table") != table:
                continue
            if kind == "chain":
                chains[_text(one["family"]), _text(one["name"])] = len(found)
                found.append(_chain(one))
            elif kind in ("set", "map"):
                found += _set(one, verdicts=kind == "map")
            elif kind == "element":  # of nft monitor and of -j list map, one by one
                continue
            elif kind == "rule":
                made = NftRule(tuple(_statements(one["expr"])), _text(one.get("comment", "")))
                rules.setdefault((_text(one["family"]), _text(one["chain"])), []).append(made)
        except (LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
            said = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            raise NftJsonError(f"nftables[{number}]: {said}: {_short(row)}") from None
    for place, own in rules.items():
        if place not in chains:
            continue
        at = chains[place]
        chain = found[at]
        assert isinstance(chain, NftChain)
        found[at] = _with_rules(chain, own)
    return found


def _with_rules(chain: NftChain, rules: list[NftRule]) -> NftChain:
    return NftChain(
        family=chain.family,
        table=chain.table,
        name=chain.name,
        rules=tuple(rules),
        hook=chain.hook,
        comment=chain.comment,
    )


def _text(value: Any) -> Any:
    """Raises ValueError for what is no text."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _short(row: object) -> str:
    text = json.dumps(row, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else f"{text[:119]}…"


def _chain(one: Shape) -> NftChain:
    hook = None
    if "hook" in one:
        hook = Hook(
            type=one["type"],
            hook=one["hook"],
            priority=int(one["prio"]),
            policy=one.get("policy", "accept"),
        )
    return NftChain(
        family=_text(one["family"]),
        table=_text(one["table"]),
        name=_text(one["name"]),
        hook=hook,
        comment=_text(one.get("comment", "")),
    )


def _set(one: Shape, *, verdicts: bool) -> Iterable[NftSet | NftElement]:
    types = one["type"]
    flags = one.get("flags") or ()
    made = NftSet(
        family=_text(one["family"]),
        table=_text(one["table"]),
        name=_text(one["name"]),
        types=tuple(types) if isinstance(types, list) else (types,),
        verdicts=verdicts,
        interval="interval" in flags,
        dynamic="dynamic" in flags or "timeout" in flags,
        timeout=int(one.get("timeout", 0)),
        size=int(one.get("size", 0)),
        comment=_text(one.get("comment", "")),
    )
    yield made
    for element in one.get("elem") or ():
        key, data = element if verdicts else (element, None)
        comment = ""
        if isinstance(key, dict) and "elem" in key:
            key, comment = key["elem"]["val"], _text(key["elem"].get("comment", ""))
        yield NftElement(
            family=made.family,
            table=made.table,
            set=made.name,
            of=tuple(_key(key)),
            verdict=None if data is None else _verdict(data),
            comment=comment,
        )


def _key(key: Any) -> Iterable[Value]:
    parts = key["concat"] if isinstance(key, dict) and "concat" in key else [key]
    if not parts:
        raise ValueError("a key without parts")
    return [_value(part) for part in parts]


def _value(part: Any) -> Value:
    if isinstance(part, int):
        return part
    if isinstance(part, dict) and "prefix" in part:
        return network(f"{part['prefix']['addr']}/{part['prefix']['len']}")
    if not isinstance(part, str):
        raise ValueError("a value of a kind that is not known")
    if part in _PROTOCOLS:
        return _PROTOCOLS[part]
    try:
        return ip(part)
    except ValueError:
        return str(part)


def _values(part: Any) -> list[Value]:
    """One value, or those that a range is made of."""
    if isinstance(part, dict) and "range" in part:
        first, last = (ip_address(end) for end in part["range"])
        return [_whole(one) for one in summarize_address_range(first, last)]
    return [_value(part)]


def _whole(one: Network) -> IP | Network:
    return one.network_address if one.prefixlen == one.max_prefixlen else one


def _verdict(data: Shape) -> Verdict:
    ((kind, to),) = data.items()
    match kind:
        case "accept" | "drop" | "return":
            return Verdict(kind)
        case "jump" | "goto":
            return Verdict(kind, _text(to["target"]))
    raise ValueError(f"no verdict is {kind}")


def _statements(expressions: Iterable[Shape]) -> Iterable[Statement]:
    for one in expressions:
        try:
            yield _statement(one)
        except (LookupError, ValueError, TypeError, AttributeError, OverflowError):
            ((name, _),) = one.items()
            yield nft.Opaque(name=name, data=json.dumps(one, sort_keys=True).encode())


def _statement(one: Shape) -> Statement:
    ((kind, what),) = one.items()
    match kind:
        case "accept" | "drop" | "return" | "jump" | "goto":
            return _verdict(one)
        case "match":
            return _match(what)
        case "vmap":
            return _vmap(what)
        case "mangle":
            return _mangle(what)
        case "reject":
            said = what or {}
            if (
                said.get("expr", "port-unreachable") != "port-unreachable"
                or said.get("type") == "tcp reset"
            ):
                raise ValueError("another reject")
            return nft.Reject()
        case "masquerade":
            flags = (what or {}).get("flags", ())
            return nft.Masquerade(fully_random="fully-random" in flags)
        case "dnat":
            return _dnat(what)
        case "set":
            if what["op"] != "update":
                raise ValueError("another set statement")
            return nft.UpdateSet(set=what["set"].lstrip("@"), field=_field(what["elem"]))
        case "counter":
            return nft.Counter()
    raise ValueError(f"no statement {kind}")


def _match(what: Shape) -> Statement:
    left, right = what["left"], what["right"]
    negated = what["op"] == "!="
    if not negated and what["op"] not in ("==", "in"):
        raise ValueError("another operator")
    if isinstance(right, str) and right.startswith("@"):
        return nft.InSet(fields=_fields(left), set=right[1:], negated=negated)
    if isinstance(left, dict) and "&" in left:
        inner, mask = left["&"]
        return nft.Match(field=_field(inner), value=_value(right), negated=negated, mask=int(mask))
    if isinstance(left, dict) and "numgen" in left:
        numgen = left["numgen"]
        if numgen["mode"] != "random" or numgen.get("offset") or right != 0 or negated:
            raise ValueError("another numgen")
        return nft.Chance(of=int(numgen["mod"]))
    field = _field(left)
    if field == "meta mark" and isinstance(right, dict) and "prefix" in right:
        bits = int(right["prefix"]["len"])  # a mask of the first bits
        mask = (1 << 32) - (1 << 32 - bits)
        return nft.Match(field=field, value=right["prefix"]["addr"], negated=negated, mask=mask)
    if isinstance(right, dict) and "set" in right:
        values = [value for part in right["set"] for value in _values(part)]
        return nft.OneOf(field=field, values=tuple(values), negated=negated)
    if isinstance(right, list):
        return nft.Match(field=field, value=",".join(map(str, right)), negated=negated)
    return nft.Match(field=field, value=_value(right), negated=negated)


def _vmap(what: Shape) -> Statement:
    key, data = what["key"], what["data"]
    if isinstance(key, dict) and "numgen" in key:
        _plain_random(key["numgen"], data)
        verdicts = [_verdict(one) for _, one in sorted(data["set"], key=lambda pair: int(pair[0]))]
        return nft.RandomVerdict(verdicts=tuple(verdicts))
    return nft.VerdictMap(fields=_fields(key), map=data.lstrip("@"))


def _plain_random(numgen: Shape, data: Shape) -> None:
    """Raises ValueError where not every number of it leads somewhere, each to one place."""
    numbers = sorted(int(number) for number, _ in data["set"])
    if numgen["mode"] != "random" or numbers != list(range(int(numgen["mod"]))):
        raise ValueError("another numgen")


def _mangle(what: Shape) -> Statement:
    value = what["value"]
    if what["key"] != {"meta": {"key": "mark"}} or not isinstance(value, dict):
        raise ValueError("another mangle")
    (((operator, (left, bits))),) = value.items()
    if left != {"meta": {"key": "mark"}} or operator not in ("|", "^", "&"):
        raise ValueError("another mangle")
    return nft.SetMark(operator=operator, bits=int(bits))


def _dnat(what: Shape) -> Statement:
    address = what["addr"]
    if isinstance(address, str):
        return nft.Dnat(ip=ip(address), port=int(what["port"]))
    made: Mapping[str, Any] = address["map"]
    _plain_random(made["key"]["numgen"], made["data"])
    targets = [
        nft.Target(ip(one["concat"][0]), int(one["concat"][1]))
        for _, one in sorted(made["data"]["set"], key=lambda pair: int(pair[0]))
    ]
    return nft.RandomDnat(targets=tuple(targets))


def _fields(left: Shape) -> tuple[nft.Field, ...]:
    return tuple(_field(one) for one in left.get("concat", [left]))


def _field(one: Shape) -> nft.Field:
    ((kind, what),) = one.items()
    if kind == "fib":
        flags = what["flags"]
        name = f"fib {flags if isinstance(flags, str) else ' '.join(flags)} {what['result']}"
    elif kind == "payload":
        name = f"{what['protocol']} {what['field']}"
    else:
        name = f"{kind} {what['key']}"
    if name not in nft.Field.__args__:  # type: ignore[attr-defined]  # of Literal
        raise ValueError(f"no field {name}")
    return name  # type: ignore[return-value]
