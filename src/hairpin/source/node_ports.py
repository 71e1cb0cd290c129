"""Node ports: the ports of the nodes' own addresses that lead to Services.

One number is one Service's; ports of different protocols may share it, as the API server allows.
Source: k8s.io/kubernetes pkg/registry/core/service/storage/alloc.go and portallocator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from hairpin.model.errors import ManifestError
from hairpin.model.metadata import Key
from hairpin.model.service import Service
from hairpin.model.snapshot import Snapshot
from hairpin.source.settings import Settings

_HEALTH = -1  # the place of the health check port among a Service's ports


class _Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A place for one number: what it asks for, what it had, and whether it gets one anyway."""

    service: Service
    index: int
    protocol: str
    asked: int | None
    had: int | None
    wanted: bool
    settled: bool  # complete already: what it says is so

    @property
    def key(self) -> tuple[Key, int]:
        return (self.service.key, self.index)

    @property
    def field(self) -> str:
        if self.index == _HEALTH:
            return "spec.healthCheckNodePort"
        return f"spec.ports[{self.index}].nodePort"


class _Numbers:
    """Who has which number."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        # KEP-3668: the low end is left to those who ask for a number.
        size = last - first + 1
        self._low = first + min(max(16, size // 32), 128, size - 1)
        self._next = self._low
        self._holders: dict[int, tuple[Service, set[str]]] = {}

    def free_for(self, slot: _Slot, number: int) -> bool:
        holder = self._holders.get(number)
        if holder is None:
            return True
        service, protocols = holder
        return service.key == slot.service.key and not {slot.protocol, "health"} & (
            protocols | ({"health"} if slot.index == _HEALTH else set())
        )

    def hold(self, slot: _Slot, number: int) -> None:
        _, protocols = self._holders.setdefault(number, (slot.service, set()))
        protocols.add(slot.protocol)

    def holder(self, number: int) -> Service:
        return self._holders[number][0]

    def take(self) -> int | None:
        """A free number: from the low end only when there is no other."""
        while self._next <= self.last:
            if self._next not in self._holders:
                return self._next
            self._next += 1
        low = range(self.first, self._low)
        return next((number for number in low if number not in self._holders), None)


def with_node_ports(
    services: Mapping[Key, Service], previous: Snapshot, settings: Settings
) -> dict[Key, Service]:
    """The Services with node ports, and health check ports, where they want them.

    Raises ManifestError for a number that another Service has, or that is out of the range.
    """
    slots = [slot for s in services.values() for slot in _slots(s, previous, settings)]
    numbers = _Numbers(*settings.node_port_range)
    chosen: dict[tuple[Key, int], int] = {}

    def give(slot: _Slot, number: int) -> None:
        numbers.hold(slot, number)
        chosen[slot.key] = number

    for slot in slots:
        if slot.settled and slot.asked is not None:
            give(slot, slot.asked)
    # Who had a number before comes first: it is the newcomer that is refused.
    for slot in slots:
        if slot.key in chosen or slot.had is None or slot.asked not in (None, slot.had):
            continue
        if numbers.free_for(slot, slot.had):
            give(slot, slot.had)
    for slot in slots:
        if slot.key not in chosen and slot.asked is not None:
            _check(slot, slot.asked, numbers, settings)
            give(slot, slot.asked)
    for slot in slots:
        if slot.key not in chosen and slot.wanted:
            give(slot, _allocated(slot, chosen, numbers))
    return {key: _with(service, chosen) for key, service in services.items()}


def _slots(service: Service, previous: Snapshot, settings: Settings) -> Iterator[_Slot]:
    spec = service.spec
    if spec.type not in ("NodePort", "LoadBalancer"):
        return
    settled = settings.foreign and service.metadata.stored
    wanted = not settled and (
        spec.type == "NodePort" or spec.allocate_load_balancer_node_ports is not False
    )
    old = previous.services.get(service.key)
    had = {(p.protocol, p.port): p.node_port for p in old.spec.ports} if old else {}
    for index, port in enumerate(spec.ports):
        yield _Slot(
            service=service,
            index=index,
            protocol=port.protocol,
            asked=port.node_port,
            had=had.get((port.protocol, port.port)) if wanted else None,
            wanted=wanted,
            settled=settled,
        )
    if spec.type == "LoadBalancer" and spec.external_traffic_policy == "Local":
        yield _Slot(
            service=service,
            index=_HEALTH,
            protocol="health",
            asked=spec.health_check_node_port,
            had=old.spec.health_check_node_port if old else None,
            wanted=not settled,
            settled=settled,
        )


def _check(slot: _Slot, number: int, numbers: _Numbers, settings: Settings) -> None:
    if not numbers.free_for(slot, number):
        holder = numbers.holder(number)
        message = f"{number} is already the node port of {holder.ref}"
        if holder.key == slot.service.key:
            message = f"{number} is already another port of this Service"
        remedy = "leave the field out to get a free one"
    elif not settings.foreign and not numbers.first <= number <= numbers.last:
        message = f"{number} is outside of the node ports, {numbers.first} to {numbers.last}"
        remedy = "leave the field out to get one of them"
    else:
        return
    raise ManifestError(message, object=str(slot.service.ref), field=slot.field, remedy=remedy)


def _allocated(slot: _Slot, chosen: Mapping[tuple[Key, int], int], numbers: _Numbers) -> int:
    """The number of the same port over another protocol, else a free one."""
    ports = slot.service.spec.ports
    if slot.index != _HEALTH:
        for index, port in enumerate(ports):
            number = chosen.get((slot.service.key, index))
            same = port.port == ports[slot.index].port
            if same and number is not None and numbers.free_for(slot, number):
                return number
    number = numbers.take()
    if number is None:
        raise ManifestError(
            f"there is no node port left for it, of {numbers.first} to {numbers.last}",
            object=str(slot.service.ref),
            field=slot.field,
        )
    return number


def _with(service: Service, chosen: Mapping[tuple[Key, int], int]) -> Service:
    ports = tuple(
        msgspec.structs.replace(port, node_port=chosen.get((service.key, index), port.node_port))
        for index, port in enumerate(service.spec.ports)
    )
    health = chosen.get((service.key, _HEALTH), service.spec.health_check_node_port)
    spec = msgspec.structs.replace(service.spec, ports=ports, health_check_node_port=health)
    return msgspec.structs.replace(service, spec=spec)
