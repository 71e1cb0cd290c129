"""Changes as shell commands.  That a shell makes of them what hairpin does is tested in claims."""

import pytest

from hairpin.model.address import ip, network
from hairpin.present.shell import commands
from hairpin.state.change import Change, Object
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import (
    Persistence,
    RealServer,
    Timeouts,
    Tunnel,
    VirtualServer,
    by_mark,
)
from hairpin.state.links import Address, Bridged, Link, Neighbour, Netns, Route, Vxlan
from hairpin.state.netfilter import Chain, ChainPolicy, Jump, Rule
from hairpin.state.sysctl import Sysctl

VIP = ip("172.23.0.1")
REAL = RealServer(protocol="TCP", vip=VIP, vport=80, ip=ip("172.22.0.2"), port=8080)
MARK_MASQ = Chain(
    table="nat", name="KUBE-MARK-MASQ", rules=(("-j", "MARK", "--set-xmark", "0x4000/0x4000"),)
)
JUMP = Jump(
    table="filter", chain="INPUT", to="KUBE-PROXY-FIREWALL", comment="kube-proxy firewall rules"
)
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
            "node",
            Link(
                name="vxlan0",
                type="vxlan",
                mac="0a:59:c0:a8:64:02",
                mtu=1450,
                vxlan=Vxlan(id=1, local=ip("192.168.100.2"), port=8472),
            ),
            None,
            [
                "ip link add vxlan0 address 0a:59:c0:a8:64:02 type vxlan id 1 "
                "local 192.168.100.2 dstport 8472 nolearning",
                "ip link set vxlan0 mtu 1450 up",
            ],
        ),
        (
            "add",
            "node",
            Route(to=network("fd00:2::/64"), via=ip("fd00:2::"), link="vxlan0", onlink=True),
            None,
            ["ip -6 route add fd00:2::/64 via fd00:2:: dev vxlan0 onlink"],
        ),
        (
            "add",
            "node",
            Neighbour(link="vxlan0", ip=ip("10.244.1.0"), mac="0a:59:c0:a8:64:03"),
            None,
            ["ip neigh replace 10.244.1.0 lladdr 0a:59:c0:a8:64:03 dev vxlan0 nud permanent"],
        ),
        (
            "remove",
            "foo",
            Bridged(link="vxlan0", mac="0a:59:c0:a8:64:03", to=ip("192.168.100.3")),
            None,
            ["bridge -n foo fdb del 0a:59:c0:a8:64:03 dev vxlan0 dst 192.168.100.3 self permanent"],
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
            "add",
            "node",
            IpSet(name="KUBE-LOOP-BACK", type="hash:ip,port,ip", family="inet6"),
            None,
            ["ipset create KUBE-LOOP-BACK hash:ip,port,ip family inet6 maxelem 65536"],
        ),
        (
            "add",
            "foo",
            IpSet(name="KUBE-NODE-PORT-TCP", type="bitmap:port", maxelem=0),
            None,
            ["ip netns exec foo ipset create KUBE-NODE-PORT-TCP bitmap:port range 0-65535"],
        ),
        (
            "remove",
            "node",
            IpSet(name="KUBE-NODE-PORT-TCP", type="bitmap:port", maxelem=0),
            None,
            ["ipset destroy KUBE-NODE-PORT-TCP"],
        ),
        (
            "add",
            "node",
            SetEntry(set="S", ip=VIP, protocol="SCTP", port=80, net=network("10.0.0.0/8")),
            None,
            ["ipset add S 172.23.0.1,sctp:80,10.0.0.0/8"],
        ),
        (
            "remove",
            "node",
            SetEntry(set="S", port=30080),
            None,
            ["ipset del S 30080"],
        ),
        (
            "add",
            "node",
            MARK_MASQ,
            None,
            ["iptables -t nat -N KUBE-MARK-MASQ",
             "iptables -t nat -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000"],
        ),
        (
            "set",
            "foo",
            Chain(table="filter", name="KUBE-FORWARD", family="ip6"),
            None,
            ["ip netns exec foo ip6tables -F KUBE-FORWARD"],
        ),
        (
            "remove",
            "node",
            MARK_MASQ,
            None,
            ["iptables -t nat -F KUBE-MARK-MASQ", "iptables -t nat -X KUBE-MARK-MASQ"],
        ),
        (
            "add",
            "node",
            JUMP,
            None,
            ["iptables -I INPUT -m comment --comment 'kube-proxy firewall rules' "
             "-j KUBE-PROXY-FIREWALL"],
        ),
        (
            "set",
            "node",
            JUMP,
            Jump(table="filter", chain="INPUT", to="KUBE-PROXY-FIREWALL", comment="x",
                 in_place=False),
            ["iptables -D INPUT -m comment --comment x -j KUBE-PROXY-FIREWALL",
             "iptables -I INPUT -m comment --comment 'kube-proxy firewall rules' "
             "-j KUBE-PROXY-FIREWALL"],
        ),
        (
            "remove",
            "node",
            JUMP,
            None,
            ["iptables -D INPUT -m comment --comment 'kube-proxy firewall rules' "
             "-j KUBE-PROXY-FIREWALL"],
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
