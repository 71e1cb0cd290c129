"""Faults in routes, policy rules and settings of nodes and Pods."""

from __future__ import annotations

from hairpin.claims.faults_base import Fault, Objects
from hairpin.claims.faults_cast import CLIENT, FAR, GATEWAY, GATEWAY6, N1, N2, OUT, ask, service
from hairpin.claims.faults_made import (
    GONE,
    HOST,
    IPTABLES,
    NODE_PORT,
    POD_BAR,
    POD_FAR,
    TO_FAR,
    TO_FAR6,
    TO_NODE_PORT,
    VIP,
    by_hand,
    node_port,
)

_SIX = "fd00:10:244:2::/64"

REFUSING: tuple[Fault, ...] = (
    by_hand(
        "blackhole-route", ("the node drops what is for the Pod", "节点有黑洞路由"),
        [(N1, f"ip route add blackhole {FAR}/32")], TO_FAR, "blackhole-route",
        undo=[(N1, f"ip route del blackhole {FAR}/32")],
    ),
    by_hand(
        "prohibit-route", ("the node forbids half of the other's Pods", "节点有 prohibit 路由"),
        [(N1, "ip route add prohibit 10.244.2.0/25")], TO_FAR, "blackhole-route",
        undo=[(N1, "ip route del prohibit 10.244.2.0/25")],
    ),
    by_hand(
        "unreachable-back", ("the other node calls the client unreachable", "回程路由不可达"),
        [(N2, f"ip route add unreachable {CLIENT}/32")], TO_FAR, "blackhole-route",
        undo=[(N2, f"ip route del unreachable {CLIENT}/32")],
    ),
    by_hand(
        "blackhole-of-services", ("the Pod drops what is for Services", "Pod 有黑洞路由"),
        [("client", "ip route add blackhole 10.96.0.0/16")], TO_FAR, "blackhole-route",
        undo=[("client", "ip route del blackhole 10.96.0.0/16")],
    ),
    by_hand(
        "blackhole-for-node", ("the node's own packets are dropped", "节点自己的包被路由丢弃"),
        [(N1, "ip route add blackhole 10.244.2.0/25")], ask("node/n1", "svc/far:http"),
        "blackhole-route", undo=[(N1, "ip route del blackhole 10.244.2.0/25")],
    ),
    by_hand(
        "unreachable-6", ("the node calls the other's IPv6 Pods unreachable", "IPv6 路由不可达"),
        [(N1, f"ip -6 route del {_SIX}; ip -6 route add unreachable {_SIX}")], TO_FAR6,
        "blackhole-route",
        undo=[(N1, f"ip -6 route del unreachable {_SIX}"),
              (N1, f"ip -6 route replace {_SIX} via fd00:192:168:100::3")],
    ),
    by_hand(
        "policy-blackhole", ("a policy rule leads the client's packets nowhere", "策略路由到黑洞"),
        [(N1, f"ip rule add from {CLIENT} lookup 100; ip route add blackhole default table 100")],
        POD_FAR, "policy-routing",
        undo=[(N1, f"ip rule del from {CLIENT} lookup 100"), (N1, "ip route flush table 100")],
    ),
    by_hand(
        "policy-prohibit", ("a policy rule forbids the way back", "策略规则禁止回程"),
        [(N2, "ip rule add to 10.244.1.0/24 prohibit")], TO_FAR, "policy-routing",
        undo=[(N2, "ip rule del to 10.244.1.0/24 prohibit")],
    ),
    by_hand(
        "policy-by-mark", ("marked packets take a way of their own, to nobody", "按标记改道"),
        [(N1, f"iptables -t mangle -A PREROUTING -s {CLIENT} -j MARK --set-mark 0x7; "
              "ip rule add fwmark 7 lookup 77; ip route add default via 192.168.100.99 table 77")],
        POD_FAR, "policy-routing",
        undo=[(N1, f"iptables -t mangle -D PREROUTING -s {CLIENT} -j MARK --set-mark 0x7"),
              (N1, "ip rule del fwmark 7 lookup 77"), (N1, "ip route flush table 77")],
    ),
)  # fmt: skip

ELSEWHERE: tuple[Fault, ...] = (
    by_hand(
        "route-via-nobody", ("the other's Pods are sought behind nobody", "路由的下一跳不存在"),
        [(N1, "ip route replace 10.244.2.0/24 via 192.168.100.99")], TO_FAR, "no-route-to-pods",
        undo=[(N1, "ip route replace 10.244.2.0/24 via 192.168.100.3")],
    ),
    by_hand(
        "route-to-own-bridge", ("the other's Pods are sought on the own bridge", "路由指向本机"),
        [(N1, "ip route add 10.244.2.0/25 dev cni0")], TO_FAR, "no-route-to-pods",
        undo=[(N1, "ip route del 10.244.2.0/25 dev cni0")],
    ),
    by_hand(
        "services-on-link", ("the Pod takes Services for neighbours", "Pod 把 Service 当邻居"),
        [("client", "ip route add 10.96.0.0/16 dev eth0")], TO_FAR, "wrong-prefix",
        undo=[("client", "ip route del 10.96.0.0/16 dev eth0")], modes=HOST,
    ),
    by_hand(
        "wide-prefix", ("the Pod takes all Pods for neighbours", "Pod 的掩码太宽"),
        [("client", f"ip addr del {CLIENT}/24 dev eth0; ip addr add {CLIENT}/8 dev eth0; "
                    f"ip route replace default via {GATEWAY}")],
        POD_FAR, "wrong-prefix",
        undo=[("client", f"ip addr del {CLIENT}/8 dev eth0; ip addr add {CLIENT}/24 dev eth0; "
                         f"ip route replace default via {GATEWAY}")],
    ),
    by_hand(
        "answer-by-another-pod", ("the server sends its answer by another Pod", "应答走错"),
        [("bar", f"ip route add {CLIENT}/32 via 10.244.1.10")], POD_BAR, "gateway-wrong",
        undo=[("bar", f"ip route del {CLIENT}/32")],
    ),
    by_hand(
        "no-gateway-6", ("the Pod has no IPv6 gateway", "Pod 没有 IPv6 网关"),
        [("client", "ip -6 route del default")], TO_FAR6, "gateway-missing",
        undo=[("client", f"ip -6 route replace default via {GATEWAY6}")],
    ),
    by_hand(
        "no-route-to-balancer", ("the outside has no route to a load balancer", "外部没有路由"),
        [Objects((service("fault", VIP, selector={"app": "far"}, type="LoadBalancer",
                          loadBalancerIP="192.0.2.60"),)),
         (OUT, "ip route del 192.0.2.60")],
        ask("outside", "192.0.2.60:80"), "no-route", undo=[GONE], mends=False,
        note="that is for whoever runs the network outside",
    ),
)  # fmt: skip

