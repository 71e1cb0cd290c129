"""How a packet's addresses became others in a namespace, and what rules decided about it.

Where hooks told of the packet, each rewriting is the rule's that it met right before; else it is
told from what tables and counters say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from hairpin.state.ipvs import VirtualServerSeen
from hairpin.trace import places
from hairpin.trace.guide import Guide
from hairpin.trace.hooked import Pass
from hairpin.trace.observation import Place
from hairpin.trace.provenance import dnat_by
from hairpin.trace.rules import SavedRule
from hairpin.trace.values import Ends, Seen, Step, StepKind, at

_TO = ("DNAT", "REDIRECT")
_FROM = ("MASQUERADE", "SNAT")


def told(
    passes: Iterable[Pass],
    before: Ends,
    after: Ends | None,
    place: Place,
    guide: Guide,
    direction: str,
    when: float | None,
) -> Iterator[Step]:
    """What hooks told, from one sighting of a packet to the next; ``after`` None: there is none."""
    since: list[Pass] = []
    for one in passes:
        if one.ends != before:
            yield from rewritten(before, one.ends, place, guide, direction, when, since)
            before, since = one.ends, []
        since.append(one)
        yield from _decisions(one, place, guide, when)
    if after is not None and after != before:
        yield from rewritten(before, after, place, guide, direction, when, since)


def _decisions(one: Pass, place: Place, guide: Guide, when: float | None) -> Iterator[Step]:
    """What rules decided in a base chain, besides rewriting; going on is no decision."""
    hook: str = one.passage.hook
    if one.passage.family == "bridge":
        hook = f"bridge {hook}"
    for rule in one.rules:
        end = rule is one.decided
        if end and one.passage.verdict == "drop":
            verb = "rejected" if rule.target == "REJECT" else "dropped"
            what = f"by the policy of chain {rule.chain}" if not rule.spec else _by(rule)
            says = f"{hook}: {verb} {what}"
            kind: StepKind = "reject" if verb == "rejected" else "drop"
        elif end and rule.target == "ACCEPT" and rule.spec:
            kind, says = "rule", f"{hook}: accepted {_by(rule)}"
        elif rule.target == "MARK" and one.passage.hook != "POSTROUTING":
            kind, says = "rule", f"{hook}: marked {_by(rule)}"
        elif rule.target in ("NOTRACK", "CT"):
            kind, says = "rule", f"{hook}: taken from conntrack's sight {_by(rule)}"
        else:
            continue
        owned = guide.owner(place.netns, rule)
        yield Step(
            kind=kind,
            says=says,
            hook=hook,
            before=one.ends,
            after=one.ends,
            by=rule.command,
            owner=owned.owner if owned else None,
            why=owned.why if owned else None,
            at=when,
            seen="hook",
        )


def _by(rule: SavedRule) -> str:
    return f"by chain {rule.chain} of table {rule.table}"


def rewritten(
    before: Ends,
    after: Ends,
    place: Place,
    guide: Guide,
    direction: str,
    when: float | None,
    since: Sequence[Pass] = (),
    *,
    own: bool = False,
) -> Iterator[Step]:
    """The steps that made of one packet's ends the other; destination first, as the kernel does.

    ``since``: the base chains that it passed with the ends before, where hooks told of them.
    ``own``: it is the namespace's own packet, and no hook told.
    """
    middle = msgspec.structs.replace(
        before, destination=after.destination, destination_port=after.destination_port
    )
    if direction != "request":
        yield _back(before, after, place, when, since)
        return
    if middle != before:
        server = places.server_of(
            place, guide.found.tried.protocol, before.destination, before.destination_port
        )
        one = _last(since, _TO)
        if one is not None:
            yield _by_rule(one, before, middle, place, guide, when)
        elif server is not None:
            own = own or bool(since and since[-1].passage.hook == "OUTPUT")
            step = _by_ipvs(server, before, middle, place, guide, when, own)
            yield msgspec.structs.replace(step, seen=_seen(since))
        else:
            step = _by_dnat(before, middle, place, guide, when)
            yield msgspec.structs.replace(step, seen=_seen(since))
    if middle != after:
        one = _last(since, _FROM)
        if one is not None:
            yield _by_rule(one, middle, after, place, guide, when)
        else:
            yield _source(middle, after, place, guide, when, since)


def _seen(since: Sequence[Pass]) -> Seen:
    return "hook" if since else "inferred"


def _last(since: Sequence[Pass], targets: Sequence[str]) -> Pass | None:
    """Where a rule with one of those targets was the last word of a chain."""
    return next((one for one in reversed(since) if _target(one) in targets), None)


def _target(one: Pass) -> str:
    return one.decided.target if one.decided is not None else ""


def _by_rule(
    one: Pass, before: Ends, after: Ends, place: Place, guide: Guide, when: float | None
) -> Step:
    """A rewriting by the rule that a hook told of."""
    rule = one.rules[-1]
    to = at(after.destination, after.destination_port)
    says = f"{rule.target} to {to}"
    if rule.target in _FROM:
        says = f"{rule.target}: the source becomes {at(after.source, after.source_port)}"
    known = None
    if rule.target in _TO:
        ip, port = after.destination, after.destination_port
        known = dnat_by(guide.found.wanted, place.netns, ip, port)
    owned = known[1] if known else guide.owner(place.netns, rule)
    return Step(
        kind="nat",
        says=says,
        hook=one.passage.hook,
        before=before,
        after=after,
        by=rule.command,
        owner=owned.owner if owned else None,
        why=owned.why if owned else None,
        at=when,
        seen="hook",
    )


def _source(
    before: Ends, after: Ends, place: Place, guide: Guide, when: float | None, since: Sequence[Pass]
) -> Step:
    """A new source: by a rule that counted, or by conntrack, which remembers the first packet's."""
    rules = [one for one in guide.rules(place) if one.target in _FROM]
    rule = rules[0] if rules else None
    target = rule.target if rule else "masquerading"
    return Step(
        kind="nat",
        says=f"{target}: the source becomes {at(after.source, after.source_port)}",
        hook="POSTROUTING",
        before=before,
        after=after,
        by=rule.command if rule else None,
        at=when,
        seen=_seen(since),
    )


