"""Every virtual and real server that there can be, for hypothesis."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

from hairpin.model.address import IP
from hairpin.state.ipvs import (
    SCHEDULERS,
    Checksum,
    Forwarding,
    Persistence,
    Protocol,
    RealServer,
    SchedulerFlag,
    Tunnel,
    VirtualServer,
    by_mark,
    prefix_mask,
)

PORTS = st.integers(0, 65535)
PROTOCOLS: st.SearchStrategy[Protocol] = st.sampled_from(("TCP", "UDP", "SCTP"))
_FORWARDING: st.SearchStrategy[Forwarding] = st.sampled_from(
    ("masquerade", "tunnel", "route", "local", "bypass")
)
_FLAGS: st.SearchStrategy[SchedulerFlag] = st.sampled_from((1, 2, 3))
_FULL: st.SearchStrategy[Checksum] = st.sampled_from(("none", "full"))
_ANY: st.SearchStrategy[Checksum] = st.sampled_from(("none", "full", "remote"))
_COUNTS = st.integers(0, 2**32 - 1)

IPV4: st.SearchStrategy[IP] = st.builds(IPv4Address, st.integers(0, 2**32 - 1))
IPV6: st.SearchStrategy[IP] = st.builds(IPv6Address, st.integers(0, 2**128 - 1))
TUNNELS = st.one_of(
    st.builds(Tunnel, type=st.just("gue"), port=st.integers(1, 65535), checksum=_ANY),
    st.builds(Tunnel, type=st.just("gre"), checksum=_FULL),
)


def _masks(version: int) -> st.SearchStrategy[IP]:
    return IPV4 if version == 4 else st.builds(prefix_mask, st.integers(1, 128))


@st.composite
def virtual_servers(draw: st.DrawFn) -> VirtualServer:
    version = draw(st.sampled_from((4, 6)))
    persistence = st.builds(
        Persistence,
        timeout=st.integers(0, 4_294_967),
        mask=st.none() | _masks(version),
    )
    is_marked = draw(st.booleans())
    mark = by_mark(draw(st.integers(1, 2**32 - 1)), 4 if version == 4 else 6)
    return VirtualServer(
        protocol="TCP" if is_marked else draw(PROTOCOLS),
        ip=mark.ip if is_marked else draw(IPV4 if version == 4 else IPV6),
        port=0 if is_marked else draw(PORTS),
        fwmark=mark.fwmark if is_marked else 0,
        scheduler=draw(st.sampled_from(SCHEDULERS)),
        persistence=draw(st.none() | persistence),
        scheduler_flags=draw(st.frozensets(_FLAGS)),
        one_packet=draw(st.booleans()),
        persistence_engine=draw(st.sampled_from(("", "sip"))),
    )


@st.composite
def real_servers(draw: st.DrawFn, of: VirtualServer | None = None) -> RealServer:
    of = draw(virtual_servers()) if of is None else of
    forwarding = draw(_FORWARDING)
    is_v4 = of.ip.version == 4 if forwarding != "tunnel" else draw(st.booleans())
    upper = draw(_COUNTS)
    return RealServer(
        protocol=of.protocol,
        vip=of.ip,
        vport=of.port,
        fwmark=of.fwmark,
        ip=draw(IPV4 if is_v4 else IPV6),
        port=draw(PORTS),
        weight=draw(st.integers(0, 2**31 - 1)),
        forwarding=forwarding,
        upper=upper,
        lower=draw(st.integers(0, upper)),
        tunnel=draw(st.none() | TUNNELS) if forwarding == "tunnel" else None,
    )


servers: st.SearchStrategy[VirtualServer | RealServer] = virtual_servers() | real_servers()


def virtual_server_of(real: RealServer) -> VirtualServer:
    """The plainest virtual server that ``real`` can belong to."""
    return VirtualServer(protocol=real.protocol, ip=real.vip, port=real.vport, fwmark=real.fwmark)
