"""A Migration in words, and as JSON or YAML.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hairpin.claims import node_side
from hairpin.claims.base import Language
from hairpin.claims.migration import Migration
from hairpin.claims.node_side import NODE_SIDES, NodeSide
from hairpin.claims.settings_side import ending
from hairpin.claims.topics import Topic


def text(found: Migration, language: Language) -> str:
    """For people."""
    return "\n".join([*_head(found), *_services(found, language), *_node(found, language)])


def _head(found: Migration) -> Iterator[str]:
    number = len(found.services)
    are = "Service is" if number == 1 else "Services are"
    yield f"From {found.before} to {found.after}: {number} {are} served"
    if found.unserved:
        yield f"  not served by any mode: {', '.join(found.unserved)}"
    if not (found.every or found.by_service):
        yield "No difference that was seen concerns these Services."
        return
    asking = sum(topic.asks(found.after) for topic in found.topics.values())
    yield f"  with something of their own to look at: {len(found.by_service)}"
    yield f"  differences that concern them or the node: {len(found.topics)}, {asking} with a to-do"
    if found.moot:
        names = ", ".join(topic.name for topic in found.moot)
        yield f"  none, with this configuration: {names}"


def _services(found: Migration, language: Language) -> Iterator[str]:
    if found.every:
        yield "\nEvery Service"
        yield from _topics(found, found.every, language)
    same: dict[tuple[str, ...], list[str]] = {}
    for name, topics in found.by_service.items():
        same.setdefault(tuple(topic.name for topic in topics), []).append(name)
    for names in same.values():
        yield "\n" + ", ".join(names)
        yield from _topics(found, found.by_service[names[0]], language)


def _topics(found: Migration, topics: Sequence[Topic], language: Language) -> Iterator[str]:
    """Those that ask for something first; the others in one line each."""
    harmless = []
    for topic in topics:
        if topic.asks(found.after):
            yield from _topic(found, topic, language)
        else:
            harmless.append(topic)
    if harmless:
        yield "  also different, with nothing to do:"
    for topic in harmless:
        before, after = (topic.does[mode].said(language) for mode in (found.before, found.after))
        yield f"    {topic.name}: {topic.about.said(language)}"
        yield f"      {found.before}: {before}; {found.after}: {after} ({_seen(found, topic)})"


def _topic(found: Migration, topic: Topic, language: Language) -> Iterator[str]:
    yield f"  {topic.name}: {topic.about.said(language)}"
    yield f"    {found.before}: {topic.does[found.before].said(language)}"
    yield f"    {found.after}: {topic.does[found.after].said(language)}"
    yield f"    to do: {topic.todo[found.after].said(language)}"
    yield f"    shown by: {_seen(found, topic)}"


def _seen(found: Migration, topic: Topic) -> str:
    seen = found.seen[topic.name]
    return ", ".join(seen[:2]) + (f" and {len(seen) - 2} more" if len(seen) > 2 else "")


# The node


def _node(found: Migration, language: Language) -> Iterator[str]:
    old, new = NODE_SIDES[found.before], NODE_SIDES[found.after]
    yield "\nThe node"
    yield from _topics(found, found.node, language)
    for need, source in new.needs:
        yield f"  {found.after} needs: {need.said(language)} ({source})"
    yield f"  {found.before} leaves:"
    for one in old.leaves:
        yield f"    {one.what.said(language)} ({one.source})"
        yield f"      seen with: {one.see}" + (f"; removed with: {one.remove}" * bool(one.remove))
    removal = node_side.cleaned(found.before, found.after).said(language)
    yield f"    {removal} ({node_side.CLEANED})"
    yield f"    {node_side.HAIRPIN.said(language)}"
    yield f"  open connections: {node_side.open_connections(found.before).said(language)}"
    yield from _sysctls(found, old, new)
    yield f"  what is served, before: {'; '.join(_looks(old))}"
    yield f"  what is served, then: {'; '.join(_looks(new))}"
    ends, begins = _metrics(old, new), _metrics(new, old)
    if ends:
        yield f"  metrics that end: {', '.join(ends)} ({node_side.METRICS})"
    if begins:
        yield f"  metrics that begin: {', '.join(begins)} ({node_side.METRICS})"
    yield from _settings(found, language)


def _sysctls(found: Migration, old: NodeSide, new: NodeSide) -> Iterator[str]:
    for said, some, other in (
        (f"sysctls that {found.before} set and nobody puts back", old, new),
        (f"sysctls that {found.after} sets", new, old),
    ):
        names = {one.name for one in other.sysctls}
        rest = [one for one in some.sysctls if one.name not in names]
        if rest:
            sources = ", ".join(dict.fromkeys(one.source for one in rest))
            yield f"  {said} ({sources}):"
        for one in rest:
            yield f"    {one.name} = {one.value}" + (f", if {one.when}" * bool(one.when))


def _looks(side: NodeSide) -> list[str]:
    return [one.see for one in side.leaves]


def _metrics(some: NodeSide, other: NodeSide) -> list[str]:
    own = [f"kubeproxy_{name}" for name in some.metrics if name not in other.metrics]
    return [*own, *(one for one in some.others if one not in other.others)]


def _settings(found: Migration, language: Language) -> Iterator[str]:
    nothing, anew = ending(found.before, found.after)
    if found.settings is None:
        yield f"  settings that mean nothing any more: {_names(nothing)}"
        if anew:
            yield f"  settings to be said in the section {found.after}: {_names(anew)}"
        return
    yield "  of this configuration" + (
        ":" if found.settings else ", all that is set means the same"
    )
    for one in found.settings:
        yield f"    {one.name} ({one.value}) {one.says.said(language)}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


# As JSON


def structured(found: Migration, language: Language) -> dict[str, Any]:
    """For programs: ``topics`` once, by name; Services say which are theirs."""
    return {
        "from": found.before,
        "to": found.after,
        "topics": {name: _shape(found, topic, language) for name, topic in found.topics.items()},
        "every": [topic.name for topic in found.every],
        "services": {
            name: [topic.name for topic in found.by_service.get(name, ())]
            for name in found.services
        },
        "unserved": list(found.unserved),
        "moot": [topic.name for topic in found.moot],
        "node": _node_shape(found, language),
    }


def _node_shape(found: Migration, language: Language) -> dict[str, Any]:
    old, new = NODE_SIDES[found.before], NODE_SIDES[found.after]
    nothing, anew = ending(found.before, found.after)
    return {
        "topics": [topic.name for topic in found.node],
        "needs": [{"what": what.said(language), "source": source} for what, source in new.needs],
        "leaves": [
            {
                "what": one.what.said(language),
                "see": one.see,
                "remove": one.remove,
                "source": one.source,
            }
            for one in old.leaves
        ],
        "removal": {
            "kubeProxy": node_side.cleaned(found.before, found.after).said(language),
            "hairpin": node_side.HAIRPIN.said(language),
        },
        "connections": node_side.open_connections(found.before).said(language),
        "sysctls": {"left": _sysctl_shapes(old, new), "set": _sysctl_shapes(new, old)},
        "see": {"before": _looks(old), "after": _looks(new)},
        "metrics": {"end": _metrics(old, new), "begin": _metrics(new, old)},
        "settings": {
            "end": nothing,
            "anew": anew,
            "set": None
            if found.settings is None
            else [
                {"name": one.name, "value": one.value, "says": one.says.said(language)}
                for one in found.settings
            ],
        },
    }


def _sysctl_shapes(some: NodeSide, other: NodeSide) -> list[dict[str, str]]:
    names = {one.name for one in other.sysctls}
    return [
        {"name": one.name, "value": one.value, "when": one.when, "source": one.source}
        for one in some.sysctls
        if one.name not in names
    ]


def _shape(found: Migration, topic: Topic, language: Language) -> dict[str, Any]:
    return {
        "about": topic.about.said(language),
        "concerns": topic.concerns,
        "before": topic.does[found.before].said(language),
        "after": topic.does[found.after].said(language),
        "todo": topic.todo[found.after].said(language),
        "asks": topic.asks(found.after),
        "seen": list(found.seen[topic.name]),
    }
