"""What claims show that modes differ in, and what a migration tells, are one list."""

from itertools import permutations
from typing import Any

import pytest

from hairpin.claims import migration_words
from hairpin.claims.catalogue import CLAIMS
from hairpin.claims.migration import differences, migration, shows
from hairpin.claims.promises import Do, Try
from hairpin.claims.settings_side import MOOT, settings
from hairpin.claims.topics import CONCERNED, MODES, Mode, Topic
from hairpin.claims.topics_table import BY_NAME, TOPICS
from hairpin.model.configuration import (
    ConntrackConfiguration,
    IPTablesConfiguration,
    IPVSConfiguration,
    KubeProxyConfiguration,
    NFTablesConfiguration,
    Seconds,
)
from hairpin.model.decode import decode_object
from hairpin.model.service import Service

PAIRS = list(permutations(MODES, 2))


def test_every_topic_is_shown_by_a_claim_and_every_difference_has_one() -> None:
    assert set(shows(CLAIMS)) == set(BY_NAME)
    assert len(BY_NAME) == len(TOPICS)


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_topic_says_all(topic: Topic) -> None:
    assert topic.concerns in CONCERNED
    for texts in (topic.does, topic.todo):
        assert set(texts) == set(MODES)
        for said in texts.values():
            assert said.en and said.zh
    assert len({said.en for said in topic.does.values()}) > 1


def _felt(step: Try | Do, topic: str, before: Mode, after: Mode) -> bool | None:
    """Whether a step has the topic show between two modes; None where another one does too."""
    found = [step.differs.get(mode) for mode in (before, after)]
    topics = {one.topic for one in found if one is not None}
    if topics != {topic}:
        return None if topics else False
    if isinstance(step, Do):
        return found[0] != found[1]
    return step.wanted(before) != step.wanted(after)


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_what_a_topic_says_of_two_modes_is_what_claims_expect(
    topic: Topic, before: Mode, after: Mode
) -> None:
    steps = [step for claim in CLAIMS for step in claim.steps if isinstance(step, Try | Do)]
    felt = [_felt(step, topic.name, before, after) for step in steps]
    assert any(felt) == topic.changes(before, after)


def _service(name: str = "web", **spec: Any) -> Service:
    shape = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "clusterIP": "10.96.0.9",
            "clusterIPs": ["10.96.0.9"],
            "ports": [{"port": 80, "protocol": "UDP"}],
            **spec,
        },
    }
    decoded = decode_object(shape)
    assert isinstance(decoded, Service)
    return decoded


NODE_PORT: dict[str, Any] = {
    "type": "NodePort",
    "ports": [{"port": 80, "protocol": "UDP", "nodePort": 30080}],
}
LOCAL = {"internalTrafficPolicy": "Local"}


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({}, set()),
        ({"ports": [{"port": 80}]}, {"invalid-packets", "idle-connections"}),
        (NODE_PORT, {"node-port-addresses", "firewall-forward-outside"}),
        (
            {**NODE_PORT, "externalTrafficPolicy": "Local"},
            {"node-port-addresses", "external-local-inside", "external-local-elsewhere"},
        ),
        (LOCAL, {"internal-local-empty"}),
        (
            {**NODE_PORT, **LOCAL},
            {"node-port-addresses", "internal-local-fallback", "firewall-forward-outside"},
        ),
        ({"sessionAffinity": "ClientIP"}, {"affinity-timeout"}),
        (
            {**NODE_PORT, "sessionAffinity": "ClientIP"},
            {
                "node-port-addresses",
                "affinity-timeout",
                "affinity-frontends",
                "firewall-forward-outside",
            },
        ),
        (
            {"externalIPs": ["203.0.113.1"]},
            {"external-ip-of-a-node", "arp", "firewall-forward-outside"},
        ),
        (
            {
                "type": "LoadBalancer",
                "externalTrafficPolicy": "Local",
                "healthCheckNodePort": 31000,
            },
            {"external-local-inside", "external-local-elsewhere", "arp", "firewall-health-check"},
        ),
    ],
)
def test_which_services_are_concerned(spec: dict[str, Any], names: set[str]) -> None:
    found = migration("ipvs", "nftables", [_service(**spec)], CLAIMS)
    told = {topic.name for topics in found.by_service.values() for topic in topics}
    assert told == names
    assert {topic.name for topic in found.every} == {
        "loopback-source", "node-source", "firewall-input", "firewall-forward-pods", "spread",
        "service-deleted",
    }  # fmt: skip