SETTINGS: tuple[Fault, ...] = (
    by_hand(
        "forwarding-off-6", ("the node does not forward IPv6", "节点不转发 IPv6"),
        [(N1, "sysctl -qw net.ipv6.conf.all.forwarding=0")], TO_FAR6, "forwarding-off",
        undo=[(N1, "sysctl -qw net.ipv6.conf.all.forwarding=1")],
    ),
    by_hand(
        "forwarding-off-on-bridge", ("the node does not forward what Pods send", "cni0 不转发"),
        [(N1, "sysctl -qw net.ipv4.conf.cni0.forwarding=0")], POD_FAR, "forwarding-off",
        undo=[(N1, "sysctl -qw net.ipv4.conf.cni0.forwarding=1")],
    ),
    by_hand(
        "forwarding-off-on-uplink", ("the node does not forward what comes in", "eth0 不转发"),
        [(N2, "sysctl -qw net.ipv4.conf.eth0.forwarding=0")], TO_FAR, "forwarding-off",
        undo=[(N2, "sysctl -qw net.ipv4.conf.eth0.forwarding=1")],
    ),
    by_hand(
        "rp-filter-for-all", ("rp_filter is strict, and the way back another", "rp_filter 严格"),
        [(N2, f"ip route add {CLIENT}/32 dev cni0; sysctl -qw net.ipv4.conf.all.rp_filter=1")],
        TO_FAR, "rp-filter", "no-route-to-pods",
        undo=[(N2, "sysctl -qw net.ipv4.conf.all.rp_filter=0"),
              (N2, f"ip route del {CLIENT}/32")],
    ),
    by_hand(
        "localnet-off", ("node ports on localhost, and localhost is not routed", "未开 localnet"),
        [Objects((node_port(),)), (N1, "sysctl -qw net.ipv4.conf.all.route_localnet=0")],
        ask("node/n1", f"127.0.0.1:{NODE_PORT}"), "nodeport-localhost",
        undo=[(N1, "sysctl -qw net.ipv4.conf.all.route_localnet=1"), GONE], modes=IPTABLES,
        mends=False, note="it is the question that is to be another",
    ),
    by_hand(
        "hop-limit-one", ("the client's packets live for one router", "hop limit 为 1"),
        [("client", "sysctl -qw net.ipv6.conf.eth0.hop_limit=1")], TO_FAR6, "ttl-exceeded",
        undo=[("client", "sysctl -qw net.ipv6.conf.eth0.hop_limit=64")],
    ),
    by_hand(
        "ttl-two", ("the client's packets live for two routers", "默认 TTL 为 2"),
        [("client", "sysctl -qw net.ipv4.ip_default_ttl=2")], TO_FAR, "ttl-exceeded",
        undo=[("client", "sysctl -qw net.ipv4.ip_default_ttl=64")],
    ),
    by_hand(
        "no-free-port", ("the client has no port left", "客户端端口用尽"),
        [("client", "sysctl -qw net.ipv4.ip_local_port_range='40000 40000'; "
                    "timeout 60 python3 -c 'import socket,time; s=socket.socket(); "
                    's.bind(("",40000)); s.listen(1); time.sleep(60)\' >/dev/null 2>&1 & sleep 1')],
        TO_FAR, "no-free-port",
        undo=[("client", "sysctl -qw net.ipv4.ip_local_port_range='32768 60999'")],
    ),
    by_hand(
        "mark-blackhole", ("a policy rule drops what is to be masqueraded", "按标记丢弃"),
        [Objects((node_port(),)),
         (N1, "ip rule add fwmark 0x4000/0x4000 lookup 200 pref 60; "
              f"ip route add blackhole {FAR}/32 table 200")],
        TO_NODE_PORT, "policy-routing",
        undo=[(N1, "ip rule del pref 60"), (N1, "ip route flush table 200"), GONE], modes=IPTABLES,
    ),
    by_hand(
        "ping-ignored", ("the Pod does not answer pings", "Pod 不回应 ping"),
        [("far", "sysctl -qw net.ipv4.icmp_echo_ignore_all=1")],
        ask("client", "far", protocol="ICMP"), "ping-ignored",
        undo=[("far", "sysctl -qw net.ipv4.icmp_echo_ignore_all=0")],
    ),
)  # fmt: skip

FAULTS = (*REFUSING, *ELSEWHERE, *SETTINGS)
