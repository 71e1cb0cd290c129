"""Chains of iptables and their rules: which are missing, wrong or extra, and what mends that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from hairpin.audit import rules_words as words
from hairpin.audit.layout import ANY_ORDER, Line
from hairpin.audit.names import hashed
from hairpin.audit.report import Differs, Finding
from hairpin.audit.rules_alike import same_choice, without_localhost
from hairpin.audit.rules_seen import Tables, text_of
from hairpin.plan.owner import PROXY
from hairpin.present.iptables_save import Place, Spec

_KUBELETS_TOO = "KUBE-FIREWALL"  # where it drops what bears its mark, in older versions
_LARGE = 1000  # endpoints
_CHOICES = ("KUBE-SVC-", "KUBE-SVL-")  # chains that choose an endpoint


def missing(tables: Tables, place: Place, lines: Sequence[Line]) -> Finding:
    """A chain that is not there."""
    owner = tables.wanted.owners.get(place, PROXY)
    return Finding(
        what="missing",
        subject=f"chain {tables.subject(place)}",
        object=tables.chain_of(place, (line.spec for line in lines)),
        owner=owner,
        shared=tuple(dict.fromkeys(line.owner for line in lines if line.owner != owner)),
        consequence=words.no_chain(place),
        mend=(
            tables.command(place, "-N"),
            *(tables.command(place, "-A", line.spec) for line in lines),
        ),
    )


def extra(tables: Tables, place: Place, specs: Sequence[Spec]) -> Finding:
    """A chain of a name that only this mode makes, and that nobody wants."""
    owner = next((one for spec in specs if (one := tables.case.owners.in_text(spec))), "")
    led = tables.led_to(place)
    undone = (tables.command(one, "-D", spec) for one, spec in led if one not in tables.gone)
    return Finding(
        what="extra",
        subject=f"chain {tables.subject(place)}",
        object=tables.chain_of(place, specs),
        owner=owner,
        consequence=words.extra_chain(place[1], len(led)),
        mend=(*undone, tables.command(place, "-F"), tables.command(place, "-X")),
    )


def goes_later(tables: Tables, place: Place) -> bool:
    """With many endpoints kube-proxy leaves a chain that nothing leads to any more until its
    next clean-up (largeClusterEndpointsThreshold in pkg/proxy/iptables/proxier.go)."""
    ends = sum(name.startswith("KUBE-SEP-") for _, name in tables.wanted.chains)
    return ends > _LARGE and hashed(place) and not tables.led_to(place)


def unordered(tables: Tables, place: Place, lines: Sequence[Line]) -> Iterator[Finding]:
    """The rules of a chain in which every ServicePort has its own, in any order."""
    seen = tables.seen.chains[place]
    have = {tables.plain(spec) for spec in seen}
    want = {tables.plain(line.spec) for line in lines}
    missing = [
        line
        for line in lines
        if (spec := tables.plain(line.spec)) not in have and without_localhost(spec) not in have
    ]
    extra = [spec for spec in dict.fromkeys(seen) if tables.plain(spec) not in want]
    yield from _paired(tables, place, missing, extra)
    if place[1] not in ANY_ORDER:  # else kube-proxy itself writes some twice
        owners = {tables.plain(line.spec): _owner(tables, place, line) for line in lines}
        for spec, count in Counter(seen).items():
            if count > 1 and (plain := tables.plain(spec)) in owners:
                yield repeated(tables, place, spec, owners[plain])
    ends = [spec for spec in map(tables.plain, seen) if spec in want]
    last = [tables.plain(line.spec) for line in lines if line.owner == PROXY]
    tail = [spec for spec in last if spec in have]
    if sorted(ends[len(ends) - len(tail) :]) != sorted(tail):  # of the last each may be the last
        yield _order(tables, place, [line.spec for line in lines])


def ordered(tables: Tables, place: Place, lines: Sequence[Line]) -> Iterator[Finding]:
    """The rules of a chain in which the first that matches decides."""
    seen = tables.seen.chains[place]
    have, want = [tables.plain(one) for one in seen], [tables.plain(line.spec) for line in lines]
    if have == want or (place[1].startswith(_CHOICES) and same_choice(have, want)):
        return
    left = Counter(have)
    missing: list[Line] = []
    for line, spec in zip(lines, want, strict=True):
        if left[spec]:
            left[spec] -= 1
        elif not tables.no_packet(place, spec):
            missing.append(line)
    over = Counter(want)
    extra: list[Spec] = []
    for spec, plain in zip(seen, have, strict=True):
        if over[plain]:
            over[plain] -= 1
        else:
            extra.append(spec)
    if not missing and not extra:
        if [spec for spec in want if spec in have] == have:
            return  # all but what an older kube-proxy leaves out
        yield _order(tables, place, [line.spec for line in lines])
        return
    if place[1] == _KUBELETS_TOO:
        extra = [spec for spec in extra if "--mark" not in spec or spec[-1] != "DROP"]
    yield from _paired(tables, place, missing, extra)


def _order(tables: Tables, place: Place, specs: Sequence[Spec]) -> Finding:
    seen = tables.seen.chains[place]
    owner = tables.wanted.owners.get(place, PROXY)
    return Finding(
        what="wrong",
        subject=f"order of the rules of {tables.subject(place)}",
        object=tables.chain_of(place, specs),
        owner=owner,
        differs=(Differs("rules", _rules(place, seen), _rules(place, specs)),),
        consequence=words.order(place),
        mend=(
            tables.command(place, "-F"),
            *(tables.command(place, "-A", spec) for spec in specs),
        ),
    )


def _paired(
    tables: Tables, place: Place, missing: Sequence[Line], extra: Sequence[Spec]
) -> Iterator[Finding]:
    """A rule that is missing and one that is there instead are one finding.

    Commands name rules by their numbers, as they are once those before have been given:
    findings are told in this order.
    """
    rest = [spec for spec in extra if not tables.goes_with_a_chain(place, spec)]
    twins: list[tuple[Line, Spec]] = []
    alone: list[Line] = []
    for line in missing:
        twin = max(rest, key=lambda spec: _likeness(spec, line.spec), default=None)
        if twin is not None and _likeness(twin, line.spec) > 0:
            rest.remove(twin)
            twins.append((line, twin))
        else:
            alone.append(line)
    if place in tables.wanted.any_order:
        yield from _anywhere(tables, place, alone, twins)
        alone, twins = [], []
    now = list(tables.seen.chains[place])
    for line in alone:
        at = _place_of(tables, line, place, now)
        now.insert(at, line.spec)
        yield _missing_rule(tables, place, line, at + 1)
    for line, twin in twins:
        at = now.index(twin)
        now[at] = line.spec
        yield _wrong_rule(tables, place, line, twin, at + 1)
    for spec in rest:
        yield extra_rule(tables, place, spec)


def _anywhere(
    tables: Tables, place: Place, alone: Sequence[Line], twins: Sequence[tuple[Line, Spec]]
) -> Iterator[Finding]:
    """In a chain in which many Services have rules no number is sure: each is put first, what is
    to be last is put last."""
    for line in alone:
        yield _missing_rule(tables, place, line, 1 if line.owner != PROXY else None)
    for line, twin in twins:
        found = _missing_rule(tables, place, line, 1 if line.owner != PROXY else None)
        differs = (Differs("rule", text_of(place, twin), text_of(place, line.spec)),)
        yield msgspec.structs.replace(
            found,
            what="wrong",
            differs=differs,
            consequence=words.wrong_rule(place, line.spec, twin),
            mend=(tables.command(place, "-D", twin), *found.mend),
        )


def _place_of(tables: Tables, line: Line, place: Place, now: Sequence[Spec]) -> int:
    """After the last rule there that is to be before it."""
    order = [tables.plain(one.spec) for one in tables.wanted.chains[place]]
    before = set(order[: order.index(tables.plain(line.spec))])
    return max((at + 1 for at, one in enumerate(now) if tables.plain(one) in before), default=0)


def _owner(tables: Tables, place: Place, line: Line) -> str:
    """A Service's rule in a chain that all share is that Service's."""
    if line.owner != PROXY:
        return line.owner
    return tables.case.owners.in_text(line.spec) or PROXY


def _missing_rule(tables: Tables, place: Place, line: Line, number: int | None) -> Finding:
    return Finding(
        what="missing",
        subject=f"rule of {tables.subject(place)}: {text_of(place, line.spec)}",
        object=tables.rule(place, line.spec),
        owner=_owner(tables, place, line),
        consequence=words.no_rule(place, line.spec),
        mend=(tables.command(place, "-A" if number is None else "-I", line.spec, number),),
    )


def extra_rule(tables: Tables, place: Place, spec: Spec) -> Finding:
    """A rule that nobody wants."""
    owner = tables.case.owners.in_text(spec) or tables.wanted.owners.get(place, "")
    return Finding(
        what="extra",
        subject=f"rule of {tables.subject(place)}: {text_of(place, spec)}",
        object=tables.rule(place, spec),
        owner=owner,
        consequence=words.extra_rule(spec),
        mend=(tables.command(place, "-D", spec),),
    )


def repeated(tables: Tables, place: Place, spec: Spec, owner: str) -> Finding:
    """A rule that does what another one there does already."""
    return Finding(
        what="extra",
        subject=f"rule of {tables.subject(place)}: {text_of(place, spec)}",
        object=tables.rule(place, spec),
        owner=owner,
        consequence="Another rule there does the same: packets are only looked at twice.",
        mend=(tables.command(place, "-D", spec),),
    )


def _wrong_rule(tables: Tables, place: Place, line: Line, seen: Spec, number: int) -> Finding:
    return Finding(
        what="wrong",
        subject=f"rule of {tables.subject(place)}: {text_of(place, line.spec)}",
        object=tables.rule(place, line.spec),
        owner=_owner(tables, place, line),
        differs=(Differs("rule", text_of(place, seen), text_of(place, line.spec)),),
        consequence=words.wrong_rule(place, line.spec, seen),
        mend=(tables.command(place, "-R", line.spec, number),),
    )


def _likeness(one: Spec, other: Spec) -> int:
    """How many words they share, where that is more than half of both."""
    same = sum((Counter(one) & Counter(other)).values())
    return same if same * 2 > max(len(one), len(other)) else 0


def _rules(place: Place, specs: Iterable[Spec]) -> str:
    return "; ".join(text_of(place, spec) for spec in specs)
