"""The kernel objects that serve one Service on each node, in any mode: ``hairpin get rules``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from hairpin.lab import names
from hairpin.lab.lab import Lab
from hairpin.lab.proxies import configuration
from hairpin.lab.session import LabError
from hairpin.model.address import to_builtin
from hairpin.model.metadata import Key
from hairpin.plan.owner import service_of
from hairpin.plan.planner import planner
from hairpin.state.change import Object, Wanted
from hairpin.state.netfilter import DispatchRule

MODES = ("ipvs", "iptables", "nftables")


def rules(lab: Lab, key: Key, mode: str | None) -> dict[str, Any]:
    """``mode`` None is the one that runs; of another one it is what it would make here.

    ``held``: whether the kernel has the object now; None for a mode that does not run.  Raises
    LabError where there is no such Service, KernelError.
    """
    service = lab.snapshot.services.get(key)
    if service is None:
        raise LabError(f"there is no service {key[1]} in {key[0]}", exit_code=2)
    running = lab.proxies.mode
    asked = mode or running
    found: list[dict[str, Any]] = []
    for name, proxy in lab.proxies.by_node():
        known = proxy.known()
        if asked == running:
            wanted = [one for one in proxy.wanted() if _is_of(one, key)]
            held = _identities(proxy.observe())
        else:
            base = configuration(name, lab.proxies.config)
            config = msgspec.structs.replace(base, mode=asked)
            plans = planner(config, known.facts, names.node_netns(name))
            wanted, held = list(plans.service(service, known.slices(key)).wanted), None
        found.append({"node": name, "objects": [_shape(one, held) for one in wanted]})
    return {"mode": asked, "running": running, "nodes": found}


def _is_of(one: Wanted, key: Key) -> bool:
    return one.owner.startswith("service ") and service_of(one.owner) == key


def _shape(one: Wanted, held: Collection[tuple[object, ...]] | None) -> dict[str, Any]:
    return {
        "object": msgspec.to_builtins(one.object, enc_hook=to_builtin),
        "owner": one.owner,
        "why": one.why,
        "held": None if held is None else identity(one.object) in held,
    }


def _identities(seen: Iterable[Object]) -> set[tuple[object, ...]]:
    return {identity(one) for one in seen}


def identity(one: Object) -> tuple[object, ...]:
    """What tells an object that is wanted in the kernel: of a rule that is its text."""
    if isinstance(one, DispatchRule):
        return ("dispatch-rule", one.family, one.table, one.chain, one.rule)
    return one.key
