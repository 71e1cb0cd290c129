"""What a move from one proxy mode to another changes for somebody's Services.  Pure.

Nothing but the topics that claims show by packets is told of Services (``topics_table``); what
changes on the node beside them is in ``node_side``, and what of the configuration in
``settings_side``.  ``migration_words`` says it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from hairpin.claims.promises import Difference, Do, Promise, Try
from hairpin.claims.settings_side import Setting, moot, settings
from hairpin.claims.topics import EVERY, Mode, Topic, concerned
from hairpin.claims.topics_table import TOPICS
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.service import Service


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """``by_service``: the topics that concern not all of them; Services without any are not there.

    ``every``: those that concern each; ``node``: those that are no Service's; ``moot``: those in
    which the modes do not differ with this configuration.  ``settings`` None: there was no
    configuration.
    """

    before: Mode
    after: Mode
    services: tuple[str, ...]
    unserved: tuple[str, ...]  # headless ones and other names: no proxy serves them
    every: tuple[Topic, ...]
    by_service: Mapping[str, tuple[Topic, ...]]
    node: tuple[Topic, ...]
    moot: tuple[Topic, ...]
    seen: Mapping[str, tuple[str, ...]]  # the claims that show each topic
    settings: tuple[Setting, ...] | None

    @property
    def topics(self) -> dict[str, Topic]:
        """Each that is told, once, by its name."""
        several = (self.every, self.node, *self.by_service.values())
        return {topic.name: topic for some in several for topic in some}


def migration(
    before: Mode,
    after: Mode,
    services: Iterable[Service],
    claims: Sequence[Promise],
    config: KubeProxyConfiguration | None = None,
) -> Migration:
    """What changes for these Services, with that configuration of kube-proxy."""
    passed = moot(config) if config is not None else frozenset()
    differing = [topic for topic in TOPICS if topic.changes(before, after)]
    changing = [topic for topic in differing if topic.name not in passed]
    known = sorted(services, key=lambda service: service.key)
    served = [one for one in known if one.virtual_ips]
    found = {
        _name(one): tuple(
            topic for topic in changing if topic.concerns != EVERY and concerned(topic, one)
        )
        for one in served
    }
    shown = shows(claims)
    return Migration(
        before=before,
        after=after,
        services=tuple(map(_name, served)),
        unserved=tuple(_name(one) for one in known if not one.virtual_ips),
        every=tuple(topic for topic in changing if topic.concerns == EVERY and served),
        by_service={name: topics for name, topics in found.items() if topics},
        node=tuple(topic for topic in changing if topic.concerns == "node"),
        moot=tuple(topic for topic in differing if topic.name in passed),
        seen={topic.name: tuple(shown.get(topic.name, ())) for topic in changing},
        settings=None if config is None else tuple(settings(config, before, after)),
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
