"""All objects at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from hairpin.model.deployment import Deployment
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.metadata import Key, KubeObject, Namespace, Ref
from hairpin.model.node import Node
from hairpin.model.pod import Pod
from hairpin.model.service import Service

Object = Node | Deployment | Pod | Service | EndpointSlice | Namespace

_T = TypeVar("_T", bound=KubeObject)


class Snapshot:
    """Nodes, Deployments, Pods, Services and EndpointSlices; never changed, only replaced.

    Each mapping goes from namespace and name to the object and is sorted by them, so what is
    computed from a Snapshot does not depend on the order in which objects came.  Of two objects
    with the same Ref the later one counts.  Namespaces leave no trace.
    """

    __slots__ = ("deployments", "endpointslices", "nodes", "pods", "services")

    nodes: Mapping[Key, Node]
    deployments: Mapping[Key, Deployment]
    pods: Mapping[Key, Pod]
    services: Mapping[Key, Service]
    endpointslices: Mapping[Key, EndpointSlice]

    def __init__(self, objects: Iterable[Object] = ()) -> None:
        kept = tuple(objects)
        self.nodes = _by_key(Node, kept)
        self.deployments = _by_key(Deployment, kept)
        self.pods = _by_key(Pod, kept)
        self.services = _by_key(Service, kept)
        self.endpointslices = _by_key(EndpointSlice, kept)

    def __iter__(self) -> Iterator[Object]:
        """By kind, then by namespace and name."""
        yield from self.nodes.values()
        yield from self.deployments.values()
        yield from self.pods.values()
        yield from self.services.values()
        yield from self.endpointslices.values()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # objects hold dicts

    def __repr__(self) -> str:
        return f"Snapshot({', '.join(str(thing.ref) for thing in self)})"

    def get(self, ref: Ref) -> Object | None:
        """The object of that kind, namespace and name, or None."""
        kinds: Mapping[str, Mapping[Key, Object]] = {
            "Node": self.nodes,
            "Deployment": self.deployments,
            "Pod": self.pods,
            "Service": self.services,
            "EndpointSlice": self.endpointslices,
        }
        return kinds.get(ref.kind, {}).get(ref.key)

    def merge(self, objects: Iterable[Object]) -> Snapshot:
        """With these objects added, or put in the place of those with the same Ref."""
        return Snapshot((*self, *objects))

    def without(self, refs: Iterable[Ref]) -> Snapshot:
        """Without these objects; a Ref of nothing is passed over."""
        gone = frozenset(refs)
        return Snapshot(thing for thing in self if thing.ref not in gone)


def _by_key(kind: type[_T], objects: tuple[Object, ...]) -> Mapping[Key, _T]:
    found = {thing.key: thing for thing in objects if isinstance(thing, kind)}
    return dict(sorted(found.items()))
