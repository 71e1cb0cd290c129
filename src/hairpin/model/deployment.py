"""Deployments: the same Pod several times (apps/v1)."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from hairpin.model.metadata import Api, Count, KubeObject, TemplateMeta
from hairpin.model.pod import PodSpec


class LabelSelector(Api, frozen=True, kw_only=True):
    match_labels: dict[str, str] = msgspec.field(default_factory=dict)


class PodTemplateSpec(Api, frozen=True, kw_only=True):
    metadata: TemplateMeta = TemplateMeta()
    spec: PodSpec


Share = Count | Annotated[str, msgspec.Meta(pattern=r"^[0-9]+%$")]
"""A count of Pods, or a part of the replicas: ``25%``."""


class RollingUpdateDeployment(Api, frozen=True, kw_only=True):
    """How many Pods there may be beyond the replicas, and how many of these may be missing."""

    max_surge: Share = "25%"
    max_unavailable: Share = "25%"


class DeploymentStrategy(Api, frozen=True, kw_only=True):
    type: Literal["RollingUpdate", "Recreate"] = "RollingUpdate"
    rolling_update: RollingUpdateDeployment = RollingUpdateDeployment()


class DeploymentSpec(Api, frozen=True, kw_only=True):
    """``replicas`` None: nothing was said, which leaves them as they are, or 1 (``wanted``)."""

    template: PodTemplateSpec
    replicas: Count | None = None
    selector: LabelSelector = LabelSelector()
    strategy: DeploymentStrategy = DeploymentStrategy()

    @property
    def wanted(self) -> int:
        """How many Pods there are to be."""
        return 1 if self.replicas is None else self.replicas


class Deployment(KubeObject, frozen=True, kw_only=True, tag="Deployment"):
    """A Pod template and how many Pods to make of it."""

    spec: DeploymentSpec
