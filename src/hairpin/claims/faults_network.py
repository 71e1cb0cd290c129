"""Faults of links, routes, rules and tables, made by hand on the nodes."""

from __future__ import annotations

from hairpin.claims.base import Text
from hairpin.claims.faults_base import Connect, Fault, Fill, Manifest, Objects, Shell
from hairpin.claims.faults_cast import (
    BAR,
    FAR,
    GATEWAY,
    N1,
    N2,
    OUT,
    VIP_BAR,
    VIP_FAR,
    ask,
    pod,
    service,
)

_VIP = "10.96.0.121"
_STALE = ask("client", "svc/fault:udp", source_port=40001, protocol="UDP")
_PINNED = ask("client", "svc/fault:http")


def _labelled(name: str, address: str) -> Manifest:
    """A Pod with the label that the fault's own Service selects."""
    made = pod(name, "n1", address, terminationGracePeriodSeconds=0)
    made["metadata"]["labels"] = {"role": "fault"}
    return made


FAULTS: tuple[Fault, ...] = (
    Fault(
        id="forward-policy-drop",
        says=Text("FORWARD drops what is not asked for", "FORWARD 链默认丢弃"),
        acts=(
            Shell(
                N2,
                "iptables -P FORWARD DROP; iptables -F FORWARD",
            ),
        ),
        ask=ask("client", "svc/far:http"),
        causes=("forward-drop",),
        undo=(Shell(N2, "iptables -P FORWARD ACCEPT"),),
    ),
    Fault(
        id="input-rule",
        says=Text("an INPUT rule drops the Service's packets", "INPUT 链有规则丢弃了包"),
        acts=(Shell(N1, f"iptables -I INPUT -p tcp -d {VIP_BAR} --dport 80 -j DROP"),),
        ask=ask("client", "svc/bar:http"),
        causes=("input-rule",),
        undo=(
            Shell(
                N1,
                f"iptables -D INPUT -p tcp -d {VIP_BAR} --dport 80 -j DROP 2>/dev/null || true",
            ),
        ),
        modes=("ipvs",),
    ),
    Fault(
        id="forward-rule",
        says=Text("a rule in FORWARD rejects one Pod", "FORWARD 链有规则拒绝了一个 Pod"),
        acts=(Shell(N2, f"iptables -I FORWARD -d {FAR} -p tcp -j REJECT"),),
        ask=ask("client", "svc/far:http"),
        causes=("forward-rule",),
        undo=(Shell(N2, f"iptables -D FORWARD -d {FAR} -p tcp -j REJECT 2>/dev/null || true"),),
    ),
    Fault(
        id="output-rule",
        says=Text("a rule in OUTPUT drops what IPVS sends", "OUTPUT 链有规则丢弃了包"),
        acts=(Shell(N1, f"iptables -I OUTPUT -d {BAR} -p tcp -j DROP"),),
        ask=ask("client", "svc/bar:http"),
        causes=("output-rule",),
        undo=(Shell(N1, f"iptables -D OUTPUT -d {BAR} -p tcp -j DROP 2>/dev/null || true"),),
        modes=("ipvs",),
    ),
    Fault(
        id="both-iptables",
        says=Text("the other variant of iptables drops it", "另一种 iptables 丢弃了包"),
        acts=(Shell(N2, f"iptables-legacy -I FORWARD -d {FAR} -p tcp -j DROP"),),
        ask=ask("client", "svc/far:http"),
        causes=("both-iptables",),
        undo=(
            Shell(
                N2,
                f"iptables-legacy -D FORWARD -d {FAR} -p tcp -j DROP 2>/dev/null || true",
            ),
        ),
        modes=("iptables", "nftables"),
        note="the embedded kernel has one variant only",
    ),
    Fault(
        id="no-route-to-node",
        says=Text("no route to the other node's Pods", "没有去另一个节点 Pod 的路由"),
        acts=(Shell(N1, "ip route del 10.244.2.0/24"),),
        ask=ask("client", "svc/far:http"),
        causes=("no-route-to-pods",),
        undo=(Shell(N1, "ip route replace 10.244.2.0/24 via 192.168.100.3"),),
    ),
    Fault(
        id="no-route-back",
        says=Text("the other node has no route back", "对面节点没有回程路由"),
        acts=(Shell(N2, "ip route del 10.244.1.0/24; ip route del default"),),
        ask=ask("client", "svc/far:http"),
        causes=("no-route-to-pods",),
        undo=(
            Shell(
                N2,
                "ip route replace 10.244.1.0/24 via 192.168.100.2; "
                "ip route replace default via 192.168.100.1",
            ),
        ),
    ),
    Fault(
        id="wrong-gateway",
        says=Text("the Pod's gateway is nobody's address", "Pod 的网关地址不存在"),
        acts=(Shell("client", "ip route replace default via 10.244.1.77"),),
        ask=ask("client", "svc/bar:http"),
        causes=("gateway-wrong",),
        undo=(Shell("client", f"ip route replace default via {GATEWAY}"),),
    ),
    Fault(
        id="server-wrong-gateway",
        says=Text("the server's gateway is another Pod", "服务端的网关是另一个 Pod"),
        acts=(Shell("far", "ip route replace default via 10.244.2.77"),),
        ask=ask("client", "svc/far:http"),
        causes=("gateway-wrong",),
        undo=(Shell("far", "ip route replace default via 10.244.2.1"),),
    ),
    Fault(
        id="server-no-gateway",
        says=Text("the server has no default route", "服务端没有默认路由"),
        acts=(Shell("far", "ip route del default"),),
        ask=ask("client", "svc/far:http"),
        causes=("gateway-missing",),
        undo=(Shell("far", "ip route replace default via 10.244.2.1"),),
    ),
    Fault(
        id="rp-filter-strict",
        says=Text("strict rp_filter and a way back by another link", "严格的 rp_filter"),
        acts=(
            Shell(
                N1,
                "sysctl -qw net.ipv4.conf.eth0.rp_filter=1; "
                "ip route add 198.51.100.0/24 dev cni0",
            ),
            Shell(OUT, "ip address add 198.51.100.7/32 dev lan0; "
                       f"ip route replace {BAR} via 192.168.100.2 src 198.51.100.7"),
        ),
        ask=ask("outside", f"{BAR}:8080"),
        causes=("rp-filter",),
        undo=(
            Shell(
                N1,
                "sysctl -qw net.ipv4.conf.eth0.rp_filter=0; ip route del 198.51.100.0/24",
            ),
            Shell(OUT, f"ip route del {BAR}; ip address del 198.51.100.7/32 dev lan0"),
        ),
        mends=False,
        note="the answer still goes by the wrong link: two things are broken, and a route is one",
    ),
    Fault(
        id="mtu-too-small",
        says=Text("one link on the way carries small packets only", "路上有一条链路 MTU 太小"),
        # Below 1280 the bridge it is a port of would lose its IPv6 addresses (RFC 8200).
        acts=(Shell(OUT, "ip link set up_n2 mtu 1280"),),
        ask=ask("client", "svc/far:http", size=1300),
        causes=("mtu-too-small",),
        undo=(Shell(OUT, "ip link set up_n2 mtu 1500"),),
    ),
    Fault(
        id="link-down",
        says=Text("the node's end of the Pod's link is down", "Pod 的链路断了"),
        acts=(Shell(N1, "ip link set veth_client down"),),
        ask=ask("client", "svc/bar:http"),
        causes=("link-down",),
        undo=(Shell(N1, "ip link set veth_client up"),),
    ),
    Fault(
        id="server-link-down",
        says=Text("the node's end of the server's link is down", "服务端的链路断了"),
        acts=(Shell(N1, "ip link set veth_bar down"),),
        ask=ask("client", "svc/bar:http"),
        causes=("link-down",),
        undo=(Shell(N1, "ip link set veth_bar up"),),
    ),
    Fault(
        id="stale-udp-conntrack",
        says=Text("the node remembers a UDP flow to a Pod that is gone", "UDP 的 conntrack 已过时"),
        acts=(
            Objects(
                (service("fault", _VIP, selector={"role": "fault"}),
                 _labelled("fault", "10.244.1.31")), settle=3.0,
            ),
            Connect(_STALE),
            Shell(N1, "sysctl -qw net.ipv4.vs.expire_nodest_conn=0; conntrack -L -p udp"),
            Shell(N1, f"ipvsadm -a -u {_VIP}:80 -r {BAR}:8080 -m; "
                      f"ipvsadm -d -u {_VIP}:80 -r 10.244.1.31:8080"),
        ),
        ask=_STALE,
        causes=("stale-connection",),
        undo=(
            Objects(delete=("Service default/fault", "Pod default/fault")),
            Shell(N1, "sysctl -qw net.ipv4.vs.expire_nodest_conn=1"),
        ),
        modes=("ipvs",),
    ),
    Fault(
        id="duplicate-ip",
        says=Text("two Pods have one address", "两个 Pod 用同一个地址"),
        acts=(
            Shell("client", f"ip address add {BAR}/24 dev eth0"),
            # Who answers ARP last wins; here that is the wrong one, surely.
            Shell(
                N1,
                f"ip -n foo neigh replace {BAR} dev eth0 nud reachable "
                "lladdr $(ip -n client -br link show dev eth0 | awk '{print $3}')",
            ),
        ),
        ask=ask("foo", f"{BAR}:8080"),
        causes=("duplicate-ip",),
        undo=(
            Shell("client", f"ip address del {BAR}/24 dev eth0 2>/dev/null || true"),
            Shell("foo", f"ip neigh flush to {BAR}"),
        ),
    ),
    Fault(
        id="conntrack-full",
        says=Text("the connection table is full", "conntrack 表满了"),
        acts=(Fill(held=8),),
        ask=ask("client", "svc/far:http"),
        causes=("conntrack-full",),
        undo=(Fill(held=0),),
        modes=("ipvs",),
    ),
    Fault(
        id="affinity-to-a-dead-endpoint",
        says=Text("session affinity pins the client to a Pod that is gone", "会话亲和绑到死端点"),
        acts=(
            Objects(
                (service("fault", _VIP, selector={"role": "fault"}, sessionAffinity="ClientIP"),
                 _labelled("fault", "10.244.1.31")), settle=3.0,
            ),
            Connect(_PINNED),
            Shell(N1, "ip -n fault link set eth0 down; ip -n fault address flush dev eth0"),
        ),
        ask=_PINNED,
        causes=("affinity-dead",),
        undo=(Objects(delete=("Service default/fault", "Pod default/fault")),),
        mends=False,
        note="there is no other endpoint to go to",
        modes=("ipvs",),
    ),
    Fault(
        id="node-no-route-to-vip",
        says=Text("the node has no address for the Service", "节点上没有 VIP"),
        acts=(
            Shell(N1, f"ip address del {VIP_FAR}/32 dev kube-ipvs0; ip route del default"),
        ),
        ask=ask("node/n1", "svc/far:http"),
        causes=("vip-not-local",),
        undo=(
            Shell(
                N1,
                f"ip address add {VIP_FAR}/32 dev kube-ipvs0 2>/dev/null; "
                "ip route replace default via 192.168.100.1",
            ),
        ),
        modes=("ipvs",),
    ),
)  # fmt: skip
