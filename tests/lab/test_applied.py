"""What applying a manifest again leaves as commands made it: kubectl's three-way comparison.

Expected values are kubectl apply's ("Declarative Management of Kubernetes Objects Using
Configuration Files", how the fields are merged, in the Kubernetes documentation).
"""

from __future__ import annotations

from typing import Any

import pytest

from hairpin.lab.applied import LastApplied
from hairpin.model.decode import decode_object
from hairpin.model.deployment import Deployment
from hairpin.model.snapshot import Snapshot

RESTARTED = "kubectl.kubernetes.io/restartedAt"


def deployment(replicas: int | None = None, notes: dict[str, str] | None = None) -> Deployment:
    labels = {"app": "web"}
    raw: dict[str, Any] = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": notes or {}},
                "spec": {"containers": [{"name": "c"}]},
            },
        },
    }
    found = decode_object(raw)
    assert isinstance(found, Deployment)
    return found


def applied(
    last: Deployment | None, there: Deployment | None, new: Deployment
) -> tuple[int | None, dict[str, str]]:
    """The replicas and the template's annotations after ``new`` was applied to what is there."""
    known = LastApplied()
    if last is not None:
        known.note([last])
    (found,) = known.merged([new], Snapshot([there] if there is not None else []))
    assert isinstance(found, Deployment)
    return found.spec.replicas, found.spec.template.metadata.annotations


@pytest.mark.parametrize(
    ("last", "there", "new", "wanted"),
    [
        (None, None, None, 1),
        (None, None, 3, 3),
        (None, 5, None, 5),  # scaled, and nobody's manifest says replicas
        (None, 0, None, 0),
        (3, 5, None, 1),  # the manifest said so before and does not now: the default
        (3, 5, 3, 3),  # a manifest that says them undoes a scale
        (None, 5, 2, 2),
        (3, None, None, 1),  # deleted since
    ],
)
def test_replicas(last: int | None, there: int | None, new: int | None, wanted: int) -> None:
    live = deployment(there) if there is not None else None
    before = deployment(last) if live is not None or last is not None else None
    assert applied(before, live, deployment(new))[0] == wanted


def test_a_restart_stays_and_own_annotations_follow_the_manifest() -> None:
    last = deployment(2, {"a": "1", "b": "1"})
    live = deployment(2, {"a": "1", "b": "1", RESTARTED: "now"})
    notes = applied(last, live, deployment(2, {"b": "2", "c": "2"}))[1]
    assert notes == {RESTARTED: "now", "b": "2", "c": "2"}
    assert applied(last, None, deployment(2, {"c": "2"}))[1] == {"c": "2"}


def test_applying_the_same_again_changes_nothing() -> None:
    said = deployment(None, {"a": "1"})
    known = LastApplied()
    (first,) = known.merged([said], Snapshot())
    known.note([said])
    (again,) = known.merged([said], Snapshot([first]))
    assert again == first
