"""What a proxy mode has on a node beside Services: what it leaves, sets, needs, and how it is
watched.  Pure.

From kube-proxy 1.36 (pkg/proxy/*/proxier.go, cmd/kube-proxy/app) and docs.kubernetes.io, "Virtual
IPs and Service Proxies"; these are no claims that packets could show.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hairpin.claims.base import Text
from hairpin.claims.topics import Mode


class NodeSide(msgspec.Struct, frozen=True, kw_only=True):
    """``leaves``: what is left when its proxy ends without cleaning up, and what removes it.

    ``see``: the commands that show what it serves; ``metrics``: those that only it has;
    ``settings``: its own section of KubeProxyConfiguration, and what is only in there.
    """

    leaves: tuple[tuple[Text, str], ...]
    sysctls: Mapping[str, str]
    needs: Text
    see: tuple[str, ...]
    metrics: tuple[str, ...]
    settings: Text


_PREFIX = "kubeproxy_sync_proxy_rules_"
_CHAINS = Text("KUBE- chains and jumps in filter and nat", "filter 和 nat 表中的 KUBE- 链和跳转")
_CLEAN_UP = "hairpin proxy cleanup, or kube-proxy --cleanup"

NODE_SIDES: Mapping[Mode, NodeSide] = {
    "ipvs": NodeSide(
        leaves=(
            (Text("virtual servers", "虚拟服务器"), f"{_CLEAN_UP} (ipvsadm -C takes others' too)"),
            (
                Text(
                    "the link kube-ipvs0 with all Services' addresses: as long as it is there the "
                    "node takes their packets for its own",
                    "kube-ipvs0 及其上所有 Service 地址: 只要存在, 节点就把这些报文当作自己的",
                ),
                "ip link del kube-ipvs0",
            ),
            (Text("ipsets KUBE-…", "ipset KUBE-…"), f"{_CLEAN_UP} (after the chains)"),
            (_CHAINS, _CLEAN_UP),
        ),
        sysctls={
            "net.ipv4.ip_forward": "1",
            "net.ipv4.vs.conntrack": "1",
            "net.ipv4.vs.expire_nodest_conn": "1",
            "net.ipv4.vs.expire_quiescent_template": "1",
            "net.ipv4.conf.all.arp_ignore": "1 (strictARP)",
            "net.ipv4.conf.all.arp_announce": "2 (strictARP)",
        },
        needs=Text("modules ip_vs, ip_vs_rr, dummy, ipset", "模块 ip_vs, ip_vs_rr, dummy, ipset"),
        see=("ipvsadm -Ln", "ipset list", "ip addr show kube-ipvs0"),
        metrics=("node_exporter's node_ipvs_…",),
        settings=Text(
            "ipvs: scheduler, strictARP, excludeCIDRs, tcpTimeout, tcpFinTimeout and udpTimeout "
            "mean nothing elsewhere",
            "ipvs: scheduler, strictARP, excludeCIDRs 和各超时在其他模式中没有意义",
        ),
    ),
    "iptables": NodeSide(
        leaves=((_CHAINS, _CLEAN_UP),),
        sysctls={
            "net.ipv4.conf.all.route_localnet": "1, unless iptables.localhostNodePorts is false"
        },
        needs=Text("iptables 1.8 or newer", "iptables 1.8 或更新"),
        see=("iptables-save -t nat", "ip6tables-save -t nat"),
        metrics=(
            f"{_PREFIX}iptables_total",
            f"{_PREFIX}iptables_restore_failures_total",
            f"{_PREFIX}iptables_partial_restore_failures_total",
            "kubeproxy_iptables_ct_state_invalid_dropped_packets_total",
            "kubeproxy_iptables_localhost_nodeports_accepted_packets_total",
        ),
        settings=Text(
            "iptables: masqueradeAll and masqueradeBit are in a section of each mode; "
            "localhostNodePorts means nothing elsewhere",
            "iptables: masqueradeAll 等各模式单独设置; localhostNodePorts 仅此模式有",
        ),
    ),
    "nftables": NodeSide(
        leaves=(
            (
                Text(
                    "tables ip kube-proxy and ip6 kube-proxy", "表 ip kube-proxy 和 ip6 kube-proxy"
                ),
                "nft delete table ip kube-proxy; nft delete table ip6 kube-proxy",
            ),
        ),
        sysctls={},
        needs=Text(
            "Linux 5.13 or newer; kube-proxy also the program nft, 1.0.1 or newer",
            "Linux 5.13 或更新; kube-proxy 还需要 nft 1.0.1 或更新",
        ),
        see=("nft list table ip kube-proxy", "nft list table ip6 kube-proxy"),
        metrics=(
            f"{_PREFIX}nftables_sync_failures_total",
            f"{_PREFIX}nftables_cleanup_failures_total",
        ),
        settings=Text(
            "nftables: masqueradeAll and masqueradeBit are in a section of each mode; "
            "nodePortAddresses unset means primary",
            "nftables: masqueradeAll 等各模式单独设置; 未设置 nodePortAddresses 即 primary",
        ),
    ),
}
