"""Faults on links: hardware addresses, bridges' ports, queues, links and addresses."""

from __future__ import annotations

from hairpin.claims.faults_base import Fault
from hairpin.claims.faults_cast import FAR, FAR6, GATEWAY, GATEWAY6, N1, N2, VIP_FAR, ask
from hairpin.claims.faults_made import (
    IPVS,
    POD_BAR,
    POD_FAR,
    TO_FAR,
    TO_FAR6,
    by_hand,
)

_BIG = ask("client", "svc/far:http", size=1300)
_BAR_MAC = "m=$(ip -n bar -br link show dev eth0 | awk '{print $3}')"
_FAR_MAC = "m=$(ip -n far -br link show dev eth0 | awk '{print $3}')"
_FAR_BACK = (
    "ip route replace default via 10.244.2.1; ip -6 addr replace fd00:10:244:2::2/64 dev eth0; "
    "ip -6 route replace default via fd00:10:244:2::1"
)

NEIGHBOURS: tuple[Fault, ...] = (
    by_hand(
        "wrong-neighbour", ("the Pod knows a wrong hardware address of its gateway", "网关 MAC 错"),
        [("client", f"ip neigh replace {GATEWAY} lladdr 02:00:00:00:00:99 dev eth0 nud permanent")],
        POD_FAR, "wrong-neighbour", undo=[("client", f"ip neigh del {GATEWAY} dev eth0")],
    ),
    by_hand(
        "wrong-neighbour-of-node", ("the node knows a wrong one of the other", "节点 MAC 错"),
        [(N1, "ip neigh replace 192.168.100.3 lladdr 02:00:00:00:00:98 dev eth0 nud permanent")],
        TO_FAR, "wrong-neighbour", undo=[(N1, "ip neigh del 192.168.100.3 dev eth0")],
    ),
    by_hand(
        "wrong-neighbour-back", ("the server knows a wrong one of its gateway", "网关 MAC 错"),
        [("far", "ip neigh replace 10.244.2.1 lladdr 02:00:00:00:00:97 dev eth0 nud permanent")],
        TO_FAR, "wrong-neighbour", undo=[("far", "ip neigh del 10.244.2.1 dev eth0")],
    ),
    by_hand(
        "wrong-neighbour-6", ("the node knows a wrong one of an IPv6 Pod", "IPv6 邻居写错"),
        [(N2, f"ip -6 neigh replace {FAR6} lladdr 02:00:00:00:00:96 dev cni0 nud permanent")],
        TO_FAR6, "wrong-neighbour", undo=[(N2, f"ip -6 neigh del {FAR6} dev cni0")],
    ),
    by_hand(
        "arp-off", ("the server asks for no hardware addresses", "服务端关闭了 ARP"),
        [("far", "ip link set eth0 arp off; ip neigh flush all")], TO_FAR, "arp-off",
        undo=[("far", "ip link set eth0 arp on")],
    ),
    by_hand(
        "duplicate-mac", ("two Pods have the same hardware address", "两个 Pod 的 MAC 相同"),
        [("bar", "ip link set eth0 address 0a:58:0a:f4:01:14"),
         (N1, "ip neigh flush dev cni0"), ("client", "ip neigh flush dev eth0")],
        POD_BAR, "duplicate-mac",
        undo=[("bar", "ip link set eth0 address 0a:58:0a:f4:01:0b"),
              (N1, "ip neigh flush dev cni0"), ("client", "ip neigh flush dev eth0")],
    ),
    by_hand(
        "arp-ignored", ("the node answers no questions for hardware addresses", "节点不回应 ARP"),
        [(N1, "sysctl -qw net.ipv4.conf.cni0.arp_ignore=8"), ("client", "ip neigh flush all")],
        TO_FAR, "arp-ignored", undo=[(N1, "sysctl -qw net.ipv4.conf.cni0.arp_ignore=0")],
    ),
)  # fmt: skip

