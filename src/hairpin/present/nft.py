"""nf_tables objects as ``nft list ruleset`` prints them: nft(8) 1.0.6 to the letter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from hairpin.model.address import IP
from hairpin.present.nft_statement import rule_text, value_text, verdict_text
from hairpin.state.base import KernelObject
from hairpin.state.nftables import Hook, NftChain, NftElement, NftSet, NftTable, Value

_PRIORITIES: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "raw": (-300, ()),
    "mangle": (-150, ()),
    "dstnat": (-100, ("prerouting",)),
    "filter": (0, ()),
    "security": (50, ()),
    "srcnat": (100, ("postrouting",)),
}
"""The names of priorities, and the only hooks where they have that name; none means all."""
_NEAR = 10  # how far from a named priority nft still says it by that name
_PROTOCOLS: Mapping[str, int] = {"TCP": 6, "UDP": 17, "SCTP": 132}
_TWO_A_LINE = ("ipv4_addr",)
_FIVE_A_LINE = ("inet_proto", "inet_service", "mark")

_Place = tuple[str, str]


def listing(objects: Iterable[KernelObject]) -> str:
    """Tables with what is in them, in their order; elements sorted as nft sorts them.

    Of objects of other kinds nothing is said, nor of what is in no table among them.
    """
    tables: dict[_Place, NftTable] = {}
    sets: dict[_Place, list[NftSet]] = {}
    chains: dict[_Place, list[NftChain]] = {}
    elements: dict[tuple[str, str, str], list[NftElement]] = {}
    for one in objects:
        match one:
            case NftTable():
                tables[one.family, one.name] = one
            case NftSet():
                sets.setdefault((one.family, one.table), []).append(one)
            case NftChain():
                chains.setdefault((one.family, one.table), []).append(one)
            case NftElement():
                elements.setdefault((one.family, one.table, one.set), []).append(one)
    lines: list[str] = []
    for at, table in tables.items():
        blocks = [
            list(set_lines(one, elements.get((*at, one.name), ()))) for one in sets.get(at, ())
        ]
        blocks += [list(chain_lines(one)) for one in chains.get(at, ())]
        lines += _table(table, blocks)
    return "".join(f"{line}\n" for line in lines)


def chain_lines(chain: NftChain) -> Iterator[str]:
    """``chain x { … }`` as it stands in its table."""
    yield f"\tchain {chain.name} {{"
    if chain.comment:
        yield f'\t\tcomment "{chain.comment}"'
    if chain.hook is not None:
        yield f"\t\t{hook_text(chain.hook)}"
    for rule in chain.rules:
        yield f"\t\t{rule_text(rule)}"
    yield "\t}"


def set_lines(one: NftSet, elements: Iterable[NftElement]) -> Iterator[str]:
    """``set x { … }`` or ``map x { … }`` as it stands in its table."""
    yield f"\t{'map' if one.verdicts else 'set'} {one.name} {{"
    for line in set_properties(one):
        yield f"\t\t{line}"
    texts = [element_text(each) for each in sorted(elements, key=_order)]
    if texts:
        many = _a_line(one)
        rows = [", ".join(texts[at : at + many]) for at in range(0, len(texts), many)]
        between = ",\n\t\t\t     "
        yield f"\t\telements = {{ {between.join(rows)} }}"
    yield "\t}"


def set_properties(one: NftSet) -> Iterator[str]:
    """``type ipv4_addr``, ``flags dynamic,timeout`` and what else says what a set is."""
    to = " : verdict" if one.verdicts else ""
    yield f"type {' . '.join(one.types)}{to}"
    if one.size:
        yield f"size {one.size}"
    flags = (("interval", one.interval), ("dynamic", one.dynamic), ("timeout", bool(one.timeout)))
    if said := ",".join(name for name, has in flags if has):
        yield f"flags {said}"
    if one.timeout:
        yield f"timeout {time_text(one.timeout)}"
    if one.comment:
        yield f'comment "{one.comment}"'


def element_text(one: NftElement) -> str:
    """``10.96.0.1 . tcp . 443 comment "default/kubernetes:https" : goto reject-chain``."""
    text = " . ".join(map(value_text, one.of))
    if one.comment:
        text += f' comment "{one.comment}"'
    return f"{text} : {verdict_text(one.verdict)}" if one.verdict is not None else text


def hook_text(hook: Hook) -> str:
    """``type nat hook prerouting priority dstnat; policy accept;``."""
    priority = _priority(hook.priority, hook.hook)
    return f"type {hook.type} hook {hook.hook} priority {priority}; policy {hook.policy};"


def time_text(seconds: int) -> str:
    """``1d``, ``3h``, ``1m30s``; 0 is ``0s``."""
    words = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, seconds = divmod(seconds, size)
        if count:
            words.append(f"{count}{unit}")
    return "".join(words) or "0s"


def _table(table: NftTable, blocks: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"table {table.family} {table.name} {{"
    if table.dormant:
        yield "\tflags dormant"
    if table.comment:
        yield f'\tcomment "{table.comment}"'
    for number, block in enumerate(blocks):
        if number:
            yield ""
        yield from block
    yield "}"


def _priority(number: int, hook: str) -> str:
    for name, (named, hooks) in _PRIORITIES.items():
        by = number - named
        if abs(by) <= _NEAR and (not hooks or hook in hooks):
            return name if not by else f"{name} {'+' if by > 0 else '-'} {abs(by)}"
    return str(number)


def _a_line(one: NftSet) -> int:
    if len(one.types) > 1 or one.verdicts:
        return 1
    if one.types[0] in _TWO_A_LINE:
        return 2
    return 5 if one.types[0] in _FIVE_A_LINE else 1


def _order(one: NftElement) -> int:
    """nft compares single keys as numbers, and of several parts the bytes from the last on."""
    if len(one.of) == 1:
        return int.from_bytes(_bytes(one.of[0]), "big")
    return int.from_bytes(b"".join(map(_padded, one.of)), "little")


def _padded(value: Value) -> bytes:
    data = _bytes(value)
    return data + bytes(-len(data) % 4)  # each part begins at a register


def _bytes(value: Value) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(2 if value < 1 << 16 else 4, "big")
    if isinstance(value, str):
        number = _PROTOCOLS.get(value)
        return bytes((number,)) if number is not None else value.encode()
    return value.packed if isinstance(value, IP) else value.network_address.packed
