"""Which object of those that are in the kernel for a Service led a packet to its endpoint."""

from __future__ import annotations

from collections.abc import Iterable

from hairpin.model.address import IP
from hairpin.state.change import Wanted
from hairpin.state.netfilter import Chain, ServiceChain
from hairpin.state.nftables import Dnat, NftChain, RandomDnat
from hairpin.trace.values import at


def dnat_by(wanted: Iterable[Wanted], netns: str, ip: IP, port: int) -> tuple[str, Wanted] | None:
    """The rule whose DNAT is to that endpoint, in words, and whose it is."""
    to = at(ip, port)
    for one in wanted:
        if one.netns != netns:
            continue
        match one.object:
            case ServiceChain(rules=lines) | Chain(rules=lines):
                for line in lines:
                    words = line.split() if isinstance(line, str) else list(line)
                    if "--to-destination" in words[:-1] and to in words:
                        return f"chain {one.object.name}: -j DNAT --to-destination {to}", one
            case NftChain(rules=rules):
                for rule in rules:
                    for statement in rule.statements:
                        if _leads(statement, ip, port):
                            return f"chain {one.object.name}: dnat to {to}", one
    return None


def _leads(statement: object, ip: IP, port: int) -> bool:
    match statement:
        case Dnat():
            return (statement.ip, statement.port) == (ip, port)
        case RandomDnat():
            return any((one.ip, one.port) == (ip, port) for one in statement.targets)
    return False
