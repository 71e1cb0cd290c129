"""Flows and requests about them come back as they went out; pyroute2 reads the same in them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg

from hairpin.model.address import ip
from hairpin.netlink import conntrack
from hairpin.netlink import message as wire
from hairpin.state.conntrack import Flow, Tuple
from tests.ipvs_values import IPV4, IPV6, PORTS

U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    addresses = draw(st.sampled_from((IPV4, IPV6)))
    tuples = st.builds(Tuple, addresses, PORTS, addresses, PORTS)
    return Flow(
        protocol=draw(st.integers(0, 255)),
        original=draw(tuples),
        reply=draw(tuples),
        mark=draw(U32),
        status=draw(U32),
        zone=draw(U16),
        id=draw(U32),
    )


@given(flows())
def test_a_flow_comes_back(flow: Flow) -> None:
    assert conntrack.parse_flow(conntrack.render_flow(flow)) == flow


@given(flows())
def test_a_flow_of_another_layout_comes_back(flow: Flow) -> None:
    """As of a kernel that has the tuples elsewhere, or an attribute more before them."""
    body = conntrack.render_flow(flow)
    moved = body[:4] + wire.u32(26, 7) + body[4:]
    assert conntrack.parse_flow(moved) == flow


@given(flows())
def test_a_deletion_names_the_flow(flow: Flow) -> None:
    got = conntrack.parse_flow(conntrack.delete(flow).body)
    assert (got.protocol, got.original, got.zone, got.id) == (
        flow.protocol,
        flow.original,
        flow.zone,
        flow.id,
    )


@given(st.data())
def test_spoiled_messages_give_values_or_wire_error(data: st.DataObject) -> None:
    body = bytearray(conntrack.render_flow(data.draw(flows())))
    for _ in range(data.draw(st.integers(0, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(wire.WireError):
        conntrack.parse_flow(bytes(body[: data.draw(st.integers(0, len(body)))]))


def witness(request: wire.Request) -> Any:
    message = nfct_msg(wire.frame(request, 1))
    message.decode()
    return message


def test_pyroute2_reads_our_deletion() -> None:
    ends = Tuple(ip("10.9.0.1"), 4000, ip("10.96.0.10"), 53)
    flow = Flow(protocol=17, original=ends, reply=ends, id=0x01020304)
    message = witness(conntrack.delete(flow))
    original = message.get_attr("CTA_TUPLE_ORIG")
    addresses = original.get_attr("CTA_TUPLE_IP")
    ports = original.get_attr("CTA_TUPLE_PROTO")
    assert addresses.get_attr("CTA_IP_V4_SRC") == "10.9.0.1"
    assert addresses.get_attr("CTA_IP_V4_DST") == "10.96.0.10"
    assert ports.get_attr("CTA_PROTO_NUM") == 17
    assert (ports.get_attr("CTA_PROTO_SRC_PORT"), ports.get_attr("CTA_PROTO_DST_PORT")) == (
        4000,
        53,
    )
    assert message.get_attr("CTA_ID") == 0x01020304
