"""Causes in rules that do not end a packet, and yet keep it from getting to where it should."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hairpin.model.address import IP, ip
from hairpin.trace import places
from hairpin.trace.case import Case, by_hand, cause, entry, forms
from hairpin.trace.observation import Place
from hairpin.trace.rules import SavedRule
from hairpin.trace.sockets import listeners
from hairpin.trace.values import Cause, Mend, at

_NEW_SOURCE = ("SNAT", "MASQUERADE", "NETMAP")
_NEW_DESTINATION = ("DNAT", "REDIRECT", "TPROXY", "NETMAP")
_LIFE = ("TTL", "HL")
_SHORT = 8  # routers; the usual is 64
_TO_ADDRESS = re.compile(r"(?:--to-destination|\bdnat (?:ip6? )?to) (\S+)(?:\s|$)")
_TO_PORT = re.compile(r"(?:--to-ports|\bredirect to) :?(\d+)(?:\s|$)")
_FROM_PORTS = re.compile(r"(?:--to-source|\bsnat (?:ip )?to) ([0-9.]+):(\d+)(?:-(\d+))?(?:\s|$)")
_AS_SAID = re.compile(r"\[?([0-9a-fA-F.:]+?)\]?(?::(\d+))?")


def by_proxy(rule: SavedRule) -> bool:
    """Whether it is a chain of kube-proxy's name that the rule stands in, or leads to."""
    names = (rule.chain, rule.target)
    return rule.table == "kube-proxy" or any(one.startswith("KUBE-") for one in names)


def met(case: Case, place: Place) -> Iterator[tuple[SavedRule, bool]]:
    """The rules there that the connection's packets met, and whether it is certain.

    Where hooks told nothing, those that counted packets meanwhile and may have counted its.
    """
    told = [one for one in case.guide.hooked.passes if one.passage.netns == place.netns]
    for rule in dict.fromkeys(rule for one in told for rule in one.rules):
        yield rule, True
    if not told:
        for rule in case.guide.rules(place):
            yield rule, False


def _strangers(case: Case, *targets: str) -> Iterator[tuple[Place, SavedRule]]:
    """Rules with such a target (none said: any) that no proxy made, and its packets met."""
    for place in case.found.places:
        for rule, _ in met(case, place):
            if targets and rule.target not in targets:
                continue
            if rule.spec and not by_proxy(rule):
                yield place, rule


def not_tracked(case: Case) -> Cause | None:
    """A rule hides the packet from conntrack, or puts it into a zone of its own.

    Without the connection's memory nothing that was rewritten is put back in the answer.
    """
    if case.target is None or case.target.port is None:
        return None
    for place, rule in _strangers(case):
        hides = rule.target == "NOTRACK" or "notrack" in rule.spec
        zone = "zone" in rule.spec and (rule.target == "CT" or "ct zone set" in rule.spec)
        if not (hides or zone) or place.role != "node":
            continue
        back = case.leg != "request"
        kept = "the Service's address is not put back in the answer"
        if hides:
            does = "keeps conntrack from seeing " + (
                f"the answer, so that {kept}" if back
                else "the request, so that nothing gives it an endpoint's address"
            )  # fmt: skip
        else:
            does = (
                "puts packets into a conntrack zone of their own, where the other direction is "
                f"not known: {kept}"
            )
        return _done_by("not-tracked", place, rule, does)
    return None


def rewritten_by_rule(case: Case) -> Cause | None:
    """A rule that no proxy made gave the packet an address that leads nowhere."""
    last = case.last
    for place, rule in _strangers(case, *_NEW_SOURCE, *_NEW_DESTINATION):
        if last is None:
            if place.netns != case.client.netns or rule.target not in _NEW_DESTINATION:
                continue
            return _rewritten(place, rule, "sends it elsewhere, and nobody answers there")
        ends = last.packet.ends if case.leg == "request" else last.packet.ends.reversed
        wrong = ends.source if rule.target in _NEW_SOURCE else ends.destination
        if str(wrong) not in rule.spec:
            continue
        nobody = places.holder(case.found.places, wrong) is None and not case.found.partial
        if rule.target in _NEW_SOURCE and nobody:
            says = f"gives it the source {wrong}, to which no answer comes"
            return _rewritten(place, rule, says)
        if rule.target in _NEW_DESTINATION and (nobody or not _listened(case)):
            to = at(wrong, ends.destination_port)
            return _rewritten(place, rule, f"sends it to {to}, where nobody is")
    return None


def sent_to_nobody(case: Case) -> Cause | None:
    """A rule that no proxy made sends the packet to where nobody is, or nobody listens.

    It is told by a hook that the packet met it, so that what is behind it does not count.
    """
    if case.leg == "data" or any(one.first.packet.payload for one in case.followed.of("reply")):
        return None
    for place in case.found.places:
        for rule, certain in met(case, place):
            if not certain or rule.target not in _NEW_DESTINATION or by_proxy(rule):
                continue
            says = _nobody(case, place, rule)
            if says is not None:
                return _rewritten(place, rule, says)
    return None


def _nobody(case: Case, place: Place, rule: SavedRule) -> str | None:
    """Why nobody is where the rule sends to; None: somebody is, or it cannot be told."""
    goal = _goal(rule)
    if goal is None:
        return None
    to, port = goal
    there: Place | None = place
    if to is not None:
        there = places.holder(case.found.places, to)
        if there is None:
            return None if case.found.partial else f"sends it to {at(to, port)}, where nobody is"
    protocol = case.tried.protocol
    if there is None or not port or not there.texts or protocol not in ("TCP", "UDP"):
        return None
    for one in listeners(there):
        if one.protocol == protocol and one.port == port and (to is None or one.takes(to)):
            return None
    return f"sends it to port {port} of {places.title(there)}, where nobody listens"


