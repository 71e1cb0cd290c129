"""Causes in rules that no hook tells of: those of bridges in some kernels, and those about ARP.

They are read from what ``nft -a list ruleset`` prints.  A rule is named where it counted a packet
and nothing that it asks for is untrue, or where all that it asks for is known to be true.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from hairpin.model.address import ip, network
from hairpin.trace import places
from hairpin.trace.case import Case, by_hand, cause
from hairpin.trace.observation import Place
from hairpin.trace.questions import Question, unanswered
from hairpin.trace.values import Cause, Ends

_COUNTER = re.compile(r"\bcounter packets (\d+) bytes \d+")
_ASKED = re.compile(
    r"\b(iifname|oifname|ip6? [sd]addr|(?:tcp|udp|sctp|th) [sd]port|ether type|meta protocol|"
    r"meta l4proto|ip protocol|ip6 nexthdr|arp operation|arp [sd]addr ip) (\S+)"
)
_NEIGHBOUR = re.compile(r"\bicmpv6|ipv6-icmp|\bicmp6|nd-neighbor")


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that drops.  ``first``: no rule before it in a base chain lets anything go.

    ``counted`` None: it does not count.
    """

    family: str
    table: str
    chain: str
    says: str
    handle: str
    counted: int | None
    first: bool

    @property
    def command(self) -> str:
        return f"nft add rule {self.family} {self.table} {self.chain} {self.says}"

    @property
    def undo(self) -> str:
        return f"nft delete rule {self.family} {self.table} {self.chain} handle {self.handle}"


def listed(text: str) -> Iterator[Listed]:
    """The rules that drop of ``nft -a list ruleset``."""
    family = table = chain = ""
    first = False
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["table"] and len(words) > 2:
            family, table = words[1], words[2]
        elif words[:1] == ["chain"]:
            chain, first = words[1], False
        elif words[:1] == ["type"] and "hook" in words:
            first = True
        elif chain and (parts := line.strip().partition(" # handle "))[1]:
            says = parts[0]
            if says.split()[-1] == "drop":
                match = _COUNTER.search(says)
                yield Listed(
                    family=family,
                    table=table,
                    chain=chain,
                    says=says,
                    handle=parts[2],
                    counted=int(match[1]) if match is not None else None,
                    first=first,
                )
            elif says.split()[-1] in ("accept", "return") or "jump" in says or "goto" in says:
                first = False


def fits(says: str, facts: dict[str, str]) -> bool | None:
    """Whether what a rule asks for is true; None: it asks for more than is known here."""
    rest = says
    for name, value in _ASKED.findall(says):
        truth = facts.get(name)
        if truth is None:
            return None
        if not _equal(value.strip('"'), truth):
            return False
    rest = _COUNTER.sub("", _ASKED.sub("", rest))
    return True if rest.split() in (["drop"], ["counter", "drop"]) else None


def _equal(value: str, truth: str) -> bool:
    if value == truth:
        return True
    try:
        return "/" in value and ip(truth) in network(value)
    except ValueError:
        return False


def _named(rule: Listed, facts: dict[str, str]) -> bool:
    """Whether there is evidence that the rule dropped a packet of which the facts are true."""
    true = fits(rule.says, facts)
    if rule.counted is not None:
        return rule.counted > 0 and true is not False
    return true is True and rule.first


def bridge_rule(case: Case) -> Cause | None:
    """A rule of a bridge's own tables drops the packet, in a kernel whose hooks do not tell."""
    last, node = case.last, case.where
    if last is None or node.around is None or "nft" in case.found.hooked.get(node.netns, ""):
        return None
    link = places.link_of(node, last.seen.link)
    onto = last.seen.way == "out" and link is not None and link.type == "bridge"
    if node.role != "node" or not (last.seen.way == "in" or onto):
        return None
    facts = _of_packet(last.packet.ends, case.tried.protocol)
    if not onto:
        facts["iifname"] = last.seen.link
    for rule in listed(node.around.listed_rules):
        if rule.family == "bridge" and _named(rule, facts):
            return _told(node, rule, "it")
    return None


def _of_packet(ends: Ends, protocol: str) -> dict[str, str]:
    six = ends.source.version == 6
    family, proto = ("ip6" if six else "ip"), protocol.lower()
    return {
        f"{family} saddr": str(ends.source), f"{family} daddr": str(ends.destination),
        f"{'ip' if six else 'ip6'} saddr": "", f"{'ip' if six else 'ip6'} daddr": "",
        **{f"{name} sport": str(ends.source_port) for name in (proto, "th")},
        **{f"{name} dport": str(ends.destination_port) for name in (proto, "th")},
        "ether type": family, "meta protocol": family, "meta l4proto": proto,
        "ip protocol": proto, "ip6 nexthdr": proto, "arp operation": "", "arp saddr ip": "",
        "arp daddr ip": "",
    }  # fmt: skip


def question_dropped(case: Case) -> Cause | None:
    """Nobody answered who has the next hop's address, since a rule drops the question."""
    for question in unanswered(case):
        holder = places.holder(case.found.places, question.target)
        some = [question.place, case.node_of(question.place), holder]
        some.append(case.node_of(holder) if holder is not None else None)
        for place in dict.fromkeys(one.netns for one in some if one is not None):
            found = _dropping(case, case.guide.place(place), question)
            if found is not None:
                return found
    return None


def _dropping(case: Case, place: Place, question: Question) -> Cause | None:
    if place.around is None:
        return None
    six = question.target.version == 6
    for rule in listed(place.around.listed_rules):
        facts = _of_question(case, place, question)
        if six and rule.family == "ip6":
            if rule.counted and _NEIGHBOUR.search(rule.says):
                return _told(place, rule, f"the question who has {question.target}")
        elif rule.family in (("bridge",) if six else ("arp", "bridge")) and _named(rule, facts):
            return _told(place, rule, f"the question who has {question.target}")
    return None


def _of_question(case: Case, place: Place, question: Question) -> dict[str, str]:
    """What is true of the question for a hardware address as it comes to a bridge."""
    came = next(
        (
            one.seen.link
            for one in case.followed.asked
            if one.seen.netns == place.netns and one.seen.way == "in"
            and one.arp.asks and one.arp.target == question.target
        ),
        None,
    )  # fmt: skip
    six = question.target.version == 6
    kind = "ip6" if six else "arp"
    facts = {
        "ether type": kind, "meta protocol": kind, "arp operation": "request",
        "arp daddr ip": str(question.target), "arp saddr ip": str(question.asking.arp.sender),
        **dict.fromkeys(("ip saddr", "ip daddr", "meta l4proto", "ip protocol"), ""),
        **{f"{name} {way}port": "" for name in ("tcp", "udp", "sctp", "th") for way in "sd"},
    }  # fmt: skip
    if came is not None:
        facts["iifname"] = came
    return facts


def _told(place: Place, rule: Listed, what: str) -> Cause:
    return cause(
        "bridge-rule" if rule.family == "bridge" else "neighbour-rule",
        f"a rule in chain {rule.chain} of {places.title(place)} (table {rule.family} {rule.table}) "
        f"drops {what}: {rule.says}",
        by_hand(place, rule.undo),
        f"counted: {rule.says}" if rule.counted else f"it asks for nothing else: {rule.says}",
        of=rule.command,
    )
