"""What ``hairpin get`` shows: objects in the API's shape, with the status that the lab knows."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from hairpin.lab import names, topology
from hairpin.lab.ingredients import MEANINGS, NAMES, Ingredients, values
from hairpin.lab.lab import Lab
from hairpin.lab.session import LabError
from hairpin.lab.workloads import PodRun
from hairpin.model.decode import to_api
from hairpin.plan.diff import diff
from hairpin.state.change import Change
from hairpin.state.change import Object as KernelObject
from hairpin.state.links import Link
from hairpin.state.sysctl import Sysctl

KINDS = ("nodes", "pods", "services", "endpoints", "virtualservers", "ingredients")


def show(lab: Lab, kind: str) -> list[dict[str, Any]]:
    """All objects of that kind.  Raises LabError."""
    match kind:
        case "nodes":
            return [_node(lab, index, one) for index, one in enumerate(lab.snapshot.nodes.values())]
        case "pods":
            return [_pod(lab, key) for key in lab.snapshot.pods]
        case "services":
            return [_api(one) for one in lab.snapshot.services.values()]
        case "endpoints":
            return [_api(one) for one in lab.snapshot.endpointslices.values()]
        case "virtualservers":
            return _virtual_servers(lab)
        case "ingredients":
            return [
                {"name": name, "value": observed(lab, name), "meaning": MEANINGS[name]}
                for name in NAMES
            ]
    raise LabError(f"there is no kind {kind}; there are {', '.join(KINDS)}", exit_code=2)


def _api(thing: Any) -> dict[str, Any]:
    return to_api(thing)


def _node(lab: Lab, index: int, node: Any) -> dict[str, Any]:
    shape = _api(node)
    name = node.metadata.name
    status = shape.setdefault("status", {})
    status["addresses"] = [
        {"type": "InternalIP", "address": str(topology.uplink_address(index))},
        {"type": "Hostname", "address": name},
    ]
    return shape


def _pod(lab: Lab, key: tuple[str, str]) -> dict[str, Any]:
    shape = _api(lab.snapshot.pods[key])
    status = shape.setdefault("status", {})
    run = lab.runs.get(key)
    if run is None:
        status["phase"] = "Pending"
        return shape
    status["phase"] = _phase(run)
    status["containerStatuses"] = [
        {
            "name": one.container.name,
            "ready": one.ready,
            "restartCount": one.restarts,
            "state": {"running": {}} if one.running else {"waiting": {"reason": one.waiting}},
        }
        for one in run.containers
    ]
    status["startTime"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started))
    return shape


def _phase(run: PodRun) -> str:
    if all(one.waiting == "Completed" for one in run.containers):
        return "Succeeded"
    if all(one.waiting in ("Completed", "Error") for one in run.containers):
        return "Failed"
    return "Running"


def _virtual_servers(lab: Lab) -> list[dict[str, Any]]:
    found = []
    for node in lab.snapshot.nodes.values():
        name = node.metadata.name
        netns = lab.netns(names.node_netns(name))
        for seen in lab.kernel.observe_ipvs(netns.name):
            key = seen.server.key
            wanted = lab.wanted(netns.name, key)
            found.append(
                {
                    "node": name,
                    "owner": wanted.owner if wanted else None,
                    **msgspec.to_builtins(seen, enc_hook=str),
                }
            )
    return found


def observed(lab: Lab, name: str) -> str:
    """The setting of an ingredient that the kernel holds now; "mixed" if it is none of them.

    A setting is held when every Change that would lead to it from another setting is made
    already, so that what a person did by hand counts as much as ``hairpin set``.
    """
    settings = values(name)
    routes = {
        value: [
            change
            for other in settings
            if other != value
            for change in _between(lab, name, value, other)
        ]
        for value in settings
    }
    places = {change.netns for changes in routes.values() for change in changes}
    sysctls = {
        change.object.name
        for changes in routes.values()
        for change in changes
        if isinstance(change.object, Sysctl)
    }
    held = {place: _held(lab, place, sysctls) for place in places}
    for value, changes in routes.items():
        if all(_made(change, held[change.netns]) for change in changes):
            return value
    return "mixed"


def _held(lab: Lab, netns: str, sysctls: set[str]) -> dict[tuple[object, ...], KernelObject]:
    kernel = lab.kernel
    things: list[KernelObject] = [*kernel.observe(netns)]
    if netns.startswith("node_"):
        things += kernel.observe_rules(netns)
        things += [kernel.read_sysctl(netns, name) for name in sysctls]
    return {thing.key: thing for thing in things}


def _between(lab: Lab, name: str, value: str, other: str) -> list[Change]:
    after: Ingredients = lab.ingredients.with_(name, value)
    before: Ingredients = lab.ingredients.with_(name, other)
    return diff(topology.desired(lab.snapshot, after), topology.desired(lab.snapshot, before))


def _made(change: Change, held: dict[tuple[object, ...], KernelObject]) -> bool:
    """Whether the kernel is already as ``change`` would leave it."""
    have = held.get(change.object.key)
    if change.verb == "remove":
        return have is None
    if have is None:
        return False
    if change.verb == "set" and isinstance(change.object, Link):
        fields = Link.__struct_fields__
        return all(
            getattr(change.object, field) == getattr(change.before, field)
            or getattr(change.object, field) == getattr(have, field)
            for field in fields
        )
    return change.verb == "add" or have == change.object
