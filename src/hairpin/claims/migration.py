"""What a move from one proxy mode to another changes for somebody's Services.  Pure.

Nothing but the topics that claims show by packets is told of Services (``topics_table``); what
changes on the node beside them is in ``node_side``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from hairpin.claims.base import Language
from hairpin.claims.node_side import NODE_SIDES
from hairpin.claims.promises import Difference, Do, Promise, Try
from hairpin.claims.topics import Mode, Topic, concerned
from hairpin.claims.topics_table import TOPICS
from hairpin.model.service import Service

_EVERY = "cluster-ip"  # the concern that every Service with a ClusterIP has
_NODE_PORT_ADDRESSES = "node-port-addresses"


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """``by_service``: the topics that concern not all of them; Services without any are not there.

    ``every``: those that concern each; ``node``: those that are no Service's.
    """

    before: Mode
    after: Mode
    services: tuple[str, ...]
    unserved: tuple[str, ...]  # headless ones and other names: no proxy serves them
    every: tuple[Topic, ...]
    by_service: Mapping[str, tuple[Topic, ...]]
    node: tuple[Topic, ...]
    seen: Mapping[str, tuple[str, ...]]  # the claims that show each topic


def migration(
    before: Mode,
    after: Mode,
    services: Iterable[Service],
    claims: Sequence[Promise],
    *,
    node_port_addresses: bool = False,
) -> Migration:
    """What changes for these Services.  ``node_port_addresses``: the configuration sets them, and
    they then mean the same in all modes."""
    changing = [
        topic
        for topic in TOPICS
        if topic.changes(before, after)
        and not (node_port_addresses and topic.name == _NODE_PORT_ADDRESSES)
    ]
    known = sorted(services, key=lambda service: service.key)
    served = [one for one in known if one.virtual_ips]
    found = {
        _name(one): tuple(
            topic for topic in changing if topic.concerns != _EVERY and concerned(topic, one)
        )
        for one in served
    }
    shown = shows(claims)
    return Migration(
        before=before,
        after=after,
        services=tuple(map(_name, served)),
        unserved=tuple(_name(one) for one in known if not one.virtual_ips),
        every=tuple(topic for topic in changing if topic.concerns == _EVERY and served),
        by_service={name: topics for name, topics in found.items() if topics},
        node=tuple(topic for topic in changing if topic.concerns == "node"),
        seen={topic.name: tuple(shown.get(topic.name, ())) for topic in changing},
    )


def _name(service: Service) -> str:
    return f"{service.metadata.namespace}/{service.metadata.name}"


def shows(claims: Iterable[Promise]) -> dict[str, list[str]]:
    """The claims that show each topic, by its name."""
    found: dict[str, list[str]] = {}
    for claim in claims:
        for topic in dict.fromkeys(one.topic for _, one in differences(claim)):
            found.setdefault(topic, []).append(claim.id.removeprefix("services."))
    return found


def differences(claim: Promise) -> Iterator[tuple[Mode, Difference]]:
    """All Differences of a claim, by mode."""
    for step in claim.steps:
        if isinstance(step, Try | Do):
            yield from step.differs.items()


# In words


def text(found: Migration, language: Language) -> str:
    """For people."""
    return "\n".join([*_head(found), *_services(found, language), *_node(found, language)])


def _head(found: Migration) -> Iterator[str]:
    concerned = len(found.by_service)
    yield f"From {found.before} to {found.after}: {len(found.services)} Services are served"
    if found.unserved:
        yield f"  not served by any mode: {', '.join(found.unserved)}"
    if not (found.every or found.by_service):
        yield "No difference that was seen concerns these Services."
        return
    yield f"  with something of their own to look at: {concerned}"


def _services(found: Migration, language: Language) -> Iterator[str]:
    if found.every:
        yield "\nEvery Service"
        for topic in found.every:
            yield from _topic(found, topic, language)
    same: dict[tuple[str, ...], list[str]] = {}
    for name, topics in found.by_service.items():
        same.setdefault(tuple(topic.name for topic in topics), []).append(name)
    for names in same.values():
        yield "\n" + ", ".join(names)
        for topic in found.by_service[names[0]]:
            yield from _topic(found, topic, language)


def _topic(found: Migration, topic: Topic, language: Language) -> Iterator[str]:
    seen = found.seen[topic.name]
    more = f" and {len(seen) - 2} more" if len(seen) > 2 else ""
    yield f"  {topic.name}: {topic.about.said(language)}"
    yield f"    {found.before}: {topic.does[found.before].said(language)}"
    yield f"    {found.after}: {topic.does[found.after].said(language)}"
    yield f"    to do: {topic.todo[found.after].said(language)}"
    yield f"    shown by: {', '.join(seen[:2])}{more}"


def _node(found: Migration, language: Language) -> Iterator[str]:
    old, new = NODE_SIDES[found.before], NODE_SIDES[found.after]
    yield "\nThe node"
    for topic in found.node:
        yield from _topic(found, topic, language)
    yield f"  {found.after} needs: {new.needs.said(language)}"
    yield f"  left of {found.before}, unless its proxy is told to clean up:"
    for what, command in old.leaves:
        yield f"    {what.said(language)}"
        yield f"      {command}"
    stays = {name: value for name, value in old.sysctls.items() if name not in new.sysctls}
    comes = {name: value for name, value in new.sysctls.items() if name not in old.sysctls}
    for said, sysctls in (
        (f"sysctls that {found.before} set and nobody puts back:", stays),
        (f"sysctls that {found.after} sets:", comes),
    ):
        if sysctls:
            yield f"  {said}"
            yield from (f"    {name} = {value}" for name, value in sysctls.items())
    yield f"  instead of {', '.join(old.see)}: {', '.join(new.see)}"
    yield f"  metrics that end: {', '.join(old.metrics)}"
    yield f"  metrics that begin: {', '.join(new.metrics)}"
    yield f"  configuration: {old.settings.said(language)}"
    yield f"  configuration: {new.settings.said(language)}"


# As JSON


def structured(found: Migration, language: Language) -> dict[str, Any]:
    """For programs: ``topics`` once, by name; Services say which are theirs."""
    old, new = NODE_SIDES[found.before], NODE_SIDES[found.after]
    topics = [*found.every, *found.node]
    for some in found.by_service.values():
        topics += some
    return {
        "from": found.before,
        "to": found.after,
        "topics": {topic.name: _shape(found, topic, language) for topic in topics},
        "every": [topic.name for topic in found.every],
        "services": {
            name: [topic.name for topic in found.by_service.get(name, ())]
            for name in found.services
        },
        "unserved": list(found.unserved),
        "node": {
            "topics": [topic.name for topic in found.node],
            "needs": new.needs.said(language),
            "leaves": [
                {"what": what.said(language), "remove": command} for what, command in old.leaves
            ],
            "sysctls": {
                "left": {k: v for k, v in old.sysctls.items() if k not in new.sysctls},
                "set": {k: v for k, v in new.sysctls.items() if k not in old.sysctls},
            },
            "see": {"before": list(old.see), "after": list(new.see)},
            "metrics": {"end": list(old.metrics), "begin": list(new.metrics)},
            "settings": [old.settings.said(language), new.settings.said(language)],
        },
    }


def _shape(found: Migration, topic: Topic, language: Language) -> dict[str, Any]:
    return {
        "about": topic.about.said(language),
        "concerns": topic.concerns,
        "before": topic.does[found.before].said(language),
        "after": topic.does[found.after].said(language),
        "todo": topic.todo[found.after].said(language),
        "seen": list(found.seen[topic.name]),
    }