BRIDGES: tuple[Fault, ...] = (
    by_hand(
        "fdb-wrong", ("the bridge was told a wrong port of a Pod", "网桥转发表写错"),
        [(N1, f"{_BAR_MAC}; bridge fdb del $m dev veth_bar master 2>/dev/null; "
              "bridge link set dev veth_bar learning off; "
              "bridge fdb replace $m dev veth_foo master static")],
        POD_BAR, "fdb-wrong",
        undo=[(N1, f"{_BAR_MAC}; bridge fdb del $m dev veth_foo master"),
              (N1, "bridge link set dev veth_bar learning on")],
    ),
    by_hand(
        "ports-isolated", ("two ports of the bridge are isolated", "网桥端口隔离"),
        [(N1, "bridge link set dev veth_client isolated on; "
              "bridge link set dev veth_bar isolated on")],
        POD_BAR, "port-isolated",
        undo=[(N1, "bridge link set dev veth_client isolated off; "
                   "bridge link set dev veth_bar isolated off")],
    ),
    by_hand(
        "port-disabled", ("the server's port of the bridge is disabled", "网桥端口被禁用"),
        [(N2, "bridge link set dev veth_far state 0")], TO_FAR, "port-blocked",
        undo=[(N2, "bridge link set dev veth_far state 3")],
    ),
    by_hand(
        "port-learns-nothing", ("the port neither learns nor is flooded", "端口不学习也不泛洪"),
        [(N2, "bridge link set dev veth_far learning off flood off; "
              f"{_FAR_MAC}; bridge fdb del $m dev veth_far master 2>/dev/null; true")],
        TO_FAR, "port-no-flood",
        undo=[(N2, "bridge link set dev veth_far learning on flood on")],
    ),
    by_hand(
        "vlan-filtered",
        ("the bridge looks at VLANs, and the port is in none", "网桥过滤 VLAN"),
        [(N2, "ip link set cni0 type bridge vlan_filtering 1; bridge vlan del dev veth_far vid 1")],
        TO_FAR,
        "vlan-filtered",
        undo=[
            (N2, "bridge vlan add dev veth_far vid 1 pvid untagged"),
            (N2, "ip link set cni0 type bridge vlan_filtering 0"),
        ],
        modes=IPVS,
        note="not every kernel has VLANs for bridges",
    ),
    by_hand(
        "port-off-bridge", ("the server's link is no port of the bridge", "端口不在网桥上"),
        [(N2, "ip link set veth_far nomaster")], TO_FAR, "not-on-bridge",
        undo=[(N2, "ip link set veth_far master cni0")],
    ),
)  # fmt: skip

