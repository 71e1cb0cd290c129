"""What comes and goes leaves nothing behind: memory after many generations of Services."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from hairpin.kernel.apply import Kernel
from hairpin.kernel.nftables_units import units
from hairpin.mode.base import mode_of
from hairpin.mode.wants import Differences
from hairpin.model import address
from hairpin.model.address import forget_unused, from_packed, ip
from hairpin.model.configuration import KubeProxyConfiguration, Mode
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.service import Service
from hairpin.netlink import ipset as set_wire
from hairpin.netlink import ipvs as ipvs_wire
from hairpin.plan.node import node_facts
from hairpin.proxy.tracker import Tracker
from hairpin.source.api.objects import Decoding, resources
from hairpin.source.api.recent import Recent
from hairpin.state.ipset import SetEntry
from hairpin.state.ipvs import RealServer, VirtualServer
from hairpin.state.nftables import NftObject
from tests.source.api_objects import endpoints, service

_SIZE = 200  # Services of a generation, each with two endpoints
_ROUND = 6  # generations: the bounded caches are full, and have been emptied, once in so many


class Life:
    """What an agent does with events, from the bytes of a watch to those for the kernel."""

    def __init__(self, mode: Mode) -> None:
        self._decoding = {one.kind: Decoding(one) for one in resources("node1")[:2]}
        self._recent = {kind: Recent() for kind in self._decoding}
        self._tracker = Tracker()
        config = KubeProxyConfiguration(mode=mode, cluster_cidr="10.244.0.0/16")
        facts = node_facts("node1", None, [ip("192.168.7.2")])
        self._wants = mode_of(Kernel(), "node1", config).desired(facts)
        self._version = 0

    def event(self, verb: str, thing: dict[str, Any]) -> None:
        self._version += 1
        thing["metadata"]["resourceVersion"] = str(self._version)
        line = json.dumps({"type": verb, "object": thing}).encode()
        kind = thing["kind"]
        item = self._decoding[kind].event(line).item
        assert item is not None
        gone = verb == "DELETED"
        assert self._recent[kind].is_news(item, gone=gone)
        if kind == "Service":
            assert item.thing is None or isinstance(item.thing, Service)
            self._tracker.on_service(item.key, item.thing)
        else:
            assert item.thing is None or isinstance(item.thing, EndpointSlice)
            self._tracker.on_slice(item.key, item.thing)

    def sync(self) -> int:
        """Plans what changed, and writes it as for the kernel; gives the number of Changes."""
        for key in self._tracker.take_dirty():
            self._wants.put(key, self._tracker.services.get(key), self._tracker.slices(key))
        found = self._wants.take()
        _write(found)
        return len(found)


def _write(found: Differences) -> None:
    changes = list(found)
    for change in changes:
        str(change)
    nft = [one for one in changes if isinstance(one.object, NftObject)]
    list(units(nft, range(len(nft)), {}))
    ipvs = [one for one in changes if isinstance(one.object, VirtualServer | RealServer)]
    ipvs_wire.pack(30, ipvs, "node1")
    entries = [one for one in changes if isinstance(one.object, SetEntry)]
    set_wire.pack(entries, "node1")


def _generation(number: int) -> Iterator[dict[str, Any]]:
    """Names and addresses that no other generation has."""
    for at in range(_SIZE):
        name = f"generation-{number}-{at}"
        own = number * _SIZE + at
        ports = [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30000 + at}]
        some: dict[str, Any] = {"ports": ports, "type": "NodePort"}
        if at % 4 == 0:
            some["sessionAffinity"] = "ClientIP"
            some["externalIPs"] = [str(from_packed((0xC0000000 + own).to_bytes(4, "big")))]
        if at % 4 == 1:
            ports[0]["protocol"] = "UDP"
        yield service(name, str(from_packed((0x0A600000 + own).to_bytes(4, "big"))), **some)
        ends = [str(from_packed((0x0AF40000 + 2 * own + n).to_bytes(4, "big"))) for n in (0, 1)]
        slice_ = endpoints(name, *ends)
        slice_["ports"][0]["protocol"] = ports[0].get("protocol", "TCP")
        yield slice_


@pytest.mark.parametrize("mode", ["nftables", "iptables", "ipvs"])
def test_services_that_come_and_go_leave_nothing(mode: Mode) -> None:
    """Blocks of Python's allocator: what it holds, wherever they lie."""
    life = Life(mode)
    after: list[int] = []
    for number in range(3 * _ROUND):
        things = list(_generation(number))
        for thing in things:
            life.event("ADDED", thing)
        assert life.sync() > 2 * _SIZE
        for thing in things:
            life.event("DELETED", thing)
        assert life.sync() > 2 * _SIZE
        del things, thing
        after.append(_blocks())
    warm, last = max(after[_ROUND:-_ROUND]), max(after[-_ROUND:])
    assert last - warm < _SIZE * _ROUND / 2, after  # half a block for each Service


def _blocks() -> int:
    forget_unused()
    gc.collect()
    return sys.getallocatedblocks()


def test_an_address_is_one_object_as_long_as_somebody_has_it() -> None:
    held = [from_packed(number.to_bytes(4, "big")) for number in range(20_000)]
    assert from_packed(bytes(4)) is held[0]
    before = forget_unused()
    assert before >= len(held)
    assert all(from_packed(one.packed) is one for one in held)
    kept = held[::1000]
    del held
    assert forget_unused() <= before - 19_000
    assert all(from_packed(one.packed) is one for one in kept)


def test_addresses_that_nobody_has_go_by_themselves() -> None:
    """However many pass, those that are remembered are bounded by those that somebody has."""
    few = forget_unused()
    for number in range(100_000):
        from_packed((0x0B00_0000 + number).to_bytes(4, "big"))
    assert len(address._known) <= max(2 * few, address._FEW) + 1


def test_numbers_of_anonymous_sets_stay_within_four_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node's agent that lives for years makes more of them than there are such numbers."""
    from itertools import count

    from hairpin.kernel import nftables_units

    monkeypatch.setattr(nftables_units, "_made", count(2**32 - 2))
    found = [nftables_units._new_id() for _ in range(5)]
    assert len(set(found)) == 5
    assert all(0 < one < 2**32 for one in found)
