"""Reasoning over two connections that were observed in the embedded kernel and kept as files."""

from __future__ import annotations

import json
import random
import re
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hairpin.model.address import from_builtin
from hairpin.model.decode import decode_objects
from hairpin.model.snapshot import Snapshot
from hairpin.present.pcapng import pcapng
from hairpin.present.trace_html import page
from hairpin.present.trace_json import as_json, as_yaml
from hairpin.present.trace_text import text
from hairpin.trace.observation import Observation
from hairpin.trace.reason import reason
from hairpin.trace.values import Trace

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> tuple[Observation, Snapshot]:
    """What was seen, and the objects of the lab."""
    data: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    found = msgspec.convert(data["observation"], Observation, dec_hook=from_builtin)
    return found, Snapshot(decode_objects(msgspec.json.encode(data["objects"])))


@pytest.fixture
def answered() -> tuple[Observation, Trace]:
    found, snapshot = recorded("answered")
    return found, reason(found, snapshot, "client", "svc/far:http")


@pytest.fixture
def off() -> tuple[Observation, Trace]:
    found, snapshot = recorded("hairpin-off")
    return found, reason(found, snapshot, "foo", "svc/foo:http")


def test_the_way_of_an_answered_one(answered: tuple[Observation, Trace]) -> None:
    _, trace = answered
    assert trace.disposition == "delivered"
    assert trace.cause is None
    request, reply = trace.legs
    assert [hop.name for hop in request.hops] == [
        "default/client",
        "n1",
        "outside",
        "n2",
        "default/far",
    ]
    assert [hop.name for hop in reply.hops] == [
        "default/far",
        "n2",
        "outside",
        "n1",
        "default/client",
    ]
    (chosen,) = [step for hop in request.hops for step in hop.steps if step.kind == "ipvs"]
    assert chosen.owner == "service default/far:http"
    assert chosen.before is not None and chosen.after is not None
    assert str(chosen.before.destination) == "10.96.0.103"
    assert str(chosen.after.destination) == "10.244.2.10"


def test_the_cause_of_a_failed_one(off: tuple[Observation, Trace]) -> None:
    _, trace = off
    assert trace.disposition == "dropped"
    assert trace.cause is not None
    assert trace.cause.id == "hairpin-off"
    assert trace.cause.mend.shell == "ip link set cni0 promisc on"
    assert trace.cause.source


def test_the_order_of_what_was_captured_does_not_matter() -> None:
    found, snapshot = recorded("hairpin-off")
    mixed = list(found.sightings)
    random.Random(1).shuffle(mixed)
    by_time = sorted(mixed, key=lambda one: one.at)
    again = msgspec.structs.replace(found, sightings=tuple(by_time))
    assert reason(again, snapshot) == reason(found, snapshot)


def test_stamps_that_are_late_change_no_way() -> None:
    """The first packets of a trace may get the time at which they are read."""
    found, snapshot = recorded("answered")
    ways = [[hop.name for hop in leg.hops] for leg in reason(found, snapshot).legs]
    for netns in sorted({one.netns for one in found.sightings}):
        late = [
            msgspec.structs.replace(one, at=one.at + (0.00005 if one.netns == netns else 0))
            for one in found.sightings
        ]
        again = msgspec.structs.replace(
            found, sightings=tuple(sorted(late, key=lambda one: one.at))
        )
        assert [[hop.name for hop in leg.hops] for leg in reason(again, snapshot).legs] == ways


def test_without_evidence_nothing_is_guessed() -> None:
    found, _ = recorded("hairpin-off")
    bare = tuple(
        msgspec.structs.replace(one, links=(), sysctls={}, servers=()) for one in found.places
    )
    blind = msgspec.structs.replace(found, places=bare)
    trace = reason(blind, Snapshot())
    assert trace.cause is not None
    assert trace.cause.id == "unknown"
    assert "last seen" in trace.cause.because


def test_the_words(off: tuple[Observation, Trace]) -> None:
    lines = text(off[1]).splitlines()
    assert lines[0] == "foo → svc/foo:http (10.96.0.101:80), TCP, Service default/foo:http"
    assert lines[-2:] == [
        "to mend: hairpin set hairpin=promisc",
        "     or: ip link set cni0 promisc on  (in node_n1)",
    ]
    assert "\033" not in text(off[1])
    assert re.sub(r"\033\[[0-9;]*m", "", text(off[1], colour=True)) == text(off[1])


def test_json_and_yaml_say_the_same(off: tuple[Observation, Trace]) -> None:
    import yaml

    found = json.loads(as_json(off[1]))
    assert yaml.safe_load(as_yaml(off[1])) == found
    assert found["cause"]["mend"]["hairpin"] == "hairpin set hairpin=promisc"
    assert (
        msgspec.convert(
            {name: value for name, value in found.items() if name not in ("apiVersion", "kind")},
            Trace,
            dec_hook=from_builtin,
        )
        == off[1]
    )


def test_pcapng_is_whole(off: tuple[Observation, Trace]) -> None:
    data = pcapng(*off)
    at, kinds = 0, []
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        assert struct.unpack_from("<I", data, at + size - 4)[0] == size
        assert size % 4 == 0
        kinds.append(kind)
        at += size
    assert at == len(data)
    assert kinds[0] == 0x0A0D0D0A
    links = {(one.netns, one.link) for one in off[0].sightings}
    assert 1 <= kinds.count(1) <= len(links)
    assert b"because the packet has to leave cni0" in data
    assert b"IPVS sends it to 10.244.1.10:8080" in data


class Page(HTMLParser):
    """What a page refers to, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.refers: list[str] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.refers += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def test_the_page_stands_alone_and_says_every_step(off: tuple[Observation, Trace]) -> None:
    found = Page()
    found.feed(page(off[1]))
    assert all(one.startswith("#hop-") for one in found.refers)
    said = "".join(found.said)
    for leg in off[1].legs:
        for hop in leg.hops:
            for step in hop.steps:
                assert step.says in said
    assert "hairpin set hairpin=promisc" in said


def test_the_page_takes_any_name(off: tuple[Observation, Trace]) -> None:
    asked = msgspec.structs.replace(off[1].asked, source="<script>alert(1)</script>")
    shown = page(msgspec.structs.replace(off[1], asked=asked))
    assert "<script>alert" not in shown
