"""What ``hairpin get`` shows: objects in the API's shape, with the status that the lab knows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from hairpin.lab import names, rollouts, topology
from hairpin.lab.ingredients import MEANINGS, NAMES, Ingredients, absent, values
from hairpin.lab.lab import Lab
from hairpin.lab.session import LabError
from hairpin.lab.workloads import ContainerRun, PodRun
from hairpin.model.address import to_builtin
from hairpin.model.decode import to_api
from hairpin.model.deployment import Deployment
from hairpin.model.node import Node
from hairpin.model.service import Service
from hairpin.plan.diff import diff
from hairpin.state.change import Change
from hairpin.state.change import Object as KernelObject
from hairpin.state.links import Link
from hairpin.state.netfilter import Family
from hairpin.state.sysctl import Sysctl

KINDS = (
    "nodes", "namespaces", "deployments", "pods", "services", "endpoints",
    "virtualservers", "connections", "ingredients", "proxies",
)  # fmt: skip
_OWN = "hairpin.dev/v1"  # apiVersion of what Kubernetes has no kind for


def show(lab: Lab, kind: str) -> list[dict[str, Any]]:
    """All objects of that kind.  Raises LabError."""
    match kind:
        case "nodes":
            return [_node(lab, one) for one in lab.snapshot.nodes.values()]
        case "namespaces":
            return _namespaces(lab)
        case "deployments":
            return [_deployment(lab, one) for one in lab.snapshot.deployments.values()]
        case "pods":
            return [_pod(lab, key) for key in lab.snapshot.pods]
        case "services":
            return [_service(lab, one) for one in lab.snapshot.services.values()]
        case "endpoints":
            return [_api(one) for one in lab.snapshot.endpointslices.values()]
        case "virtualservers":
            return _virtual_servers(lab)
        case "connections":
            return _connections(lab)
        case "proxies":
            return _proxies(lab)
        case "ingredients":
            own = {"apiVersion": _OWN, "kind": "Ingredient"}
            return [
                {**own, "name": name, "value": observed(lab, name), "meaning": MEANINGS[name]}
                for name in NAMES
            ]
    raise LabError(f"there is no kind {kind}; there are {', '.join(KINDS)}", exit_code=2)


def _api(thing: Any) -> dict[str, Any]:
    return to_api(thing)


def _node(lab: Lab, node: Node) -> dict[str, Any]:
    shape, name = _api(node), node.metadata.name
    if link := lab.impairments.of_node(name):
        shape["status"]["link"] = link.words
    return shape


def _service(lab: Lab, service: Service) -> dict[str, Any]:
    shape = _api(service)
    if reason := lab.unserved([service]):
        no = {"type": "Served", "status": "False", "reason": "KernelLacks", "message": reason}
        shape.setdefault("status", {})["conditions"] = [no]
    return shape


def _pod(lab: Lab, key: tuple[str, str]) -> dict[str, Any]:
    shape = _api(lab.snapshot.pods[key])
    status = shape.setdefault("status", {})
    if link := lab.impairments.of_pod(key, lab.snapshot.pods[key].spec.node_name):
        status["link"] = link.words
    run = lab.pods.runs.get(key)
    if run is None:
        status["phase"] = "Pending"
        return shape
    status["phase"] = _phase(run)
    status["containerStatuses"] = [
        {
            "name": one.container.name,
            "ready": one.ready,
            "restartCount": one.restarts,
            "state": _state(one),
        }
        for one in run.containers
    ]
    status["startTime"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started))
    return shape


def _state(one: ContainerRun) -> dict[str, Any]:
    if one.running:
        return {"running": {}}
    if one.over and one.process is not None:
        return {"terminated": {"reason": one.waiting, "exitCode": one.process.exit_code}}
    return {"waiting": {"reason": one.waiting}}


def _deployment(lab: Lab, one: Deployment) -> dict[str, Any]:
    """Its status counts the Pods that it owns."""
    shape = _api(one)
    now = rollouts.progress_of(lab, one)
    shape["status"] = {
        "replicas": now.replicas,
        "updatedReplicas": now.updated,
        "readyReplicas": now.ready,
        "availableReplicas": now.ready,
    }
    return shape


def _namespaces(lab: Lab) -> list[dict[str, Any]]:
    """Those that objects are in; default is always there."""
    found = {"default", *(thing.key[0] for thing in lab.snapshot if thing.key[0])}
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name},
            "status": {"phase": "Active"},
        }
        for name in sorted(found)
    ]


def _connections(lab: Lab) -> list[dict[str, Any]]:
    if not lab.abilities.ipvs:
        return []
    return [
        {
            "apiVersion": _OWN,
            "kind": "Connection",
            "node": node.metadata.name,
            **msgspec.to_builtins(one, enc_hook=str),
        }
        for node in lab.snapshot.nodes.values()
        for one in lab.kernel.connections(names.node_netns(node.metadata.name))
    ]


def _proxies(lab: Lab) -> list[dict[str, Any]]:
    return [
        {"apiVersion": _OWN, "kind": "Proxy", **msgspec.to_builtins(one, enc_hook=to_builtin)}
        for one in lab.proxies.status()
    ]


def _phase(run: PodRun) -> str:
    if all(one.waiting == "Completed" for one in run.containers):
        return "Succeeded"
    if all(one.waiting in ("Completed", "Error") for one in run.containers):
        return "Failed"
    return "Running"


def _virtual_servers(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if not lab.abilities.ipvs:
        return found
    for node in lab.snapshot.nodes.values():
        name = node.metadata.name
        netns = lab.namespaces.get(names.node_netns(name))
        for seen in lab.kernel.observe_ipvs(netns.name):
            key = seen.server.key
            wanted = lab.wanted(netns.name, key)
            found.append(
                {
                    "apiVersion": _OWN,
                    "kind": "VirtualServer",
                    "node": name,
                    "owner": wanted.owner if wanted else None,
                    **msgspec.to_builtins(seen, enc_hook=str),
                }
            )
    return found


def observed(lab: Lab, name: str) -> str:
    """The setting of an ingredient that the kernel holds now; "mixed" if it is none of them.

    "absent" if this kernel has no such ingredient.  A setting is held when every Change that would
    lead to it from another setting is made already, so that what a person did by hand counts as
    much as ``hairpin set``.
    """
    if absent(name, lab.abilities, lab.proxies.mode):
        return "absent"
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
    kinds = {getattr(change.object, "family", "ip") for some in routes.values() for change in some}
    families: list[Family] = ["ip", "ip6"] if "ip6" in kinds else ["ip"]
    held = {place: _held(lab, place, sysctls, families) for place in places}
    for value, changes in routes.items():
        if all(_made(change, held[change.netns]) for change in changes):
            return value
    return "mixed"


def _held(
    lab: Lab, netns: str, sysctls: set[str], families: Sequence[Family]
) -> dict[tuple[object, ...], KernelObject]:
    kernel = lab.kernel
    things: list[KernelObject] = [*kernel.observe(netns)]
    if netns.startswith("node_"):
        for family in families:
            things += kernel.observe_rules(netns, family)
            if lab.proxies.unserved is None and lab.abilities.iptables:
                things += kernel.observe_chains(netns, family)
        proxy = dict(lab.proxies.by_node()).get(netns.removeprefix("node_"))
        if proxy is not None and proxy.mode == "nftables":
            things += proxy.observe()
        things += [kernel.read_sysctl(netns, name) for name in sysctls]
    return {thing.key: thing for thing in things}


def _between(lab: Lab, name: str, value: str, other: str) -> list[Change]:
    after: Ingredients = lab.ingredients.with_(name, value)
    before: Ingredients = lab.ingredients.with_(name, other)
    can = lab.abilities
    own = diff(
        topology.desired(lab.snapshot, after, can), topology.desired(lab.snapshot, before, can)
    )
    return [*own, *lab.proxies.changes(after, before)]


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
