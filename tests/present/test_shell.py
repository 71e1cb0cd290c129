"""Changes as shell commands.  That a shell makes of them what hairpin does is tested in claims."""

import pytest

from hairpin.model.address import ip, network
from hairpin.present.shell import commands
from hairpin.state.change import Change, Object
from hairpin.state.ipvs import (
    Persistence,
    RealServer,
    Timeouts,
    Tunnel,
    VirtualServer,
    by_mark,
)
from hairpin.state.links import Address, Link, Netns, Route
from hairpin.state.netfilter import ChainPolicy, Rule
from hairpin.state.sysctl import Sysctl

VIP = ip("172.23.0.1")
REAL = RealServer(protocol="TCP", vip=VIP, vport=80, ip=ip("172.22.0.2"), port=8080)
CNI0 = Link(name="cni0", type="bridge")


def _veth(**more: object) -> Link:
    return Link(name="veth_foo", type="veth", peer="eth0", peer_netns="foo", **more)  # type: ignore[arg-type]  # a test's shorthand


@pytest.mark.parametrize(
    ("verb", "netns", "thing", "before", "lines"),
    [
        ("add", "node", Netns(name="foo"), None, ["ip netns add foo", "ip -n foo link set lo up"]),
        ("remove", "node", Netns(name="foo"), None, ["ip netns del foo"]),
        ("add", "node", CNI0, None, ["ip link add cni0 type bridge", "ip link set cni0 up"]),
        (
            "set",
            "node",
            Link(name="cni0", type="bridge", promisc=True),
            CNI0,
            ["ip link set cni0 promisc on"],
        ),
        (
            "add",
            "foo",
            Link(name="eth0", type="veth", peer="veth_foo", peer_netns="node"),
            None,
            [
                "ip link add veth_foo type veth peer name eth0 netns foo",
                "ip -n foo link set eth0 up",
            ],
        ),
        (
            "set",
            "node",
            _veth(master="cni0"),
            _veth(up=False),
            ["ip link set veth_foo master cni0 up"],
        ),
        (
            "set",
            "node",
            _veth(master="cni0", hairpin=True),
            _veth(master="cni0"),
            ["ip link set veth_foo type bridge_slave hairpin on"],
        ),
        (
            "add",
            "foo",
            Address(link="eth0", ip=ip("172.22.0.2"), prefix=24),
            None,
            ["ip -n foo addr add 172.22.0.2/24 dev eth0"],
        ),
        (
            "add",
            "foo",
            Route(to=network("0.0.0.0/0"), via=ip("172.22.0.1")),
            None,
            ["ip -n foo route add default via 172.22.0.1"],
        ),
        (
            "set",
            "foo",
            Sysctl(name="net.ipv4.ip_forward", value="1"),
            None,
            ["ip netns exec foo sysctl -w net.ipv4.ip_forward=1"],
        ),
        (
            "add",
            "node",
            Rule(
                table="nat", chain="POSTROUTING", spec=("-s", "172.22.0.0/24", "-j", "MASQUERADE")
            ),
            None,
            ["iptables -t nat -A POSTROUTING -s 172.22.0.0/24 -j MASQUERADE"],
        ),
        (
            "set",
            "node",
            ChainPolicy(table="filter", chain="FORWARD", target="DROP"),
            None,
            ["iptables -P FORWARD DROP"],
        ),
        (
            "add",
            "node",
            VirtualServer(protocol="UDP", ip=VIP, port=53, scheduler="wrr"),
            None,
            ["ipvsadm --add-service --udp-service 172.23.0.1:53 --scheduler wrr"],
        ),
        (
            "add",
            "node",
            REAL,
            None,
            [
                "ipvsadm --add-server --tcp-service 172.23.0.1:80 "
                "--real-server 172.22.0.2:8080 --masquerading"
            ],
        ),
        (
            "remove",
            "node",
            REAL,
            None,
            ["ipvsadm --delete-server --tcp-service 172.23.0.1:80 --real-server 172.22.0.2:8080"],
        ),
        (
            "set",
            "node",
            by_mark(7, 6, persistence=Persistence(timeout=60, mask=ip("ffff::")), one_packet=True),
            None,
            ["ipvsadm --edit-service --fwmark-service 7 --ipv6 --scheduler rr --persistent 60 "
             "--netmask 16 --ops"],
        ),
        (
            "set",
            "node",
            RealServer(
                protocol="TCP", vip=VIP, vport=80, ip=ip("fd00::1"), port=80, weight=0, upper=9,
                forwarding="tunnel", tunnel=Tunnel(type="gue", port=6080, checksum="full"),
            ),
            None,
            ["ipvsadm --edit-server --tcp-service 172.23.0.1:80 --real-server [fd00::1]:80 --ipip "
             "--weight 0 --u-threshold 9 --tun-type gue --tun-port 6080 --tun-csum"],
        ),
        (
            "set",
            "foo",
            Timeouts(tcp=900, udp=30),
            None,
            ["ip netns exec foo ipvsadm --set 900 0 30"],
        ),
    ],
)  # fmt: skip
def test_commands(
    verb: str, netns: str, thing: Object, before: Object | None, lines: list[str]
) -> None:
    change = Change(verb=verb, netns=netns, object=thing, before=before)  # type: ignore[arg-type]  # parametrized
    assert commands(change, home="node") == lines
