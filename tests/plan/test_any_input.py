"""Whatever a decoded Service and its slices say, planning gives a plan, and one that can be."""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.endpointslice import EndpointSlice
from hairpin.model.service import Service
from hairpin.plan.desired import Desired
from hairpin.plan.ipvs import Planner
from hairpin.state.ipvs import RealServer, VirtualServer
from tests.plan.values import NODE

_ODD = (
    *("0.0.0.0", "10.96.0.1", "10.244.0.1", "127.0.0.1", "169.254.0.1", "192.0.2.1", "224.0.0.1"),
    *(
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "fd00::1",
        "fd31::1",
        "fe80::1",
        "ff02::1",
    ),
)
_ip = st.sampled_from(_ODD).map(ipaddress.ip_address)
_port = st.sampled_from((1, 80, 30080, 65535))
_name = st.sampled_from(("", "a", "b"))
_networks = st.sampled_from(("0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32", "::/0", "fd00::/8"))

st.register_type_strategy(ipaddress._BaseAddress, _ip)
st.register_type_strategy(ipaddress._BaseNetwork, _networks.map(ipaddress.ip_network))


def _value(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a field's type, as ``msgspec.inspect`` describes it."""
    info = msgspec.inspect
    match kind:
        case info.UnionType(types=types):
            return st.one_of(*map(_value, types))
        case info.StructType(fields=fields, cls=cls):
            given = {field.name: _field(field) for field in fields}
            return st.builds(cls, **given)
        case info.VarTupleType(item_type=item):
            return st.lists(_value(item), max_size=3).map(tuple)
        case info.DictType():
            labels = ("kubernetes.io/service-name", "service.kubernetes.io/headless", "app")
            return st.dictionaries(st.sampled_from(labels), st.just("web"), max_size=2)
        case info.LiteralType(values=values):
            return st.sampled_from(values)
        case info.IntType():
            return _port
        case info.StrType():
            return _name
        case info.BoolType():
            return st.booleans()
        case info.NoneType():
            return st.none()
        case info.CustomType(cls=cls) if cls is ipaddress._BaseAddress:
            return _ip
        case info.CustomType(cls=cls) if cls is ipaddress._BaseNetwork:
            return _networks.map(ipaddress.ip_network)
        case info.CustomType():
            return st.one_of(_ip, st.just("None"))
    raise AssertionError(kind)


def _field(field: msgspec.inspect.Field) -> st.SearchStrategy[Any]:
    return st.just("web") if field.name == "name" and field.required else _value(field.type)


_services: st.SearchStrategy[Service] = _value(msgspec.inspect.type_info(Service))
_slices: st.SearchStrategy[EndpointSlice] = _value(msgspec.inspect.type_info(EndpointSlice))


@given(_services, st.lists(_slices, max_size=3), st.randoms())
def test_planning_never_fails(one: Service, slices: list[EndpointSlice], random: Any) -> None:
    planner = Planner(KubeProxyConfiguration(mode="ipvs"), NODE, "")
    pieces = [
        msgspec.structs.replace(
            piece, metadata=msgspec.structs.replace(piece.metadata, name=f"s{n}")
        )
        for n, piece in enumerate(slices)
    ]
    plan = planner.service(one, pieces)
    keys = [each.object.key for each in plan.wanted]
    assert len(set(keys)) == len(keys)
    server: VirtualServer | None = None
    for each in plan.wanted:
        if isinstance(each.object, VirtualServer):
            server = each.object
        if isinstance(real := each.object, RealServer):
            assert server is not None
            assert (real.protocol, real.vip, real.vport) == (
                server.protocol,
                server.ip,
                server.port,
            )
    desired = Desired()
    desired.put(one.key, plan)
    planner.frame(desired.occupancy)
    random.shuffle(pieces)
    assert planner.service(one, pieces) == plan
    desired.put(one.key, None)
    assert list(desired) == []
