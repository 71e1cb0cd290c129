"""Reading IPVS's connection table."""

from __future__ import annotations

from hairpin.kernel.ipvs import parse_connections
from hairpin.model.address import ip
from hairpin.state.ipvs import Connection

TABLE = """\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP AC160001 D58A AC170001 1F90 AC160002 1F90 ESTABLISHED     897
UDP fd00:0000:0000:0000:0000:0000:0000:0001 D58B fd00:0000:0000:0000:0000:0000:0000:0002 0035 \
fd00:0000:0000:0000:0000:0000:0000:0003 14E9 UDP             3
"""


def test_both_families_are_read() -> None:
    assert parse_connections(TABLE.splitlines()) == [
        Connection(
            protocol="TCP",
            client=ip("172.22.0.1"),
            client_port=54666,
            vip=ip("172.23.0.1"),
            vport=8080,
            server=ip("172.22.0.2"),
            server_port=8080,
            state="ESTABLISHED",
            expires=897,
        ),
        Connection(
            protocol="UDP",
            client=ip("fd00::1"),
            client_port=54667,
            vip=ip("fd00::2"),
            vport=53,
            server=ip("fd00::3"),
            server_port=5353,
            state="UDP",
            expires=3,
        ),
    ]
