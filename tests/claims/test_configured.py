"""The packet rows where all to ClusterIPs is masqueraded and no Pod is known as one: the last of
the four configurations that kube-proxy's TestInternalExternalMasquerade has.

``clusterCIDR`` is of IPv6 alone, so that IPv4 has no way to tell local traffic.
"""

from __future__ import annotations

import msgspec
import pytest

from hairpin.claims import check
from hairpin.claims.promises import Answered, Expect, Promise, Step, Try
from hairpin.claims.services_packets import CLAIMS, Place, Policy, documented
from hairpin.claims.topics import Mode
from hairpin.model.configuration import (
    IPTablesConfiguration,
    KubeProxyConfiguration,
    NFTablesConfiguration,
)
from hairpin.world import lifecycle

CONFIG = KubeProxyConfiguration(
    cluster_cidr="fd00:10:244::/48",
    iptables=IPTablesConfiguration(masquerade_all=True),
    nftables=NFTablesConfiguration(masquerade_all=True),
)


def _configured(claim: Promise, mode: Mode) -> Promise:
    _, _, destination, policy, place = claim.id.split(".")
    steps = [_step(step, mode, destination, policy, place) for step in claim.steps]
    return msgspec.structs.replace(claim, steps=tuple(steps))


def _step(step: Step, mode: Mode, destination: str, policy: str, place: str) -> Step:
    """Only what Pods meet is otherwise."""
    if not isinstance(step, Try) or step.client.kind != "pod":
        return step
    expect = step.wanted(mode)
    if destination == "cluster-ip":
        expect = _masqueraded(expect)
    elif policy == "external-local" and mode != "ipvs":
        # Nobody takes the short way to all endpoints.  IPVS knows none.
        known = msgspec.convert((policy, place), tuple[Policy, Place])
        expect = documented("outside", destination, *known)
    return msgspec.structs.replace(step, expect=expect, differs={})


def _masqueraded(expect: Expect) -> Expect:
    if isinstance(expect, Answered):
        return msgspec.structs.replace(expect, sees="node")
    return expect


def _run(kernel: str, mode: Mode) -> None:
    config = msgspec.structs.replace(CONFIG, mode=mode)
    with lifecycle.ephemeral("rows", kernel, mode=mode) as lab:
        cast = check.build(lab, mode, config)
        claims = [_configured(claim, mode) for claim in CLAIMS]
        verdicts = check.Check(lab, cast, mode).run(claims)
    wrong = [(one.claim.id, one.why, one.findings) for one in verdicts if not one.good]
    assert not wrong
    assert not any(one.result == "skipped" for one in verdicts)


@pytest.mark.host
@pytest.mark.timeout(200)
@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_on_the_host(mode: Mode) -> None:
    _run("host", mode)


@pytest.mark.guest
@pytest.mark.timeout(400)
def test_in_the_guest() -> None:
    _run("guest", "ipvs")
