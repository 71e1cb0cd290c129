"""Tracked connections as ``conntrack -L`` prints them and this reads them back.

The words of conntrack-tools 1.4: the protocol's name and number, seconds until the entry ends, of
TCP a state, then both directions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hairpin.model.address import ip
from hairpin.state.conntrack import Flow, Tuple

_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
_PAIR = re.compile(r"(\w+)=(\S+)")
_PROTOCOL = re.compile(r"(?:(?:ipv4|ipv6)\s+\d+\s+)?(\S+)\s+(\d+)\s")


class ConntrackError(ValueError):
    """A line that conntrack does not print, and which one it is."""


def save(flows: Iterable[Flow]) -> str:
    """A line for each; what is not known of an entry (timeout, state) is left out."""
    return "".join(f"{_line(flow)}\n" for flow in flows)


def parse(text: str) -> list[Flow]:
    """The entries with addresses and ports.  Raises ConntrackError with the line's number."""
    found: list[Flow] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith(("#", "conntrack v")):
            continue
        try:
            found.append(_flow(line))
        except ValueError as error:
            raise ConntrackError(f"line {number}: {error}") from None
    return found


def _line(flow: Flow) -> str:
    name = _NAMES.get(flow.protocol, "unknown")
    words = [f"{name:<8} {flow.protocol} 0"]
    for one in (flow.original, flow.reply):
        words.append(
            f"src={one.source} dst={one.destination} "
            f"sport={one.source_port} dport={one.destination_port}"
        )
    return " ".join([*words, f"mark={flow.mark}"])


def _flow(line: str) -> Flow:
    head = _PROTOCOL.match(line)
    if head is None:
        raise ValueError("no protocol")
    given: dict[str, list[str]] = {}
    for name, value in _PAIR.findall(line):
        given.setdefault(name, []).append(value)
    if len(given.get("src", ())) != 2 or len(given.get("dst", ())) != 2:
        raise ValueError("not two directions (src= dst=, twice)")
    return Flow(
        protocol=int(head[2]),
        original=_tuple(given, 0),
        reply=_tuple(given, 1),
        mark=int(given.get("mark", ["0"])[0], 0),
        zone=int(given.get("zone", ["0"])[0]),
    )


def _tuple(given: dict[str, list[str]], at: int) -> Tuple:
    ports = [given.get(name, ["0", "0"]) for name in ("sport", "dport")]
    source, destination = (int(each[at]) if len(each) > at else 0 for each in ports)
    return Tuple(ip(given["src"][at]), source, ip(given["dst"][at]), destination)
