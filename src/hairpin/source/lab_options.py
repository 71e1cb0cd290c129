"""What the command line says of a lab's cluster, put into its Node objects.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from hairpin.model.annotations import OVERLAY, PROXY, SERVICE_CIDR, networks
from hairpin.model.errors import ManifestError
from hairpin.model.metadata import ObjectMeta
from hairpin.model.node import Node
from hairpin.model.snapshot import Object
from hairpin.source.settings import LAB

Stack = Literal["ipv4", "ipv6", "dual"]
_VERSIONS: dict[Stack, tuple[int, ...]] = {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}
_NAME = "node"


class LabOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; None: nothing is said, and the manifests decide."""

    nodes: int | None = None
    stack: Stack | None = None
    overlay: str | None = None
    proxy: str | None = None


def with_options(objects: Sequence[Object], options: LabOptions) -> tuple[Object, ...]:
    """The objects with the Nodes that were asked for, and what was asked in their annotations.

    What a Node says itself stays.  Raises ManifestError where that is something else.
    """
    if options == LabOptions():
        return tuple(objects)
    nodes = [thing for thing in objects if isinstance(thing, Node)]
    if options.nodes is not None and options.nodes < len(nodes):
        raise ManifestError(
            f"--nodes {options.nodes}, and the manifests have {len(nodes)}",
            object=str(nodes[-1].ref),
            remedy="leave --nodes out",
        )
    nodes += _more(nodes, max(options.nodes or 1, 1) - len(nodes))
    said = {SERVICE_CIDR: _service_cidr(nodes, options), OVERLAY: options.overlay}
    said[PROXY] = options.proxy
    done = [_annotated(node, {k: v for k, v in said.items() if v is not None}) for node in nodes]
    return (*done, *(thing for thing in objects if not isinstance(thing, Node)))


def _more(nodes: Sequence[Node], count: int) -> Iterator[Node]:
    """``node``, ``node2``, ``node3`` and on, as far as these names are free."""
    taken = {node.metadata.name for node in nodes}
    number = 1
    while count > 0:
        name = _NAME if number == 1 else f"{_NAME}{number}"
        number += 1
        if name not in taken:
            count -= 1
            yield Node(metadata=ObjectMeta(name=name))


def _service_cidr(nodes: Sequence[Node], options: LabOptions) -> str | None:
    """The annotation for the families that were asked for.  Raises ManifestError."""
    if options.stack is None:
        return None
    wanted = _VERSIONS[options.stack]
    for node in nodes:
        text = node.metadata.annotations.get(SERVICE_CIDR)
        if text is None:
            continue
        if {one.version for one in networks(text)} != set(wanted):
            raise ManifestError(
                f"--ip-family {options.stack}, and the Node says {text}",
                object=str(node.ref),
                field=f"metadata.annotations[{SERVICE_CIDR}]",
                remedy="leave --ip-family out",
            )
        return None
    return ",".join(str(one) for one in LAB.service_cidrs if one.version in wanted)


def _annotated(node: Node, said: dict[str, str]) -> Node:
    own = node.metadata.annotations
    for name, value in said.items():
        if own.get(name, value) != value:
            raise ManifestError(
                f"the Node says {own[name]}, and the command line {value}",
                object=str(node.ref),
                field=f"metadata.annotations[{name}]",
                remedy="say it in one place",
            )
    metadata = msgspec.structs.replace(node.metadata, annotations={**own, **said})
    return msgspec.structs.replace(node, metadata=metadata)
