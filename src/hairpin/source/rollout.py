"""What a Deployment's controller decides: which Pods to make and which to let go.

As Kubernetes does it for a Deployment and its ReplicaSets (pkg/controller/deployment: a rolling
update goes on by readiness and is never waited for), but for the names: a new Pod takes the
lowest free number, and while others are on their way out or out of date, the one after the
highest, so that no name depends on how fast they go.  Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import count, islice

import msgspec

from hairpin.model.annotations import POD_IP
from hairpin.model.deployment import Deployment, Share
from hairpin.model.metadata import Key, ObjectMeta, OwnerReference
from hairpin.model.pod import Pod


class Decision(msgspec.Struct, frozen=True):
    """``made`` are new Pods, without node and address; ``dropped`` is to go."""

    made: tuple[Pod, ...] = ()
    dropped: frozenset[Key] = frozenset()


class Progress(msgspec.Struct, frozen=True):
    """How far a Deployment's Pods are; those on their way out do not count."""

    wanted: int
    replicas: int
    updated: int
    ready: int
    updated_ready: int

    @property
    def complete(self) -> bool:
        return self.wanted == self.replicas == self.updated == self.updated_ready

    def waits_for(self) -> str | None:
        """What a roll-out still waits for, in words; None when it is complete."""
        if self.updated < self.wanted:
            return f"{self.updated} out of {self.wanted} new replicas have been updated"
        if self.replicas > self.updated:
            return f"{self.replicas - self.updated} old replicas are pending termination"
        if not self.complete:
            return f"{self.updated_ready} of {self.updated} updated replicas are available"
        return None


def owner_of(pod: Pod) -> str | None:
    """The Deployment that the Pod was made for; in a real cluster a ReplicaSet is between."""
    owners = pod.metadata.owner_references
    return next((owner.name for owner in owners if owner.kind == "Deployment"), None)


def leaving(pod: Pod) -> bool:
    """Whether the Pod is on its way out."""
    return pod.metadata.deletion_timestamp is not None


def up_to_date(deployment: Deployment, pod: Pod) -> bool:
    """Whether the Pod is as the Deployment's template says, wherever it was put."""
    template = deployment.spec.template
    if (pod.metadata.labels, pod.metadata.annotations) != (
        template.metadata.labels,
        template.metadata.annotations,
    ):
        return False
    if pod.spec == template.spec:
        return True
    node = template.spec.node_name
    return not node and msgspec.structs.replace(pod.spec, node_name=node) == template.spec


def progress(deployment: Deployment, own: Iterable[Pod], available: Collection[Key]) -> Progress:
    """Counts the Pods that the Deployment owns."""
    staying = [pod for pod in own if not leaving(pod)]
    updated = [pod for pod in staying if up_to_date(deployment, pod)]
    return Progress(
        wanted=deployment.spec.wanted,
        replicas=len(staying),
        updated=len(updated),
        ready=sum(pod.key in available for pod in staying),
        updated_ready=sum(pod.key in available for pod in updated),
    )


def decide(deployment: Deployment, own: Iterable[Pod], available: Collection[Key]) -> Decision:
    """The next step, given all Pods that the Deployment owns and those that are ready.

    The same decision again and again, while Pods become ready and go, ends with ``replicas`` Pods
    that are up to date.
    """
    pods = list(own)
    staying = [pod for pod in pods if not leaving(pod)]
    new = [pod for pod in staying if up_to_date(deployment, pod)]
    old = [pod for pod in staying if not up_to_date(deployment, pod)]
    replicas = deployment.spec.wanted
    surge, missing = _shares(deployment)
    surplus = max(0, len(new) - replicas)
    dropped = _first_to_go(new, available)[:surplus]
    wanted = replicas - len(new)
    if old:
        spare = replicas + surge - len(staying) + surplus
        if _recreates(deployment):
            spare, drop = 0, old
        else:
            drop = _old_to_go(old, new, available, replicas - missing)
        dropped += drop
        wanted = min(wanted, spare)
    elif _recreates(deployment) and any(not up_to_date(deployment, pod) for pod in pods):
        wanted = 0  # what is on its way out keeps its place until it is gone
    made = islice(_new_pods(deployment, pods), max(0, wanted))
    return Decision(tuple(made), frozenset(pod.key for pod in dropped))


def _recreates(deployment: Deployment) -> bool:
    """Also where the template gives the Pod its address: there can be no second one beside it."""
    asked = POD_IP in deployment.spec.template.metadata.annotations
    return deployment.spec.strategy.type == "Recreate" or asked


def _shares(deployment: Deployment) -> tuple[int, int]:
    """maxSurge, rounded up, and maxUnavailable, rounded down; never both nothing."""
    said, replicas = deployment.spec.strategy.rolling_update, deployment.spec.wanted
    surge = _part(said.max_surge, replicas, up=True)
    missing = _part(said.max_unavailable, replicas, up=False)
    return surge, missing if surge or missing else 1


def _part(share: Share, replicas: int, *, up: bool) -> int:
    if isinstance(share, int):
        return share
    return (int(share[:-1]) * replicas + (99 if up else 0)) // 100


def _old_to_go(old: list[Pod], new: list[Pod], available: Collection[Key], least: int) -> list[Pod]:
    """Old Pods that can go while ``least`` stay available; those that are not go first."""
    waiting = sum(1 for pod in new if pod.key not in available)
    room = len(old) + len(new) - least - waiting
    if room <= 0:
        return []
    lame = [pod for pod in old if pod.key not in available][:room]
    serving = [pod for pod in old if pod.key in available]
    beyond = len(serving) + len(new) - waiting - least
    return lame + _first_to_go(serving, available)[: max(0, min(room - len(lame), beyond))]


def _first_to_go(pods: list[Pod], available: Collection[Key]) -> list[Pod]:
    """In the order in which they are given up: not ready ones, then those with high numbers."""
    return sorted(pods, key=lambda pod: (pod.key in available, -_number(pod)))


def _number(pod: Pod) -> int:
    digits = pod.metadata.name.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def _new_pods(deployment: Deployment, pods: list[Pod]) -> Iterator[Pod]:
    name, template = deployment.metadata.name, deployment.spec.template
    owner = OwnerReference(api_version="apps/v1", kind="Deployment", name=name, controller=True)
    taken = {pod.metadata.name for pod in pods}
    moving = any(leaving(pod) or not up_to_date(deployment, pod) for pod in pods)
    first = max(map(_number, pods)) + 1 if moving else 0
    for number in count(first):
        if f"{name}-{number}" not in taken:
            metadata = ObjectMeta(
                name=f"{name}-{number}",
                namespace=deployment.metadata.namespace,
                labels=template.metadata.labels,
                annotations=template.metadata.annotations,
                owner_references=(owner,),
            )
            yield Pod(metadata=metadata, spec=template.spec)
