"""Causes in what routing decides: routes that refuse, and policy rules that lead elsewhere."""

from __future__ import annotations

from hairpin.model.address import IP
from hairpin.state.circumstances import MAIN, Policy
from hairpin.trace import places
from hairpin.trace.case import Case, by_hand, cause
from hairpin.trace.causes_rules import met
from hairpin.trace.heading import Heading, headings
from hairpin.trace.observation import Place
from hairpin.trace.routing import (
    REFUSALS,
    Decision,
    best,
    decide,
    marking,
    said_path,
    said_policy,
)
from hairpin.trace.values import Cause

_DOES = {
    "blackhole": "drops without a word",
    "unreachable": "refuses as unreachable",
    "prohibit": "refuses as prohibited",
}


def refused_by_route(case: Case) -> Cause | None:
    """A route, or a policy rule, is there to refuse what goes that way."""
    for heading in headings(case):
        found = [(one, _decided(case, heading, one)) for one in heading.destinations]
        if not found or any(one is None or one.verdict not in REFUSALS for _, one in found):
            continue
        address, decision = found[0]
        assert decision is not None
        if decision.usual and decision.path is not None:
            return _refuses(heading.place, address, decision)
        return _by_policy(heading.place, address, decision)
    return None


def led_away_by_policy(case: Case) -> Cause | None:
    """A policy rule has another table looked up than the usual one, and that leads elsewhere."""
    for heading in headings(case):
        around = heading.place.around
        if around is None or not heading.destinations:
            continue
        address = heading.destinations[0]
        decision = _decided(case, heading, address)
        if decision is None or decision.usual or decision.path is None:
            continue
        up = {link.name for link in heading.place.links if link.up}
        usual = best(around, MAIN, address, up)
        if usual is None or (usual.via, usual.link) == (decision.path.via, decision.path.link):
            continue
        return _by_policy(heading.place, address, decision)
    return None


def _decided(case: Case, heading: Heading, address: IP) -> Decision | None:
    """With the marks that rules there are known to have given to the packet."""
    marks = [one.mark for one in marking(heading.place)]
    given = next((mark for mark in marks if _marked(case, heading.place, mark)), 0)
    return decide(heading.place, heading.source, address, heading.routed_in, given)


def _marked(case: Case, place: Place, mark: int) -> bool:
    """Whether a rule that gives that mark was met."""
    for rule, _ in met(case, place):
        words = rule.spec.replace("/", " ").split()
        marks = rule.target in ("MARK", "CONNMARK") or "mark set" in rule.spec
        if marks and any(_number(word) == mark for word in words):
            return True
    return False


def _number(word: str) -> int | None:
    try:
        return int(word, 0)
    except ValueError:
        return None


def _refuses(place: Place, address: IP, decision: Decision) -> Cause:
    assert decision.path is not None
    said = said_path(decision.path)
    who = places.title(place)
    return cause(
        "blackhole-route",
        f"{who} has a route that {_DOES[decision.verdict]} what is for {address}: {said}",
        by_hand(place, f"ip {_family(address)}route del {said}"),
        f"{place.netns}: {said}",
        of=said,
    )


def _by_policy(place: Place, address: IP, decision: Decision) -> Cause | None:
    policy, path = decision.policy, decision.path
    if policy is None:
        return None
    said = said_policy(policy)
    who = places.title(place)
    if path is None:
        does = f"{who} refuses what is for {address} by a policy rule: {said}"
    else:
        end = "refuses it" if decision.verdict in REFUSALS else "leads elsewhere"
        does = (
            f"{who} asks another table than main for the way to {address} (ip rule: {said}), and "
            f"that {end}: {said_path(path)}"
        )
    return cause(
        "policy-routing",
        does,
        by_hand(place, f"ip {_family(address)}rule del {said} priority {policy.priority}"),
        f"{place.netns}: {_numbered(policy)}",
        of=said,
    )


def _numbered(policy: Policy) -> str:
    return f"{policy.priority}: {said_policy(policy)}"


def _family(address: IP) -> str:
    return "-6 " if address.version == 6 else ""
