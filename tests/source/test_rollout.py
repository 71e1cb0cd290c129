"""Deployments' Pods: which are made and which go, step by step."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.model.deployment import Deployment
from hairpin.model.metadata import Key
from hairpin.model.pod import Pod
from hairpin.model.snapshot import Snapshot
from hairpin.source.controllers import deployment_pods, going
from hairpin.source.rollout import decide, leaving, progress, up_to_date

NOW = "2026-01-01T00:00:00Z"


def deployment(replicas: int, version: str = "1", **strategy: Any) -> Deployment:
    return msgspec.convert(
        {
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "replicas": replicas,
                "strategy": strategy,
                "template": {
                    "metadata": {"annotations": {"version": version}},
                    "spec": {"containers": [{"name": "c"}]},
                },
            },
        },
        Deployment,
    )


class Cluster:
    """A Deployment's Pods, and what becomes of them by one step of the controller at a time."""

    def __init__(self, wanted: Deployment) -> None:
        self.wanted = wanted
        self.pods: dict[Key, Pod] = {}
        self.ready: set[Key] = set()

    def step(self) -> bool:
        """Whether anything changed."""
        snapshot = Snapshot([self.wanted, *self.pods.values()])
        ready = {key: key in self.ready for key in self.pods}
        before, self.pods = self.pods, deployment_pods(snapshot, ready, NOW)
        return self.pods != before

    def settle(self) -> None:
        """Until nothing changes, every Pod being ready at once and gone at once."""
        for _ in range(200):
            self.ready = set(self.pods)
            self.pods = {key: pod for key, pod in self.pods.items() if not leaving(pod)}
            if not self.step():
                return
        raise AssertionError("it never settles")

    @property
    def names(self) -> list[str]:
        return [f"{'-' if leaving(p) else ''}{p.metadata.name}" for p in self.pods.values()]

    @property
    def serving(self) -> int:
        return sum(key in self.ready and not leaving(pod) for key, pod in self.pods.items())


def settled(replicas: int, **strategy: Any) -> Cluster:
    cluster = Cluster(deployment(replicas, **strategy))
    cluster.settle()
    return cluster


def test_a_new_pod_is_ready_before_an_old_one_goes() -> None:
    cluster = settled(2)
    cluster.wanted = deployment(2, "2")
    cluster.step()
    assert cluster.names == ["web-0", "web-1", "web-2"]
    assert not cluster.step()  # web-2 is not ready
    cluster.ready.add(("default", "web-2"))
    cluster.step()
    assert cluster.names == ["web-0", "-web-1", "web-2"]
    cluster.step()
    assert cluster.names == ["web-0", "-web-1", "web-2", "web-3"]
    cluster.settle()
    assert cluster.names == ["web-2", "web-3"]


def test_with_no_surge_an_old_one_goes_first() -> None:
    rolling = {"maxSurge": 0, "maxUnavailable": 1}
    cluster = settled(3, rollingUpdate=rolling)
    cluster.wanted = deployment(3, "2", rollingUpdate=rolling)
    cluster.step()
    assert cluster.names == ["web-0", "web-1", "-web-2"]
    cluster.step()
    assert cluster.names == ["web-0", "web-1", "-web-2", "web-3"]
    assert not cluster.step()


def test_recreate_waits_until_all_are_gone() -> None:
    cluster = settled(2, type="Recreate")
    cluster.wanted = deployment(2, "2", type="Recreate")
    cluster.step()
    assert cluster.names == ["-web-0", "-web-1"]
    assert not cluster.step()
    cluster.pods = {}
    cluster.step()
    assert cluster.names == ["web-0", "web-1"]
    assert all(up_to_date(cluster.wanted, pod) for pod in cluster.pods.values())


def test_scaling_down_gives_up_those_that_are_not_ready_and_then_the_last() -> None:
    cluster = settled(4)
    cluster.ready.discard(("default", "web-1"))
    cluster.wanted = deployment(2)
    cluster.step()
    assert cluster.names == ["web-0", "-web-1", "web-2", "-web-3"]


def test_a_pod_on_its_way_out_is_replaced_under_another_name() -> None:
    cluster = settled(2)
    cluster.pods["default", "web-0"] = going(cluster.pods["default", "web-0"], NOW)
    cluster.step()
    assert cluster.names == ["-web-0", "web-1", "web-2"]


def test_pods_of_a_deleted_deployment_are_marked_with_their_own_grace_period() -> None:
    cluster = settled(1)
    pods = deployment_pods(Snapshot(cluster.pods.values()), {}, NOW)
    (pod,) = pods.values()
    assert (pod.metadata.deletion_timestamp, pod.metadata.deletion_grace_period_seconds) == (
        NOW,
        30,
    )
    assert deployment_pods(Snapshot(cluster.pods.values())) == {}


@pytest.mark.parametrize(("first", "second", "left"), [(30, 5, 5), (5, 30, 5), (5, None, 5)])
def test_a_pod_on_its_way_out_goes_no_later_for_being_deleted_again(
    first: int, second: int | None, left: int
) -> None:
    pod = going(next(iter(settled(1).pods.values())), NOW, first)
    assert going(pod, "later", second).metadata.deletion_grace_period_seconds == left
    assert going(pod, "later", second).metadata.deletion_timestamp == NOW


SHARES = st.integers(0, 3) | st.sampled_from(["0%", "25%", "50%", "100%", "200%"])


@given(
    replicas=st.integers(0, 7),
    surge=SHARES,
    missing=SHARES,
    data=st.data(),
)
def test_a_roll_out_keeps_its_promises_at_every_step(
    replicas: int, surge: int | str, missing: int | str, data: st.DataObject
) -> None:
    rolling = {"maxSurge": surge, "maxUnavailable": missing}
    cluster = settled(replicas, rollingUpdate=rolling)
    cluster.wanted = deployment(replicas, "2", rollingUpdate=rolling)

    def part(share: int | str, up: bool) -> int:
        if isinstance(share, int):
            return share
        return -(-replicas * int(share[:-1]) // 100) if up else replicas * int(share[:-1]) // 100

    most, fewest = replicas + part(surge, True), replicas - part(missing, False)
    if most == replicas == fewest:
        fewest -= 1
    for _ in range(40):
        cluster.step()
        staying = [pod for pod in cluster.pods.values() if not leaving(pod)]
        assert len(staying) <= most
        assert cluster.serving >= min(fewest, replicas)
        late = sorted(set(cluster.pods) - cluster.ready)
        cluster.ready |= set(data.draw(st.lists(st.sampled_from(late))) if late else ())
        gone = sorted(key for key, pod in cluster.pods.items() if leaving(pod))
        for key in set(data.draw(st.lists(st.sampled_from(gone))) if gone else ()):
            del cluster.pods[key]
            cluster.ready.discard(key)
    cluster.settle()
    now = progress(cluster.wanted, cluster.pods.values(), cluster.ready)
    assert now.complete and now.waits_for() is None
    assert len(cluster.pods) == replicas
    decision = decide(cluster.wanted, cluster.pods.values(), cluster.ready)
    assert not decision.made and not decision.dropped
