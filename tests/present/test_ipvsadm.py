"""ipvsadm's words: what kube-proxy 1.36 made, and every value that they can say."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.model.address import ip
from hairpin.present.ipvsadm import IpvsadmError, endpoint, parse, save
from hairpin.state.ipvs import (
    Persistence,
    RealServer,
    Tunnel,
    VirtualServer,
    by_mark,
)
from tests.ipvs_values import IPV6, real_servers, virtual_servers

# Written by `ipvsadm -Sn` (1.31) after kube-proxy 1.36 in IPVS mode.
KUBE_PROXY = Path(__file__).parents[1] / "plan" / "kube-proxy-1.36" / "ipvs" / "ipvsadm-save.txt"


def test_what_kube_proxy_made_is_written_as_ipvsadm_did() -> None:
    text = KUBE_PROXY.read_text()
    servers = parse(text)
    assert save(servers) == text
    assert save(reversed(servers)) == text
    assert len(servers) == len(text.splitlines())
    sticky = next(
        one for one in servers if isinstance(one, VirtualServer) and one.persistence is not None
    )
    assert sticky.persistence == Persistence(timeout=7200)


@st.composite
def tables(draw: st.DrawFn) -> list[VirtualServer | RealServer]:
    """Servers that ipvsadm has words for, each once."""
    found: dict[tuple[object, ...], VirtualServer | RealServer] = {}
    for head in draw(st.lists(virtual_servers(), max_size=6)):
        if head.key in found:
            continue
        found[head.key] = head
        for real in draw(st.lists(real_servers(head), max_size=4)):
            if real.forwarding not in ("local", "bypass"):
                found[real.key] = real
    return list(found.values())


@given(tables())
def test_every_table_comes_back(table: list[VirtualServer | RealServer]) -> None:
    got = parse(save(table, thresholds=True))
    assert {one.key: one for one in got} == {one.key: one for one in table}
    assert len(got) == len(table)
    assert save(got, thresholds=True) == save(table, thresholds=True)


@given(tables())
def test_without_thresholds_only_they_are_lost(table: list[VirtualServer | RealServer]) -> None:
    bare = {
        one.key: msgspec.structs.replace(one, upper=0, lower=0)
        if isinstance(one, RealServer)
        else one
        for one in table
    }
    assert {one.key: one for one in parse(save(table))} == bare


@given(tables(), st.randoms())
def test_the_order_of_the_input_does_not_matter(
    table: list[VirtualServer | RealServer], dice: st.DataObject
) -> None:
    shuffled = list(table)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    assert save(shuffled) == save(table)


VIP = ip("10.96.0.1")


@pytest.mark.parametrize(
    ("server", "line"),
    [
        (
            VirtualServer(
                protocol="SCTP",
                ip=ip("fd00::1"),
                port=80,
                scheduler="mh",
                scheduler_flags=frozenset({2, 1}),
                persistence=Persistence(timeout=60, mask=ip("ffff:ffff::")),
            ),
            "-A --sctp-service [fd00::1]:80 -s mh -p 60 -M 32 -b mh-fallback,mh-port",
        ),
        (
            VirtualServer(
                protocol="UDP",
                ip=VIP,
                port=5060,
                persistence=Persistence(timeout=9, mask=ip("255.255.255.0")),
                persistence_engine="sip",
                one_packet=True,
                scheduler_flags=frozenset({3}),
            ),
            "-A -u 10.96.0.1:5060 -s rr -p 9 -M 255.255.255.0 --pe sip -o -b flag-3",
        ),
        (by_mark(7, 6), "-A -f 7 -6 -s rr"),
        (
            RealServer(
                protocol="TCP",
                vip=VIP,
                vport=80,
                ip=ip("fd00::2"),
                port=80,
                weight=0,
                forwarding="tunnel",
                tunnel=Tunnel(type="gue", port=6080, checksum="remote"),
            ),
            "-a -t 10.96.0.1:80 -r [fd00::2]:80 -i -w 0 --tun-type gue --tun-port 6080 "
            "--tun-remcsum",
        ),
        (
            RealServer(
                protocol="TCP", vip=VIP, vport=80, ip=ip("10.0.0.2"), port=80, forwarding="route",
                upper=9, lower=4,
            ),
            "-a -t 10.96.0.1:80 -r 10.0.0.2:80 -g -w 1 -x 9 -y 4",
        ),
    ],
)  # fmt: skip
def test_words(server: VirtualServer | RealServer, line: str) -> None:
    assert save([server], thresholds=True) == line + "\n"


def test_long_words_and_defaults_are_understood() -> None:
    text = """
        # by hand
        --add-service --tcp-service 10.96.0.1:80 --persistent --ops
        -A -f -1 -s sh -b sh-port,flag-3
        --add-server --tcp-service=10.96.0.1:80 --real-server 10.0.0.2
    """
    plain = VirtualServer(protocol="TCP", ip=VIP, port=80)
    assert parse(text) == [
        msgspec.structs.replace(
            plain, scheduler="wlc", one_packet=True, persistence=Persistence(timeout=300)
        ),
        by_mark(2**32 - 1, scheduler="sh", scheduler_flags=frozenset({2, 3})),
        RealServer(
            protocol="TCP", vip=VIP, vport=80, ip=ip("10.0.0.2"), port=80, forwarding="route"
        ),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-D -t 10.0.0.1:80", "what is -D?"),
        ("-t 10.0.0.1:80", "neither -A nor -a"),
        ("-A -s rr", "no virtual server is named"),
        ("-A -t 10.0.0.1:http", "'http' is no number"),
        ("-A -t 10.0.0.1:80 -s", "-s without a value"),
        ("-A -t 10.0.0.1:80 -b sh-port", "scheduler wlc has no flag sh-port"),
        ("-a -t 10.0.0.1:80 -m", "no real server is named"),
        ("-a -t 10.0.0.1:80 -r fd00::1 -m", "only a tunnel"),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2 -i --tun-type gue", "needs a port"),
        ("-a -t 10.0.0.1:80 -r 10.0.0.2 -w -1", "-w: -1 is not between"),
        ("-A -t 10.0.0.1:80 -t 10.0.0.2:80", "-t twice"),
        ("-A -t 10.0.0.1:80 -s 'rr", "No closing quotation"),
    ],
)
def test_a_wrong_line_is_named(line: str, said: str) -> None:
    with pytest.raises(IpvsadmError) as caught:
        parse(f"-A -t 10.9.9.9:80 -s rr\n\n{line}\n")
    assert str(caught.value).startswith("line 3: ")
    assert said in str(caught.value)


@given(st.text(alphabet="-Aatursp 10.:[]fd9\n", max_size=60))
def test_anything_else_is_an_error_and_no_traceback(text: str) -> None:
    with suppress(IpvsadmError):
        parse(text)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("::1", "[::1]:80"),
        ("::ffff:10.0.0.1", "[::ffff:10.0.0.1]:80"),
        ("::10.0.0.1", "[::10.0.0.1]:80"),
        ("::ffff:0:0", "[::ffff:0.0.0.0]:80"),
        ("fd00::a:0:0:1", "[fd00::a:0:0:1]:80"),
    ],
)
def test_addresses_are_written_as_the_c_library_does(address: str, text: str) -> None:
    assert endpoint(ip(address), 80) == text


@given(IPV6)
def test_addresses_are_the_c_librarys(address: object) -> None:
    import socket

    packed = address.packed  # type: ignore[attr-defined]  # an IPv6Address
    assert endpoint(ip(str(address)), 1) == f"[{socket.inet_ntop(socket.AF_INET6, packed)}]:1"
