"""What manifests said last of the fields that commands change too.

kubectl apply compares three things: the manifest, the manifest before (kept in the annotation
last-applied-configuration) and the object.  A field that neither manifest has is left as it is, so
that applying a Node again does not lift its cordon.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hairpin.model.node import Node
from hairpin.model.snapshot import Object, Snapshot


class LastApplied:
    """``spec.unschedulable`` of each Node as it was last applied."""

    def __init__(self) -> None:
        self._unschedulable: dict[str, bool | None] = {}

    def merged(self, objects: Iterable[Object], before: Snapshot) -> tuple[Object, ...]:
        """The objects of manifests, with what they leave to the object that is there."""
        return tuple(
            self._merged(thing, before) if isinstance(thing, Node) else thing for thing in objects
        )

    def note(self, objects: Iterable[Object]) -> None:
        """These manifests have been applied."""
        for thing in objects:
            if isinstance(thing, Node):
                self._unschedulable[thing.metadata.name] = thing.spec.unschedulable

    def _merged(self, node: Node, before: Snapshot) -> Node:
        there = before.nodes.get(node.key)
        said = self._unschedulable.get(node.metadata.name)
        if there is None or node.spec.unschedulable is not None or said is not None:
            return node
        spec = msgspec.structs.replace(node.spec, unschedulable=there.spec.unschedulable)
        return msgspec.structs.replace(node, spec=spec)