def _goal(rule: SavedRule) -> tuple[IP | None, int] | None:
    """Where a rule sends to: an address (None: the namespace itself) and a port (0: as it was)."""
    found = _TO_PORT.search(rule.spec)
    if found is not None:
        return None, int(found[1])
    found = _TO_ADDRESS.search(rule.spec)
    said = _AS_SAID.fullmatch(found[1]) if found is not None else None
    if said is None:
        return None
    try:
        return ip(said[1]), int(said[2] or 0)
    except ValueError:
        return None


def ports_taken(case: Case) -> Cause | None:
    """A rule has few ports to give, and other connections to the same server have them all.

    conntrack drops who would be a second one with the same answers (insert_failed; clash in
    nf_conntrack_core.c).
    """
    if case.leg != "request" or case.followed.of("reply"):
        return None
    for place, rule in _strangers(case, *_NEW_SOURCE):
        found = _FROM_PORTS.search(rule.spec)
        if found is None:
            continue
        low, high = int(found[2]), int(found[3] or found[2])
        taken: dict[str, set[int]] = {}
        for flow in place.after.flows:
            back = flow.reply
            own = flow.original.source_port == case.tried.source_port
            given = str(back.destination) == found[1] and low <= back.destination_port <= high
            if given and not own:
                server = at(back.source, back.source_port)
                taken.setdefault(server, set()).add(back.destination_port)
        for server, ports in taken.items():
            if len(ports) <= high - low:
                continue
            count = f"{high - low + 1} ports" if high > low else "one port"
            does = (
                f"has {count} for connections to {server}, and others have them: conntrack drops "
                "one more"
            )
            seen = f"met: {rule.command}; {len(ports)} connections to {server} from {found[1]}"
            return _done_by("ports-taken", place, rule, does, seen)
    return None


def _listened(case: Case) -> bool:
    """Whether there is a server where the packet ended."""
    assert case.last is not None
    ends = case.last.packet.ends
    return any(
        one.protocol == case.tried.protocol
        and one.port == ends.destination_port
        and one.takes(ends.destination)
        for one in listeners(case.where)
    )


def _done_by(name: str, place: Place, rule: SavedRule, does: str, evidence: str = "") -> Cause:
    """What a rule does, undone by taking it away; ``evidence``: more than that it was met."""
    return cause(
        name,
        f"a rule in chain {rule.chain} of {places.title(place)} (table {rule.table}) {does}: "
        f"{rule.spec}",
        by_hand(place, rule.undo),
        evidence or f"met: {rule.command}",
        of=rule.command,
    )


def _rewritten(place: Place, rule: SavedRule, does: str) -> Cause:
    return _done_by("rewritten-by-rule", place, rule, does)


def accepted_too_early(case: Case) -> Cause | None:
    """A rule lets the packet go before the Service's rules were asked."""
    target, node = case.target, entry(case)
    if target is None or target.port is None or node is None or case.mode == "ipvs":
        return None
    if any(form.destination != case.tried.ip for form in forms(case)):
        return None
    for one in case.guide.hooked.passes:
        rule = one.decided
        if (
            rule is None
            or one.passage.netns != node.netns
            or one.passage.hook not in ("PREROUTING", "OUTPUT")
            or one.passage.table != "nat"
            or (rule.target, bool(rule.spec)) != ("ACCEPT", True)
            or by_proxy(rule)
        ):
            continue
        does = "accepts it before the rules of Services are asked"
        return _done_by("rule", node, rule, does, f"met last: {rule.command}")
    return None


def ttl_exceeded(case: Case) -> Cause | None:
    """A router says that the packet went over too many of them."""
    if case.tried.outcome == "answered":
        return None
    error = next(
        (one for one in case.followed.of("error") if "time exceeded" in one.first.packet.error),
        None,
    )
    if error is None:
        return None
    who = places.title(case.guide.place(error.first.seen.netns))
    for place, rule in _strangers(case, *_LIFE):
        return cause(
            "ttl-exceeded",
            f"{who} says that it went over too many routers, since a rule in chain {rule.chain} of "
            f"{places.title(place)} (table {rule.table}) shortens its life: {rule.spec}",
            by_hand(place, rule.undo),
            f"met: {rule.command}",
            of=rule.command,
        )
    short = _short_lived(case, who)
    if short is not None:
        return short
    nodes = [one.seen.netns for one in case.flight.sights] if case.flight is not None else []
    loop = len(nodes) > len(set(nodes)) and len(nodes) > 16
    return cause(
        "ttl-exceeded",
        f"{who} says that it went over too many routers"
        + (": it goes round in a circle" if loop else ""),
        Mend(),
        f"{who}: time exceeded",
        of=who,
    )


def _short_lived(case: Case, who: str) -> Cause | None:
    """The packet set out with a life that is too short: the sender's own setting, or its route."""
    if case.flight is None:
        return None
    first = case.flight.first
    place = case.guide.place(first.seen.netns)
    if first.seen.way != "out" or not 0 < first.packet.ttl <= _SHORT:
        return None
    six = first.packet.ends.source.version == 6
    name = f"net.ipv6.conf.{first.seen.link}.hop_limit" if six else "net.ipv4.ip_default_ttl"
    word = "hop limit" if six else "TTL"
    return cause(
        "ttl-exceeded",
        f"{who} says that it went over too many routers: {places.title(place)} sends it with a "
        f"{word} of {first.packet.ttl}, which is not enough to get there",
        by_hand(place, f"sysctl -w {name}=64"),
        f"{first.packet.says} out of {place.netns} with {word} {first.packet.ttl}",
        of=places.title(place),
    )
