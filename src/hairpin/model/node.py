"""Nodes: the machines that Pods are on."""

from __future__ import annotations

from typing import Literal

from hairpin.model.address import Network
from hairpin.model.metadata import Api, KubeObject

TaintEffect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class Taint(Api, frozen=True, kw_only=True):
    """Why Pods should stay away."""

    key: str
    value: str = ""
    effect: TaintEffect


class NodeSpec(Api, frozen=True, kw_only=True):
    """``pod_cidrs`` begins with ``pod_cidr``: one network a family.

    ``unschedulable`` is None where a manifest does not say it, which is not the same as False:
    what is applied leaves alone what it does not say.
    """

    pod_cidr: Network | None = None
    pod_cidrs: tuple[Network, ...] = ()
    taints: tuple[Taint, ...] = ()
    unschedulable: bool | None = None


class NodeAddress(Api, frozen=True, kw_only=True):
    """``address`` is a name where ``type`` is Hostname, InternalDNS or ExternalDNS."""

    type: str
    address: str


class NodeCondition(Api, frozen=True, kw_only=True):
    type: str
    status: str
    reason: str = ""


class NodeStatus(Api, frozen=True, kw_only=True):
    addresses: tuple[NodeAddress, ...] = ()
    conditions: tuple[NodeCondition, ...] = ()


class Node(KubeObject, frozen=True, kw_only=True, tag="Node"):
    """A machine with a part of the Pod network."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool:
        """Unless it is said otherwise."""
        return all(one.status == "True" for one in self.status.conditions if one.type == "Ready")

    @property
    def zone(self) -> str | None:
        return self.metadata.labels.get("topology.kubernetes.io/zone")
