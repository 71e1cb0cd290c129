"""The way of a packet that ends where no link and no rule says more of it."""

from __future__ import annotations

import msgspec

from hairpin.trace.packet import Packet, read
from hairpin.trace.reason import reason
from tests.trace.test_reason import recorded


def test_an_answer_that_a_bridge_drops_at_once_is_not_the_nodes_own() -> None:
    found, snapshot = recorded("hairpin-off")

    def dropped_at_once(data: bytes, way: str, netns: str) -> bool:
        packet = read(data)
        back = isinstance(packet, Packet) and packet.says.startswith("TCP SYN+ACK")
        return back and (netns, way) == ("node_n1", "out")

    sightings = tuple(
        one for one in found.sightings if not dropped_at_once(one.data, one.way, one.netns)
    )
    trace = reason(msgspec.structs.replace(found, sightings=sightings), snapshot)
    reply = next(leg for leg in trace.legs if leg.name == "reply")
    assert not reply.arrived
    steps = reply.hops[-1].steps
    assert [step.kind for step in steps] == ["received", "nat"]
    assert steps[-1].seen == "inferred"
    assert steps[-1].after is not None and str(steps[-1].after.destination) == "10.244.1.10"
    assert trace.cause is not None and trace.cause.id == "hairpin-off"