def test_a_service_that_no_proxy_serves_is_not_concerned() -> None:
    headless = _service(clusterIP="None", clusterIPs=["None"], sessionAffinity="ClientIP")
    found = migration("ipvs", "nftables", [headless], CLAIMS)
    assert (found.services, found.unserved) == ((), ("default/web",))
    assert not found.by_service and not found.every


MOOT_BY: dict[str, KubeProxyConfiguration] = {
    "node-port-addresses": KubeProxyConfiguration(node_port_addresses=("0.0.0.0/0",)),
    "localhost-node-port": KubeProxyConfiguration(
        iptables=IPTablesConfiguration(localhost_node_ports=False)
    ),
    "arp": KubeProxyConfiguration(ipvs=IPVSConfiguration(strict_arp=True)),
    "idle-connections": KubeProxyConfiguration(ipvs=IPVSConfiguration(tcp_timeout=Seconds(86400))),
    "invalid-packets": KubeProxyConfiguration(
        conntrack=ConntrackConfiguration(tcp_be_liberal=True)
    ),
}
EXPOSED: dict[str, Any] = {
    **NODE_PORT,
    "type": "LoadBalancer",
    "ports": [{"port": 80, "nodePort": 30080}],
}


@pytest.mark.parametrize("topic", MOOT)
def test_what_a_configuration_makes_no_difference_of_is_not_told(topic: str) -> None:
    services = [_service(**EXPOSED)]
    before: Mode = "iptables" if topic == "localhost-node-port" else "ipvs"
    plain = migration(before, "nftables", services, CLAIMS, KubeProxyConfiguration())
    found = migration(before, "nftables", services, CLAIMS, MOOT_BY[topic])
    assert [one.name for one in found.moot] == [topic]
    assert set(plain.topics) - set(found.topics) == {topic}
    assert not plain.moot


def test_settings_that_are_not_taken_over() -> None:
    config = KubeProxyConfiguration(
        ipvs=IPVSConfiguration(scheduler="lc", sync_period=Seconds(10)),
        iptables=IPTablesConfiguration(masquerade_all=True, localhost_node_ports=False),
    )
    told = {
        after: [(one.name, one.value, one.says.en) for one in settings(config, "ipvs", after)]
        for after in ("iptables", "nftables")
    }
    ends = "means nothing any more"
    assert told == {
        "iptables": [
            ("ipvs.syncPeriod", "10s", "is to be said as iptables.syncPeriod"),
            ("ipvs.scheduler", "lc", ends),
        ],
        "nftables": [
            ("ipvs.syncPeriod", "10s", "is to be said as nftables.syncPeriod"),
            ("ipvs.scheduler", "lc", ends),
            ("iptables.masqueradeAll", "true", "is to be said as nftables.masqueradeAll"),
        ],
    }
    kept = [one.name for one in settings(config, "iptables", "nftables")]
    assert kept == ["iptables.masqueradeAll", "iptables.localhostNodePorts"]


def test_settings_that_are_said_in_the_new_section_too_are_no_news() -> None:
    config = KubeProxyConfiguration(
        iptables=IPTablesConfiguration(masquerade_bit=20),
        nftables=NFTablesConfiguration(masquerade_bit=20),
    )
    assert not list(settings(config, "iptables", "nftables"))


def test_a_difference_of_its_own_is_told_only_where_a_claim_shows_it() -> None:
    """A topic without a claim would be hearsay: ``seen`` would be empty."""
    for before, after in PAIRS:
        found = migration(before, after, [_service(**NODE_PORT)], CLAIMS)
        assert all(found.seen.values())


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_what_claims_show_of_two_modes_is_told_of_some_service(before: Mode, after: Mode) -> None:
    """With one Service of each kind nothing that differs is left out, and nothing else is told."""
    some: list[dict[str, Any]] = [
        {**EXPOSED, "sessionAffinity": "ClientIP", "externalIPs": ["203.0.113.1"], **LOCAL},
        {**EXPOSED, "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000},
        LOCAL,
    ]
    services = [_service(f"web{number}", **spec) for number, spec in enumerate(some)]
    found = migration(before, after, services, CLAIMS)
    assert set(found.topics) == {one.name for one in TOPICS if one.changes(before, after)}
    told = migration_words.text(found, "en")
    for name in BY_NAME:
        assert (f"  {name}: " in told) == (name in found.topics)


def test_differences_are_of_tries_and_of_what_claims_do() -> None:
    kinds = {
        type(step)
        for claim in CLAIMS
        for step in claim.steps
        if isinstance(step, Try | Do) and step.differs
    }
    assert kinds == {Try, Do}
    assert all(mode in MODES for claim in CLAIMS for mode, _ in differences(claim))
