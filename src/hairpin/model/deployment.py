"""Deployments: the same Pod several times (apps/v1)."""

from __future__ import annotations

import msgspec

from hairpin.model.metadata import Api, Count, KubeObject, TemplateMeta
from hairpin.model.pod import PodSpec


class LabelSelector(Api, frozen=True, kw_only=True):
    match_labels: dict[str, str] = msgspec.field(default_factory=dict)


class PodTemplateSpec(Api, frozen=True, kw_only=True):
    metadata: TemplateMeta = TemplateMeta()
    spec: PodSpec


class DeploymentSpec(Api, frozen=True, kw_only=True):
    template: PodTemplateSpec
    replicas: Count = 1
    selector: LabelSelector = LabelSelector()


class Deployment(KubeObject, frozen=True, kw_only=True, tag="Deployment"):
    """A Pod template and how many Pods to make of it."""

    spec: DeploymentSpec
