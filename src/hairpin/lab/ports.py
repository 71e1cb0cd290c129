"""Where the built-in servers listen for a Pod, and as what.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from hairpin.model.pod import Pod
from hairpin.model.service import Service
from hairpin.source.controllers import target_port
from hairpin.source.implied import DNS_SERVICE

Role = Literal["echo", "dns"]
Socket = tuple[str, int]
"""Protocol and port."""


class Selectors:
    """Services by what they select, so that a Pod need not be held against them all."""

    def __init__(self, services: Iterable[Service]) -> None:
        self._by_label: dict[tuple[str, str, str], list[Service]] = {}
        for service in services:
            for label, value in service.spec.selector.items():
                place = (service.metadata.namespace, label, value)
                self._by_label.setdefault(place, []).append(service)
                break

    def of(self, pod: Pod) -> list[Service]:
        """The Services that select the Pod."""
        labels = pod.metadata.labels.items()
        return [
            service
            for label, value in labels
            for service in self._by_label.get((pod.metadata.namespace, label, value), ())
            if service.spec.selector.items() <= labels
        ]


def built_in(pod: Pod, selectors: Selectors) -> dict[Socket, Role]:
    """What the built-in servers do for a Pod.

    The echo server has the ports that the containers without a command say they have; where they
    say none, the numeric targetPorts of the Services that select the Pod.  The targetPorts of
    kube-system/kube-dns are the cluster's DNS instead.
    """
    idle = [one for one in pod.spec.containers if not one.command]
    if not idle:
        return {}
    services = selectors.of(pod)
    said = {(port.protocol, port.container_port) for one in idle for port in one.ports}
    if not said:
        for service in services:
            for port in service.spec.ports:
                target = port.target_port or port.port
                if isinstance(target, int):
                    said.add((port.protocol, target))
    roles: dict[Socket, Role] = dict.fromkeys(said, "echo")
    for service in services:
        if service.key == DNS_SERVICE:
            for port in service.spec.ports:
                number = target_port(port, pod)
                if (
                    number is not None
                    and (port.protocol, number) in roles
                    and (port.protocol != "SCTP")
                ):
                    roles[port.protocol, number] = "dns"
    return roles
