"""Kubernetes objects from and to the API's JSON shape.

``decode_object`` takes what a person wrote, and says what is wrong with it in a person's words.
``encode`` and ``decode_objects`` carry objects between processes of hairpin.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from hairpin.model.address import from_builtin, to_builtin
from hairpin.model.deployment import Deployment
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import Namespace
from hairpin.model.names import quoted
from hairpin.model.node import Node
from hairpin.model.pod import Pod
from hairpin.model.service import Service
from hairpin.model.snapshot import Object
from hairpin.model.validate import problems

KINDS: Mapping[str, tuple[str, type[Object]]] = {
    "Node": ("v1", Node),
    "Pod": ("v1", Pod),
    "Service": ("v1", Service),
    "Namespace": ("v1", Namespace),
    "Deployment": ("apps/v1", Deployment),
    "EndpointSlice": ("discovery.k8s.io/v1", EndpointSlice),
}
"""The kinds that hairpin reads, the apiVersion of each, and what it becomes."""

CLUSTER_SCOPED = ("Node", "Namespace", "ServiceCIDR")

_GROUP_KINDS = {
    "v1": frozenset(
        [
            *("Binding", "ComponentStatus", "ConfigMap", "Endpoints", "Event", "LimitRange"),
            *("List", "Namespace", "Node", "PersistentVolume", "PersistentVolumeClaim", "Pod"),
            *("PodTemplate", "ReplicationController", "ResourceQuota", "Secret", "Service"),
            "ServiceAccount",
        ]
    ),
    "apps/v1": frozenset(
        ["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]
    ),
    "discovery.k8s.io/v1": frozenset(["EndpointSlice"]),
}
"""Every kind of the groups that hairpin reads from, as of Kubernetes 1.36: others are mistakes."""

_EMPTY_IS_UNSET = frozenset(
    ("clusterIP", "hostIP", "ip", "loadBalancerIP", "namespace", "podCIDR", "podIP")
)
_ZERO_IS_UNSET = frozenset(("nodePort", "healthCheckNodePort"))
_FALSE_IS_UNSET = frozenset(("hostNetwork", "publishNotReadyAddresses", "unschedulable"))
_FREE = frozenset(("labels", "annotations", "selector", "matchLabels"))
_DEPTH = 100  # levels of nesting; Kubernetes' own objects have about 15


def known_kind(raw: object, where: str = "") -> bool:
    """Whether hairpin reads objects of that kind; False: it means nothing here.

    Raises ManifestError for what is no Kubernetes object, for an apiVersion that its kind does
    not have, and for a kind that Kubernetes does not have.  "List" and ``ServiceList`` and the
    like are for the caller to take apart.
    """
    if not isinstance(raw, Mapping):
        from hairpin.model.explain import words

        raise ManifestError(f"expected a Kubernetes object, got {words(raw)}", where=where)
    for field in ("apiVersion", "kind"):
        value = raw.get(field)
        if not isinstance(value, str) or not value:
            message = "is missing" if value in (None, "") else "expected text"
            raise ManifestError(message, where=where, field=field)
    kind, version = str(raw["kind"]), str(raw["apiVersion"])
    if kind in KINDS and version == KINDS[kind][0]:
        return True
    group = version.rpartition("/")[0]
    if "." in group and not group.endswith(".k8s.io"):
        return False  # somebody's own resource, which may well be called Service
    if kind in KINDS:
        raise ManifestError(
            f"expected {KINDS[kind][0]}, got {quoted(version)}",
            where=where,
            object=_name_of(raw),
            field="apiVersion",
        )
    if version in _GROUP_KINDS and kind not in _GROUP_KINDS[version]:
        raise ManifestError(
            f"{version} has no {quoted(kind)}", where=where, field="kind", remedy=_near_kind(kind)
        )
    return False


def decode_object(raw: object, where: str = "") -> Object:
    """The object that ``raw``, in the API's JSON shape, describes; ``where`` goes into errors.

    Nothing (null) counts as absent, as it does in Kubernetes.  Raises ManifestError, also for a
    kind that hairpin does not read.
    """
    if not known_kind(raw, where):
        raise ManifestError("hairpin has no use for this kind", where=where, field="kind")
    assert isinstance(raw, Mapping)
    plain = plain_of(raw, where)
    with decoding(raw, plain, where):
        thing: Object = msgspec.convert(plain, KINDS[raw["kind"]][1], dec_hook=from_builtin)
    for problem in problems(thing):
        raise ManifestError(
            problem.message,
            where=where,
            object=_name_of(raw),
            field=problem.field,
            remedy=problem.remedy,
        )
    return thing


def plain_of(raw: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A copy of an object of a known kind for msgspec to read: nothing absent, a namespace.

    Raises ManifestError where it is nested too deeply.
    """
    try:
        plain: dict[str, Any] = _plain(raw, _DEPTH)
    except RecursionError:
        message = f"more than {_DEPTH} levels of nesting"
        raise ManifestError(message, where=where, object=_name_of(raw)) from None
    if isinstance(plain.get("metadata"), dict):
        plain["metadata"].setdefault("namespace", "default")
        if raw["kind"] in CLUSTER_SCOPED:
            plain["metadata"]["namespace"] = ""
    return plain


