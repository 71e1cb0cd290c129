"""What ``iptables-save -c`` says, and which rules counted a packet between two of its outputs.

Rules that counted are where packets went; whether it was ours is told by what the rule matches,
as far as it is simple (addresses, protocol, port, link).  Others' packets may count too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator

import msgspec

from hairpin.model.address import IP, network
from hairpin.trace.values import Ends

_COUNTED = re.compile(r"\[(\d+):\d+\] -A (\S+) ?(.*)")
_CHAIN = re.compile(r":(\S+) (\S+) \[(\d+):\d+\]")


class SavedRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, or a chain's policy (``spec`` empty), with the packets it has counted.

    ``program`` is what writes it where that is not the plain iptables.  A rule of nf_tables has
    ``said`` and ``undone``, the commands that make it and take it away, ``does`` (DROP, REJECT,
    ACCEPT …) and its text as ``spec``.
    """

    table: str
    chain: str
    spec: str
    packets: int
    family: str = "ip"
    program: str = ""
    said: str = ""
    undone: str = ""
    does: str = ""

    @property
    def target(self) -> str:
        """What it does with a packet: ``DROP``, ``MASQUERADE``, a chain's name."""
        if self.does:
            return self.does
        if not self.spec:
            return self.policy
        words = self.words
        for flag in ("-j", "-g"):
            if flag in words[:-1]:
                return words[words.index(flag) + 1]
        return ""

    policy: str = ""

    @property
    def words(self) -> list[str]:
        """The rule's words, as a shell reads them."""
        return shlex.split(self.spec)

    @property
    def command(self) -> str:
        """``iptables -t filter -A INPUT -j DROP``, or ``-P`` of a policy."""
        if self.said:
            return self.said
        program = self.program or ("iptables" if self.family == "ip" else "ip6tables")
        if not self.spec:
            return f"{program} -t {self.table} -P {self.chain} {self.policy}"
        return f"{program} -t {self.table} -A {self.chain} {self.spec}"

    @property
    def undo(self) -> str:
        """The command that takes it away: a policy becomes ACCEPT."""
        if self.undone:
            return self.undone
        if not self.spec:
            return self.command.replace(f" {self.policy}", " ACCEPT")
        return self.command.replace(" -A ", " -D ", 1)


def parse(text: str, family: str = "ip", program: str = "") -> list[SavedRule]:
    """The policies of built-in chains, then rules, table by table in their order."""
    found = []
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif match := _CHAIN.match(line):
            if match[2] != "-":
                found.append(
                    SavedRule(
                        table=table,
                        chain=match[1],
                        spec="",
                        packets=int(match[3]),
                        family=family,
                        program=program,
                        policy=match[2],
                    )
                )
        elif match := _COUNTED.match(line):
            found.append(
                SavedRule(
                    table=table,
                    chain=match[2],
                    spec=match[3],
                    packets=int(match[1]),
                    family=family,
                    program=program,
                )
            )
    return found


def counted(before: str, after: str, family: str = "ip") -> list[SavedRule]:
    """The rules and policies that counted packets between the two; ``packets`` is how many."""
    earlier: dict[tuple[str, str, str, int], int] = {}
    for key, rule in _numbered(parse(before, family)):
        earlier[key] = rule.packets
    found = []
    for key, rule in _numbered(parse(after, family)):
        more = rule.packets - earlier.get(key, 0)
        if more > 0:
            found.append(msgspec.structs.replace(rule, packets=more))
    return found


def _numbered(rules: Iterable[SavedRule]) -> Iterator[tuple[tuple[str, str, str, int], SavedRule]]:
    """Each with its identity: equal rules of a chain are told apart by their order."""
    count: dict[tuple[str, str, str], int] = {}
    for rule in rules:
        key = (rule.table, rule.chain, rule.spec)
        count[key] = count.get(key, -1) + 1
        yield (*key, count[key]), rule


def could_match(
    rule: SavedRule, forms: Iterable[Ends], protocol: str, *, both: bool = True
) -> bool:
    """Whether a packet with one of those ends, or its answer, can be what the rule counted.

    Without ``both`` answers do not count.

    What it cannot judge (sets, marks, states) it takes as matching.
    """
    words = rule.words
    if (wanted := _value(words, "-p")) is not None and wanted.lower() not in (
        protocol.lower(),
        "all",
        "icmp" if protocol == "ICMP" else protocol.lower(),
        "ipv6-icmp" if protocol == "ICMP" else protocol.lower(),
    ):
        return False
    every = [one for form in forms for one in ((form, form.reversed) if both else (form,))]
    return not every or any(_fits(words, one) for one in every)


def _fits(words: list[str], ends: Ends) -> bool:
    for flags, address in ((("-s",), ends.source), (("-d",), ends.destination)):
        for flag in flags:
            if not _address(words, flag, address):
                return False
    for flag, port in (("--sport", ends.source_port), ("--dport", ends.destination_port)):
        value = _value(words, flag)
        if value is not None and port:
            low, _, high = value.partition(":")
            within = int(low or 0) <= port <= int(high or low or 65535)
            if within == _negated(words, flag):
                return False
    return True


def _address(words: list[str], flag: str, address: IP) -> bool:
    value = _value(words, flag)
    if value is None:
        return True
    try:
        net = network(value)
    except ValueError:
        return True
    if net.version != address.version:
        return False
    return (address in net) != _negated(words, flag)


def _value(words: list[str], flag: str) -> str | None:
    return words[words.index(flag) + 1] if flag in words[:-1] else None


def _negated(words: list[str], flag: str) -> bool:
    at = words.index(flag)
    return at > 0 and words[at - 1] == "!"
