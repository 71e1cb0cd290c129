"""One kernel held against what a whole Snapshot asks of it, with nothing changed: for people."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hairpin.kernel.apply import Kernel
from hairpin.mode.base import mode_of
from hairpin.model.address import IP, Network
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.snapshot import Snapshot
from hairpin.plan.node import node_facts
from hairpin.plan.whole import slices_by_service
from hairpin.state.change import Change


class Compared(msgspec.Struct, frozen=True):
    """The Changes that are to be made, who asked for each ("" nobody), and what is not planned."""

    changes: list[Change]
    owners: list[str]
    problems: list[str]
    mode: str = "ipvs"


def compare(
    kernel: Kernel,
    netns: str,
    config: KubeProxyConfiguration,
    node: str,
    snapshot: Snapshot,
    addresses: Iterable[IP] | None = None,
    service_cidrs: Iterable[Network] = (),
) -> Compared:
    """How a namespace differs from what the node ``node`` should hold.

    ``addresses`` are the node's; None: those that the namespace has.  ``service_cidrs`` as in
    ``node_facts``.  Raises KernelError when the kernel cannot be read.
    """
    mode = mode_of(kernel, netns, config)
    own = mode.node_addresses() if addresses is None else addresses
    known_as = snapshot.nodes.get(("", node))
    wants = mode.desired(node_facts(node, known_as, own, service_cidrs))
    slices = slices_by_service(snapshot)
    for key, service in snapshot.services.items():
        wants.put(key, service, slices.get(key, ()))
    if wants.crowd():
        for key, service in snapshot.services.items():
            wants.put(key, service, slices.get(key, ()))
    wants.forget_changes()
    changes = mode.differences(wants)
    owners = []
    for change in changes:
        want = wants.get(change.object.key)
        owners.append(want.owner if want is not None else "")
    problems = [said for each in wants.problems.values() for said in each]
    for (namespace, name), lines in wants.conflicts.items():
        problems += [f"Service {namespace}/{name}: {line}" for line in lines]
    return Compared(changes, owners, problems, config.mode or "ipvs")
