"""A plan for people: each Service with its frontends and endpoints, and why; then the frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from hairpin.model.address import to_builtin
from hairpin.plan.node import NodeFacts
from hairpin.plan.whole import WholePlan
from hairpin.present import iptables
from hairpin.present.colour import Paint
from hairpin.present.ipvsadm import endpoint
from hairpin.present.nft_statement import rule_text
from hairpin.present.phrase import phrase
from hairpin.present.story import EndpointTold, Frontend, PortTold, Told
from hairpin.present.table import table
from hairpin.state.change import Wanted
from hairpin.state.netfilter import Chain
from hairpin.state.nftables import NftChain

_KINDS = (
    ("virtual-server", "virtual server"),
    ("real-server", "real server"),
    ("address", "address"),
    ("ipset", "set"),
    ("set-entry", "set entry"),
    ("chain", "chain"),
    ("dispatch-chain", "shared chain"),
    ("service-chain", "chain of Services"),
    ("dispatch-rule", "rule to them"),
    ("nft-chain", "chain"),
    ("nft-set", "set or map"),
    ("nft-element", "element"),
)
"""What the first line counts, and the word for it."""
_PLURALS = {
    "entry": "entries",
    "address": "addresses",
    "chain of Services": "chains of Services",
    "rule to them": "rules to them",
    "set or map": "sets and maps",
}
_MODES = {"ipvs": "IPVS", "iptables": "iptables", "nftables": "nftables"}


def plan_text(
    told: Sequence[Told],
    found: WholePlan,
    node: NodeFacts,
    problems: Sequence[str],
    paint: Paint | None = None,
    mode: str = "ipvs",
) -> Iterator[str]:
    """Blocks, to be printed with an empty line between them."""
    yield _summary(told, found, node, mode)
    for one in told:
        if one.ports or one.sets:
            yield _service(one, paint)
    if unserved := [one for one in told if not (one.ports or one.sets)]:
        rows = [[_name(one), one.nothing] for one in unserved]
        yield "\n".join(
            ["Nothing in the kernel for:", *_indented(table(["", ""], rows, headed=False))]
        )
    yield _frame(found.frame)
    if problems:
        yield "\n".join([_titled("Problems:", paint), *(f"  {text}" for text in problems)])


def counts(wanted: Iterable[Wanted]) -> Counter[str]:
    """How many objects there are of each kind."""
    return Counter(str(one.object.key[0]) for one in wanted)


def _summary(told: Sequence[Told], wanted: WholePlan, node: NodeFacts, mode: str) -> str:
    number = counts(wanted)
    words = [_count(len(told), "Service")]
    words += [_count(number[kind], word) for kind, word in _KINDS if number[kind]]
    where = ", ".join(map(str, node.addresses)) or "no address"
    zone = f", zone {node.zone}" if node.zone else ""
    return f"Node {node.name} ({where}{zone}), {_MODES[mode]} mode: {', '.join(words)}"


def _count(number: int, word: str) -> str:
    if number == 1:
        return f"1 {word}"
    if word in _PLURALS:
        return f"{number} {_PLURALS[word]}"
    head, _, last = word.rpartition(" ")
    plural = _PLURALS.get(last, f"{last}s")
    return f"{number} {head} {plural}" if head else f"{number} {plural}"


def _name(one: Told) -> str:
    return f"{one.service.metadata.namespace}/{one.service.metadata.name}"


def _titled(text: str, paint: Paint | None) -> str:
    return f"\033[1m{text}\033[0m" if paint else text


def _service(one: Told, paint: Paint | None) -> str:
    lines = [f"{_titled(_name(one), paint)}  {one.service.spec.type}"]
    for port in one.ports:
        lines += _port(port, paint)
    if one.health is not None:
        ready = sum(one.health.local)
        here = f"{_count(ready, 'ready endpoint')} on this node"
        lines.append(f"  health check node port {one.health.port}: {here}")
    if one.sets:
        rows = [[each.set, str(each.entries), each.why] for each in one.sets]
        lines += _indented(table(["SET", "ENTRIES", "WHY"], rows, paint=paint))
    return "\n".join(lines)


def _port(port: PortTold, paint: Paint | None) -> list[str]:
    name = f"{port.name.port} " if port.name.port else ""
    lines = [f"  port {name}{port.port}/{port.name.protocol}"]
    rows = [_frontend(each) for each in port.frontends]
    header = ["FRONTEND", "ADDRESS", "ENDPOINTS", "WHY"]
    lines += _indented(table(header, rows, paint=paint), 4)
    if port.endpoints:
        rows = [_endpoint(each) for each in port.endpoints]
        lines += _indented(table(["ENDPOINT", "NODE", "TAKEN", "WHY"], rows, paint=paint), 4)
    else:
        lines.append("    no endpoints")
    return lines


def _frontend(one: Frontend) -> list[str]:
    chosen = f"{one.chosen} of {one.known}" if one.chosen else "none: refused"
    chosen = chosen if one.served else "-"
    return [one.kind, endpoint(one.ip, one.port), chosen, "; ".join([one.why, *one.notes])]


def _endpoint(one: EndpointTold) -> list[str]:
    taken = ",".join(one.by) if one.by else "yes" if one.taken else "no"
    node = f"{one.node or '<unknown>'}{' (here)' if one.local else ''}"
    return [endpoint(one.ip, one.port), node, taken, one.why]


def _frame(frame: Sequence[Wanted]) -> str:
    lines = ["For all Services:"]
    rows = []
    for one in frame:
        shape = msgspec.to_builtins(one.object, enc_hook=to_builtin)
        rows.append([phrase(shape), one.why])
        if isinstance(one.object, Chain):
            name = one.object.name
            rows += [[f"  {iptables.line(name, spec)}", ""] for spec in one.object.rules]
        if isinstance(one.object, NftChain):
            rows += [[f"  {rule_text(rule)}", ""] for rule in one.object.rules]
    # A rule may be longer than any line: it does not make the others' column wide.
    plain = [row for row in rows if row[1]]
    wide = table(["WHAT", "WHY"], plain).splitlines()
    lines.append(f"  {wide[0]}")
    rest = iter(wide[1:])
    lines += [f"  {next(rest) if row[1] else row[0]}" for row in rows]
    return "\n".join(lines)


def _indented(text: str, by: int = 2) -> list[str]:
    return [" " * by + line for line in text.splitlines()]
