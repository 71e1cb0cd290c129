"""Causes in rules that do not end a packet, and yet keep it from getting to where it should."""

from __future__ import annotations

from collections.abc import Iterator

from hairpin.trace import places
from hairpin.trace.case import Case, by_hand, cause, entry, forms
from hairpin.trace.observation import Place
from hairpin.trace.rules import SavedRule
from hairpin.trace.sockets import listeners
from hairpin.trace.values import Cause, Mend, at

_UNTRACKED = ("NOTRACK", "CT")
_NEW_SOURCE = ("SNAT", "MASQUERADE", "NETMAP")
_NEW_DESTINATION = ("DNAT", "REDIRECT", "TPROXY", "NETMAP")
_LIFE = ("TTL", "HL")


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
    """Rules with such a target that no proxy made, wherever packets of the connection met them."""
    for place in case.found.places:
        for rule, _ in met(case, place):
            if rule.spec and rule.target in targets and not by_proxy(rule):
                yield place, rule


def not_tracked(case: Case) -> Cause | None:
    """A rule hides the packet from conntrack, or puts it into a zone of its own.

    Without the connection's memory nothing that was rewritten is put back in the answer.
    """
    if case.target is None or case.target.port is None:
        return None
    for place, rule in _strangers(case, *_UNTRACKED):
        hides = rule.target == "NOTRACK" or "notrack" in rule.spec
        zone = "zone" in rule.spec
        if not (hides or zone) or place.role != "node":
            continue
        does = "hides it from conntrack" if hides else "puts it into a conntrack zone of its own"
        return cause(
            "not-tracked",
            f"a rule in chain {rule.chain} of {places.title(place)} (table {rule.table}) {does}: "
            "addresses are then not rewritten, or not put back in the answer",
            by_hand(place, rule.undo),
            f"met: {rule.command}",
            of=rule.command,
        )
    return None


def rewritten_by_rule(case: Case) -> Cause | None:
    """A rule that no proxy made gave the packet an address that leads nowhere."""
    last = case.last
    for place, rule in _strangers(case, *_NEW_SOURCE, *_NEW_DESTINATION):
        if last is None:
            if place.netns != case.client.netns or rule.target not in _NEW_DESTINATION:
                continue
            return _rewritten(case, place, rule, "sends it elsewhere, and nobody answers there")
        ends = last.packet.ends if case.leg == "request" else last.packet.ends.reversed
        wrong = ends.source if rule.target in _NEW_SOURCE else ends.destination
        if str(wrong) not in rule.spec:
            continue
        nobody = places.holder(case.found.places, wrong) is None and not case.found.partial
        if rule.target in _NEW_SOURCE and nobody:
            says = f"gives it the source {wrong}, to which no answer comes"
            return _rewritten(case, place, rule, says)
        if rule.target in _NEW_DESTINATION and (nobody or not _listened(case)):
            to = at(wrong, ends.destination_port)
            return _rewritten(case, place, rule, f"sends it to {to}, where nobody is")
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


def _rewritten(case: Case, place: Place, rule: SavedRule, does: str) -> Cause:
    return cause(
        "rewritten-by-rule",
        f"a rule in chain {rule.chain} of {places.title(place)} (table {rule.table}) {does}: "
        f"{rule.spec}",
        by_hand(place, rule.undo),
        f"met: {rule.command}",
        of=rule.command,
    )


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
        return cause(
            "rule",
            f"a rule in chain {rule.chain} of {places.title(node)} (table {rule.table}) accepts it "
            f"before the rules of Services are asked: {rule.spec}",
            by_hand(node, rule.undo),
            f"met last: {rule.command}",
            of=rule.command,
        )
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
