"""Jumps from built-in chains of iptables into those of a proxy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from hairpin.audit import rules_words as words
from hairpin.audit.names import is_ours
from hairpin.audit.report import Differs, Finding
from hairpin.audit.rules_chain import extra_rule, repeated
from hairpin.audit.rules_seen import Tables, text_of
from hairpin.plan.owner import PROXY
from hairpin.present.iptables_save import Place, Spec
from hairpin.state.netfilter import Jump

_ENDS = (("-j", "ACCEPT"), ("-j", "DROP"), ("-j", "RETURN"), ("-j", "REJECT"))


def jumps(tables: Tables, place: Place, wanted: Sequence[tuple[Jump, str]]) -> Iterator[Finding]:
    """Jumps to our chains in a built-in one."""
    asked = {tables.plain(jump.spec): jump.spec for jump, _ in wanted}
    seen = [asked.get(tables.plain(one), one) for one in tables.seen.chains.get(place, [])]
    now, head = list(seen), 0  # as the commands leave it, and where the next jump goes
    for jump, owner in wanted:
        if jump.spec not in seen and tables.older(place, jump.to):
            continue
        if jump.spec not in seen:
            now.insert(head, jump.spec)
            yield _missing_jump(tables, place, jump, owner, head + 1)
        elif (hider := _hidden_by(now, jump.spec)) is not None:
            now.insert(head, jump.spec)
            old = now.index(jump.spec, head + 1)
            del now[old]
            yield _hidden_jump(tables, place, jump, owner, hider, (head + 1, old + 1))
        head = now.index(jump.spec) + 1
    owners = {jump.spec: owner for jump, owner in wanted}
    mine = {jump.to for jump, _ in wanted}
    for spec, count in Counter(seen).items():
        to = spec[-1] if spec[-2:-1] in (("-j",), ("-g",)) else ""
        if spec in owners:
            for _ in range(count - 1):
                yield repeated(tables, place, spec, owners[spec])
        elif to in mine:
            if not any(jump.to == to and jump.spec not in seen for jump, _ in wanted):
                yield repeated(tables, place, spec, PROXY)
        elif tables.goes_with_a_chain(place, spec):
            continue
        elif is_ours((place[0], to), tables.case.config.mode, tables.family):
            yield extra_rule(tables, place, spec)


def _missing_jump(tables: Tables, place: Place, jump: Jump, owner: str, number: int) -> Finding:
    seen = tables.seen.chains.get(place, [])
    instead = next((spec for spec in seen if spec[-2:] == ("-j", jump.to)), None)
    differs: tuple[Differs, ...] = ()
    mend = [tables.command(place, "-I", jump.spec, number)]
    if instead is not None:
        differs = (Differs("rule", text_of(place, instead), text_of(place, jump.spec)),)
        mend.append(tables.command(place, "-D", instead))
    return Finding(
        what="missing" if instead is None else "wrong",
        subject=f"jump from {tables.subject(place)} to {jump.to}",
        object=jump,
        owner=owner,
        differs=differs,
        consequence=words.no_jump(place, jump.to),
        mend=tuple(mend),
    )


def _hidden_jump(
    tables: Tables, place: Place, jump: Jump, owner: str, hider: Spec, numbers: tuple[int, int]
) -> Finding:
    """``numbers`` are where it goes, and where the old one is before it is made anew."""
    new, old = numbers
    return Finding(
        what="wrong",
        subject=f"jump from {tables.subject(place)} to {jump.to}",
        object=jump,
        owner=owner,
        differs=(Differs("place", f"after: {text_of(place, hider)}", "before it"),),
        consequence=words.hidden_jump(place, jump.to, hider),
        mend=(
            tables.command(place, "-I", jump.spec, new),
            tables.command(place, "-D", at=old),
        ),
    )


def _hidden_by(seen: Sequence[Spec], spec: Spec) -> Spec | None:
    """A rule before it that ends every packet's way."""
    for one in seen[: seen.index(spec)]:
        if one[:2] in _ENDS:
            return one
    return None