def _by_dnat(before: Ends, after: Ends, place: Place, guide: Guide, when: float | None) -> Step:
    to = at(after.destination, after.destination_port)
    known = dnat_by(guide.found.wanted, place.netns, after.destination, after.destination_port)
    return Step(
        kind="nat",
        says=f"DNAT to {to}",
        hook="PREROUTING" if when is not None else "OUTPUT",
        before=before,
        after=after,
        by=known[0] if known else None,
        owner=known[1].owner if known else None,
        why=known[1].why if known else None,
        at=when,
    )


def _by_ipvs(
    server: VirtualServerSeen,
    before: Ends,
    after: Ends,
    place: Place,
    guide: Guide,
    when: float | None,
    own: bool,
) -> Step:
    one = server.server
    wanted = guide.wanted(place.netns, one.key)
    chosen = at(after.destination, after.destination_port)
    count = sum(1 for real in server.real_servers if real.server.weight)
    return Step(
        kind="ipvs",
        says=f"IPVS sends it to {chosen}, one of {count}"
        if count != 1
        else f"IPVS sends it to {chosen}, the only real server",
        hook="LOCAL_OUT" if own else "LOCAL_IN",
        before=before,
        after=after,
        by=f"virtual server {one.protocol} {at(one.ip, one.port)} {one.scheduler}",
        owner=wanted.owner if wanted else None,
        why=wanted.why if wanted else None,
        at=when,
    )


def _back(
    before: Ends, after: Ends, place: Place, when: float | None, since: Sequence[Pass]
) -> Step:
    """An answer gets the addresses that the client expects."""
    said = []
    if (before.source, before.source_port) != (after.source, after.source_port):
        who = "IPVS" if place.servers else "conntrack"
        said.append(f"{who} puts {at(after.source, after.source_port)} back as its source")
    if (before.destination, before.destination_port) != (after.destination, after.destination_port):
        back = at(after.destination, after.destination_port)
        said.append(f"conntrack puts {back} back as its destination")
    return Step(
        kind="nat",
        says=", ".join(said),
        hook=_back_at(since, before, after, place),
        before=before,
        after=after,
        at=when,
        seen=_seen(since),
    )


def _back_at(since: Sequence[Pass], before: Ends, after: Ends, place: Place) -> str | None:
    """The hook: the last that it was seen at, but conntrack changes sources when it leaves.

    IPVS does so while it is forwarded (ip_vs_reply4: FORWARD and INPUT, at priority 99 and 98).
    """
    if not since:
        return None
    hook = since[-1].passage.hook
    source = (before.source, before.source_port) != (after.source, after.source_port)
    leaves = hook in ("FORWARD", "OUTPUT")
    return "POSTROUTING" if source and leaves and not place.servers else hook