LINKS: tuple[Fault, ...] = (
    by_hand(
        "link-renamed", ("the Pod's link was renamed, and its routes went", "Pod 网卡被改名"),
        [("client", "ip link set eth0 down; ip link set eth0 name eth9; ip link set eth9 up")],
        TO_FAR, "gateway-missing",
        undo=[("client", "ip link set eth9 down; ip link set eth9 name eth0; ip link set eth0 up; "
                         f"ip route replace default via {GATEWAY}; "
                         f"ip -6 addr replace fd00:10:244:1::3/64 dev eth0; "
                         f"ip -6 route replace default via {GATEWAY6}")],
    ),
    by_hand(
        "server-eth0-down", ("the server's own link is down", "服务端网卡关闭"),
        [("far", "ip link set eth0 down")], TO_FAR, "link-down",
        undo=[("far", f"ip link set eth0 up; {_FAR_BACK}")],
    ),
    by_hand(
        "server-address-gone", ("the server lost its address", "服务端地址丢失"),
        [("far", f"ip addr del {FAR}/24 dev eth0")], TO_FAR, "address-missing",
        undo=[("far", f"ip addr replace {FAR}/24 dev eth0; "
                      "ip route replace default via 10.244.2.1")],
    ),
    by_hand(
        "server-address-typo", ("the server has another address", "服务端地址写错"),
        [("far", f"ip addr del {FAR}/24 dev eth0; ip addr add 10.244.2.11/24 dev eth0; "
                 "ip route replace default via 10.244.2.1")],
        TO_FAR, "address-missing",
        undo=[("far", "ip addr del 10.244.2.11/24 dev eth0"),
              ("far", f"ip addr replace {FAR}/24 dev eth0; "
                      "ip route replace default via 10.244.2.1")],
    ),
    by_hand(
        "vip-on-the-pod", ("the client has the Service's address itself", "客户端占用了 VIP"),
        [("client", f"ip addr add {VIP_FAR}/32 dev lo")], TO_FAR, "address-taken",
        undo=[("client", f"ip addr del {VIP_FAR}/32 dev lo")],
    ),
    by_hand(
        "server-wide-prefix", ("the server takes all Pods for neighbours", "服务端掩码太宽"),
        [("far", f"ip addr del {FAR}/24 dev eth0; ip addr add {FAR}/16 dev eth0; "
                 "ip route replace default via 10.244.2.1")],
        TO_FAR, "wrong-prefix",
        undo=[("far", f"ip addr del {FAR}/16 dev eth0; ip addr add {FAR}/24 dev eth0; "
                      "ip route replace default via 10.244.2.1"),
              ("far", "ip route del 10.244.1.0/24")],
    ),
    by_hand(
        "ipv6-off-in-pod", ("the server's link has no IPv6", "服务端关闭了 IPv6"),
        [("far", "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1")], TO_FAR6, "ipv6-off",
        undo=[("far", f"sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0; {_FAR_BACK}")],
    ),
    by_hand(
        "mtu-icmp-dropped", ("the node's MTU is small, and it may not say so", "MTU 小且丢弃 ICMP"),
        [(N1, "ip link set eth0 mtu 1280; "
              "iptables -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP")],
        _BIG, "output-rule", "mtu-too-small",
        undo=[(N1, "ip link set eth0 mtu 1500"),
              (N1, "iptables -D OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP")],
    ),
    by_hand(
        "mtu-icmp-dropped-by-pod", ("the Pod does not hear of the small MTU", "Pod 丢弃 ICMP"),
        [(N2, "ip link set cni0 mtu 1280"), ("client", "iptables -A INPUT -p icmp -j DROP")],
        _BIG, "input-rule", "mtu-too-small",
        undo=[(N2, "ip link set cni0 mtu 1500"), ("client", "iptables -D INPUT -p icmp -j DROP")],
    ),
    by_hand(
        "queue-too-slow", ("the server's queue lets next to nothing through", "队列几乎不放行"),
        [("far", "tc qdisc add dev eth0 root tbf rate 8bit burst 20 limit 20")], TO_FAR, "tc-drop",
        undo=[("far", "tc qdisc del dev eth0 root")],
    ),
    by_hand(
        "netem-loses-all", ("the node's queue loses all", "netem 丢弃全部"),
        [(N1, "tc qdisc add dev eth0 root netem loss 100%")], TO_FAR, "tc-drop",
        undo=[(N1, "tc qdisc del dev eth0 root")], modes=IPVS,
    ),
    by_hand(
        "tc-filter-at-ingress", ("a filter of tc drops what the client sends", "tc 入口丢弃"),
        [(N1, "tc qdisc add dev veth_client ingress; tc filter add dev veth_client parent ffff: "
              "protocol ip u32 match ip dport 80 0xffff action drop")],
        TO_FAR, "tc-drop", undo=[(N1, "tc qdisc del dev veth_client ingress")], modes=IPVS,
    ),
    by_hand(
        "tc-filter-at-egress", ("a filter of tc drops what goes to the server", "tc 出口丢弃"),
        [(N2, "tc qdisc add dev veth_far clsact; tc filter add dev veth_far egress protocol ip "
              "prio 1 matchall action drop")],
        TO_FAR, "tc-drop", undo=[(N2, "tc qdisc del dev veth_far clsact")], modes=IPVS,
    ),
)  # fmt: skip

FAULTS = (*NEIGHBOURS, *BRIDGES, *LINKS)
