"""A lab's node held against what manifests ask of it: for ``hairpin diff --node``."""

from __future__ import annotations

from typing import Any

import msgspec

from hairpin.lab import names
from hairpin.lab.lab import Lab
from hairpin.lab.proxies import configuration
from hairpin.lab.session import LabError
from hairpin.mode.compare import compare
from hairpin.model.address import to_builtin
from hairpin.model.configuration import KubeProxyConfiguration, Seconds
from hairpin.model.decode import decode_objects
from hairpin.model.snapshot import Snapshot
from hairpin.source.settings import LAB


def compared(
    lab: Lab, node: str, objects: list[Any] | None, config: dict[str, Any] | None
) -> dict[str, Any]:
    """The Changes that would bring the node there, with their owners, and the problems.

    ``objects`` None are the lab's own, ``config`` None is that of its proxies; what a person has
    switched off by an ingredient is then among the differences.  Raises LabError where the lab
    has no such node, KernelError.
    """
    known = [key[1] for key in lab.snapshot.nodes]
    if node not in known:
        raise LabError(f"the lab has no node {node}", f"there are: {', '.join(known)}", exit_code=2)
    settings = configuration(node, lab.proxies.config)
    if config is not None:
        settings = from_builtins(config)
    snapshot = lab.snapshot
    if objects is not None:
        snapshot = Snapshot(decode_objects(msgspec.json.encode(objects)))
    found = compare(
        lab.kernel,
        names.node_netns(node),
        settings,
        node,
        snapshot,
        service_cidrs=LAB.service_cidrs,
    )
    shown: dict[str, Any] = msgspec.to_builtins(found, enc_hook=to_builtin)
    return shown


def from_builtins(config: dict[str, Any]) -> KubeProxyConfiguration:
    """kube-proxy's configuration from the protocol's shape."""
    return msgspec.convert(config, KubeProxyConfiguration, dec_hook=_seconds)


def _seconds(kind: Any, value: Any) -> Any:
    if kind is Seconds and isinstance(value, int | float):
        return Seconds(value)
    raise NotImplementedError(str(kind))
