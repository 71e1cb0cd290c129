"""What every Kubernetes object has: a kind, a name, labels, annotations, owners.

The structs keep the API's JSON shape (Kubernetes 1.36); fields that hairpin never reads are left
out and ignored by decoding.  Static defaults of the API server are the fields' defaults.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Key = tuple[str, str]
"""Namespace and name; the namespace of a Node is empty."""

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Protocol = Literal["TCP", "UDP", "SCTP"]

_UPPER = {"ip": "IP", "ips": "IPs", "cidr": "CIDR", "cidrs": "CIDRs"}


def api_name(attribute: str) -> str:
    """The API's name of a field: ``cluster_ips`` is ``clusterIPs``, ``ip_mode`` ``ipMode``."""
    first, *rest = attribute.split("_")
    return first + "".join(_UPPER.get(part, part.title()) for part in rest)


class Api(msgspec.Struct, frozen=True, kw_only=True, rename=api_name):
    """A part of a Kubernetes object."""


class OwnerReference(Api, frozen=True, kw_only=True):
    """Who made an object: it goes when its owner goes."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    controller: bool | None = None


class ObjectMeta(Api, frozen=True, kw_only=True):
    """The object's name and what is said about it."""

    name: str
    namespace: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: Count | None = None
    uid: str | int = ""  # unquoted, YAML may take either for a number
    resource_version: str | int = ""

    @property
    def stored(self) -> bool:
        """Whether an API server has had the object: only it gives these."""
        return bool(self.uid or self.resource_version)


class TemplateMeta(Api, frozen=True, kw_only=True):
    """The metadata of a Pod template, which needs no name."""

    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class Ref(msgspec.Struct, frozen=True, order=True):
    """The identity of an object.  As text: ``Service default/web``, ``Node node``."""

    kind: str
    namespace: str
    name: str

    @property
    def key(self) -> Key:
        return (self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}".replace(" /", " ")


class KubeObject(Api, frozen=True, kw_only=True, tag_field="kind"):
    """A Kubernetes object; the kind is its class."""

    metadata: ObjectMeta

    @property
    def key(self) -> Key:
        return (self.metadata.namespace, self.metadata.name)

    @property
    def ref(self) -> Ref:
        return Ref(type(self).__name__, self.metadata.namespace, self.metadata.name)


class Namespace(KubeObject, frozen=True, kw_only=True, tag="Namespace"):
    """Accepted, so that whole applications can be handed over; nothing follows from it."""
