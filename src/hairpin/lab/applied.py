"""What manifests said last of the fields that commands change too.

kubectl apply compares three things: the manifest, the manifest before (kept in the annotation
last-applied-configuration) and the object.  A field that neither manifest has is left as it is;
one that the manifest before had goes back to its default.  So applying a Node again does not lift
its cordon, and applying a Deployment again does not undo ``scale`` and ``rollout restart``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from hairpin.model.deployment import Deployment
from hairpin.model.metadata import Ref
from hairpin.model.node import Node
from hairpin.model.snapshot import Object, Snapshot

_replace = msgspec.structs.replace


class LastApplied:
    """The Nodes and Deployments as manifests said them last."""

    def __init__(self) -> None:
        self._said: dict[Ref, Object] = {}

    def merged(self, objects: Iterable[Object], before: Snapshot) -> tuple[Object, ...]:
        """The objects of manifests, with what they leave to the object that is there."""
        return tuple(self._merged(thing, before) for thing in objects)

    def note(self, objects: Iterable[Object]) -> None:
        """These manifests have been applied."""
        for thing in objects:
            if isinstance(thing, Node | Deployment):
                self._said[thing.ref] = thing

    def _merged(self, thing: Object, before: Snapshot) -> Object:
        said = self._said.get(thing.ref)
        match thing:
            case Node():
                return _node(thing, said, before.nodes.get(thing.key))
            case Deployment():
                return _deployment(thing, said, before.deployments.get(thing.key))
        return thing


def _node(node: Node, said: Object | None, there: Node | None) -> Node:
    had = isinstance(said, Node) and said.spec.unschedulable is not None
    if there is None or had or node.spec.unschedulable is not None:
        return node
    return _replace(node, spec=_replace(node.spec, unschedulable=there.spec.unschedulable))


def _deployment(new: Deployment, said: Object | None, there: Deployment | None) -> Deployment:
    """Its replicas, and the annotations of its template: a restart is one of these."""
    before = said if isinstance(said, Deployment) else None
    spec, template = new.spec, new.spec.template
    replicas = spec.replicas
    if replicas is None:
        kept = there is not None and (before is None or before.spec.replicas is None)
        replicas = there.spec.wanted if there is not None and kept else spec.wanted
    notes: Mapping[str, str] = template.metadata.annotations
    if there is not None:
        gone = before.spec.template.metadata.annotations if before is not None else {}
        live = there.spec.template.metadata.annotations
        notes = {**{key: one for key, one in live.items() if key not in gone}, **notes}
    meta = _replace(template.metadata, annotations=notes)
    template = _replace(template, metadata=meta)
    return _replace(new, spec=_replace(spec, replicas=replicas, template=template))
