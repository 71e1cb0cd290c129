"""The page of a trace: what is drawn and what is listed are the same steps."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import msgspec
import pytest

from hairpin.present.trace_html import page
from hairpin.present.trace_map import drawing, numbers
from hairpin.present.trace_text import text
from hairpin.trace.reason import reason
from hairpin.trace.values import Cause, Hop, Leg, Step, Trace
from tests.trace.test_reason import recorded


@pytest.fixture(params=["answered", "hairpin-off"])
def trace(request: pytest.FixtureRequest) -> Trace:
    found, snapshot = recorded(request.param)
    return reason(found, snapshot, "client", "svc/x")


def _steps(trace: Trace) -> list[tuple[str, Step]]:
    return [
        (f"{a}-{b}-{c}", step)
        for a, leg in enumerate(trace.legs)
        for b, hop in enumerate(leg.hops)
        for c, step in enumerate(hop.steps)
    ]


def _svg(trace: Trace) -> ElementTree.Element:
    found = ElementTree.fromstring(drawing(trace)).find("svg")
    assert found is not None
    return found


def test_each_step_has_a_spot_of_its_own_in_the_picture(trace: Trace) -> None:
    svg = _svg(trace)
    width, height = map(float, svg.attrib["viewBox"].split()[2:])
    spots = {one.attrib["data-step"]: one for one in svg.iter("a")}
    assert list(spots) == [key for key, _ in _steps(trace)]
    places = {(one.attrib["data-x"], one.attrib["data-y"]) for one in spots.values()}
    assert len(places) == len(spots)
    for x, y in places:
        assert 0 < float(x) < width
        assert 0 < float(y) < height


def test_every_namespace_and_link_is_named_once(trace: Trace) -> None:
    texts = [one.text for one in _svg(trace).iter("text")]
    boxes = [one for one in _svg(trace).iter("rect") if "box" in one.attrib["class"].split()]
    hops = {hop.netns for leg in trace.legs for hop in leg.hops}
    assert len(boxes) == len(hops)
    links = {(hop.netns, step.link) for leg in trace.legs for hop in leg.hops
             for step in hop.steps if step.link}  # fmt: skip
    assert sorted(name for _, name in links) == sorted(
        one.text or "" for one in _svg(trace).iter("text") if "device" in one.attrib["class"]
    )
    assert len(texts) >= len(hops) + len(links)


def test_the_list_has_the_same_numbers(trace: Trace) -> None:
    told = {f"{a}-{b}-{c}": number for (a, b, c), number in numbers(trace).items()}
    listed = re.findall(r'data-step="([-\d]+)" data-ends="[^"]*" tabindex="0">(?:<span '
                        r'class="badge">(\d+)</span>)?', page(trace))  # fmt: skip
    assert [key for key, _ in listed] == [key for key, _ in _steps(trace)]
    assert {key: int(number) for key, number in listed if number} == told
    shown = [one.text for one in _svg(trace).iter("text") if one.attrib["class"] == "number"]
    last = len(trace.legs) - 1
    ends = 0 if trace.legs[last].arrived else 1
    assert len(told) - ends <= len(shown) <= len(told)


def test_an_arrow_stands_on_each_wire_that_is_passed(trace: Trace) -> None:
    tips = [one for one in _svg(trace).iter("path") if one.attrib["class"].startswith("tip")]
    assert len(tips) == sum(len(leg.hops) - 1 for leg in trace.legs)


def test_what_did_not_arrive_has_its_end_marked(trace: Trace) -> None:
    ends = [one for one in _svg(trace).iter("path") if one.attrib["class"] == "end"]
    assert len(ends) == sum(not leg.arrived for leg in trace.legs)


def test_an_unknown_cause_does_not_say_the_end_twice(trace: Trace) -> None:
    said = "the request was last seen coming in on eth0 of node n1"
    ended = msgspec.structs.replace(trace.ended, says=said)
    cause = Cause(id="unknown", because=f"unknown; {said}")
    lost = msgspec.structs.replace(trace, disposition="lost", ended=ended, cause=cause)
    for shown in (page(lost), text(lost)):
        assert shown.count(said) == 1
    assert "because unknown  [unknown]" in text(lost)


def test_nothing_seen_is_nothing_drawn(trace: Trace) -> None:
    bare = msgspec.structs.replace(trace, legs=(), tracked=())
    assert drawing(bare) == ""
    assert "<svg" not in page(bare)


def test_many_namespaces_and_odd_names_are_drawn(trace: Trace) -> None:
    hops = [
        Hop(netns=f"n{at}", role="other", name="<&>" * at,
            steps=(Step(kind="received", says="received", link="l" * (at + 1)),))
        for at in range(12)
    ]  # fmt: skip
    leg = Leg(name="request", packet="TCP SYN", arrived=False, hops=tuple(hops))
    svg = _svg(msgspec.structs.replace(trace, legs=(leg,)))
    assert len(list(svg.iter("a"))) == 12


def test_what_left_and_came_back_is_drawn_beyond_the_boxes(trace: Trace) -> None:
    out = (Step(kind="sent", says="sent", link="eth0"), Step(kind="left", says="l", link="eth0"))
    back = (Step(kind="received", says="received", link="eth0"),)
    legs = (
        Leg(name="request", packet="TCP SYN", arrived=True,
            hops=(Hop(netns="here", role="node", name="n", steps=out),)),
        Leg(name="reply", packet="TCP SYN+ACK", arrived=True,
            hops=(Hop(netns="here", role="node", name="n", steps=back),)),
    )  # fmt: skip
    svg = _svg(msgspec.structs.replace(trace, legs=legs))
    (box,) = [one for one in svg.iter("rect") if "box" in one.attrib["class"].split()]
    edge = float(box.attrib["x"]) + float(box.attrib["width"])
    left = next(one for one in svg.iter("a") if one.attrib["data-step"] == "0-0-1")
    assert edge < float(left.attrib["data-x"]) < float(svg.attrib["viewBox"].split()[2])
    starts = [float(one.attrib["cx"]) for one in svg.iter("circle")
              if one.attrib.get("class") == "start"]  # fmt: skip
    assert starts[0] < edge < starts[1]
