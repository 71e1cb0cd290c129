"""The kernel objects that serve one Service on each node, in any mode: ``hairpin get rules``."""

from __future__ import annotations

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
from hairpin.plan.service_plan import Occupancy
from hairpin.proxy.proxy import Proxy
from hairpin.state.change import Object, Wanted
from hairpin.state.ipset import SetEntry
from hairpin.state.netfilter import DispatchRule
from hairpin.state.sysctl import Sysctl

MODES = ("ipvs", "iptables", "nftables")


def rules(lab: Lab, key: Key, mode: str | None) -> dict[str, Any]:
    """``mode`` None is the one that runs; of another one it is what it would make here.

    ``frame`` is what the node would hold for all Services if there were this one alone.  ``held``:
    whether the kernel has the object now; None for a mode that does not run; ``there``: how it is
    in the kernel, where that is not as it should be.  Raises LabError where there is no such
    Service, KernelError.
    """
    service = lab.snapshot.services.get(key)
    if service is None:
        raise LabError(f"there is no service {key[1]} in {key[0]}", exit_code=2)
    running = lab.proxies.mode
    asked = mode or running
    found: list[dict[str, Any]] = []
    for name, proxy in lab.proxies.by_node():
        known = proxy.known()
        config = msgspec.structs.replace(configuration(name, lab.proxies.config), mode=asked)
        plans = planner(config, known.facts, names.node_netns(name))
        planned = plans.service(service, known.slices(key))
        if asked == running:
            wanted = [one for one in proxy.wanted() if _is_of(one, key)]
            held = _Held(proxy)
        else:
            wanted, held = list(planned.wanted), None
        sets = frozenset(one.object.set for one in wanted if isinstance(one.object, SetEntry))
        frame = plans.frame(Occupancy(sets, planned.blocked))
        found.append(
            {
                "node": name,
                "objects": [_shape(one, held) for one in wanted],
                "frame": [_shape(one, held) for one in frame],
            }
        )
    return {"mode": asked, "running": running, "nodes": found}


def _is_of(one: Wanted, key: Key) -> bool:
    return one.owner.startswith("service ") and service_of(one.owner) == key


class _Held:
    """What of a proxy's the kernel has now.  Raises KernelError."""

    def __init__(self, proxy: Proxy) -> None:
        self._there = {identity(one) for one in proxy.observe()}
        self._otherwise = {
            identity(one.object): one.before for one in proxy.astray() if one.verb == "set"
        }

    def has(self, one: Object) -> bool | None:
        """None of a setting, which is not looked at."""
        return None if isinstance(one, Sysctl) else identity(one) in self._there

    def otherwise(self, one: Object) -> Object | None:
        """How it is, where that is not as it should be."""
        return self._otherwise.get(identity(one))


def _shape(one: Wanted, held: _Held | None) -> dict[str, Any]:
    there = held.otherwise(one.object) if held else None
    return {
        "object": _plain(one.object),
        "owner": one.owner,
        "why": one.why,
        "held": held.has(one.object) if held else None,
        "there": None if there is None else _plain(there),
    }


def _plain(one: Object) -> object:
    return msgspec.to_builtins(one, enc_hook=to_builtin)


def identity(one: Object) -> tuple[object, ...]:
    """What tells an object that is wanted in the kernel: of a rule that is its text."""
    if isinstance(one, DispatchRule):
        return ("dispatch-rule", one.family, one.table, one.chain, one.rule)
    return one.key