@contextmanager
def decoding(raw: Mapping[str, Any], plain: Any, where: str, field: str = "") -> Iterator[None]:
    """Makes a ManifestError about ``raw`` of what msgspec says while it reads ``plain``.

    ``field`` is the path of ``plain`` in ``raw``.
    """
    try:
        yield
    except msgspec.ValidationError as error:
        from hairpin.model.explain import explain

        inner, message, remedy = explain(str(error), plain)
        path = f"{field}.{inner}" if field and inner else field or inner
        raise ManifestError(
            message, where=where, object=_name_of(raw), field=path, remedy=remedy
        ) from None


def learn(*types: Any) -> None:
    """Has msgspec learn all kinds and these types now, for those who decode in several threads.

    It learns a type where that is first decoded, and two threads that come to it together may
    crash the process (msgspec 0.22.0: every second time with four threads that begin at once).
    """
    for kind in (tuple[Object, ...], *(model for _, model in KINDS.values()), *types):
        with suppress(msgspec.ValidationError):
            msgspec.convert(None, kind, dec_hook=from_builtin)


def encode(objects: Iterable[Object]) -> bytes:
    """Objects as a JSON list, every field written out, for ``decode_objects``."""
    return msgspec.json.encode(list(objects), enc_hook=to_builtin)


def decode_objects(data: bytes) -> tuple[Object, ...]:
    """Objects from ``encode``.  Raises msgspec.ValidationError; checks nothing beyond types."""
    objects: tuple[Object, ...] = msgspec.json.decode(
        data, type=tuple[Object, ...], dec_hook=from_builtin
    )
    return objects


def to_api(thing: Object) -> dict[str, Any]:
    """The object as ``kubectl get -o json`` shows it: apiVersion and kind, no empty fields."""
    kind = type(thing).__name__
    fields: dict[str, Any] = msgspec.to_builtins(thing, enc_hook=to_builtin)
    return {"apiVersion": KINDS[kind][0], "kind": kind, **_pruned(fields)}


def _name_of(raw: Mapping[str, Any]) -> str:
    """``Service default/web`` of an object that may be wrong in any way."""
    kind, metadata = raw["kind"], raw.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    if not isinstance(name, str) or not name:
        return str(kind)
    assert isinstance(metadata, Mapping)
    namespace = metadata.get("namespace") or "default"
    if kind in CLUSTER_SCOPED or not isinstance(namespace, str):
        return f"{kind} {_short(name)}"
    return f"{kind} {_short(namespace)}/{_short(name)}"


def _short(name: str) -> str:
    return name if len(name) <= 60 else quoted(name)


def _near_kind(kind: str) -> str:
    from difflib import get_close_matches

    known = {name.lower(): name for name in (*KINDS, "List")}
    near = get_close_matches(kind.lower(), known, n=1)
    return f"did you mean {known[near[0]]}?" if near else f"hairpin reads {', '.join(KINDS)}"


def _plain(value: Any, depth: int, free: bool = False) -> Any:
    """A copy without what Go's JSON reads as absent: null, and for some fields "" and 0.

    ``free`` is for mappings of text whose keys are a person's own; null is "" there.
    Raises RecursionError where it is nested too deeply.
    """
    if not depth:
        raise RecursionError
    if isinstance(value, Mapping) and free:
        return {key: "" if inner is None else inner for key, inner in value.items()}
    if isinstance(value, Mapping):
        return {
            key: _plain(inner, depth - 1, key in _FREE)
            for key, inner in value.items()
            if inner is not None
            and not (inner == "" and key in _EMPTY_IS_UNSET)
            and not (inner == 0 and inner is not False and key in _ZERO_IS_UNSET)
        }
    if isinstance(value, list | tuple):
        return [_plain(inner, depth - 1) for inner in value]
    return value


def _pruned(fields: dict[str, Any]) -> dict[str, Any]:
    """Without null, empty texts, lists and mappings, and false where that is the default."""
    kept = {key: _pruned_value(key, value) for key, value in fields.items()}
    return {
        key: value
        for key, value in kept.items()
        if value is not None
        and value not in ("", [], {})
        and not (value is False and key in _FALSE_IS_UNSET)
    }


def _pruned_value(key: str, value: Any) -> Any:
    if isinstance(value, dict) and key not in _FREE:
        return _pruned(value)
    if isinstance(value, list | tuple):
        return [_pruned(one) if isinstance(one, dict) else one for one in value]
    return value
