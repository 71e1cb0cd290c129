"""What a proxy mode has on a node beside Services: what it leaves, sets, needs, and how it is
watched.  Pure.

These are no claims that packets could show.  Each entry says where it was read: kube-proxy 1.36.2's
source, its documentation, or a lab whose mode was changed to and fro (``tests/lab``).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hairpin.claims.base import Text
from hairpin.claims.topics import Mode


class Left(msgspec.Struct, frozen=True):
    """What is there until somebody removes it, what shows it, and what removes it alone."""

    what: Text
    see: str
    remove: str
    source: str


class Setting(msgspec.Struct, frozen=True):
    """A sysctl that the proxy writes and nobody writes back; ``when``: only then."""

    name: str
    value: str
    source: str
    when: str = ""


class NodeSide(msgspec.Struct, frozen=True, kw_only=True):
    """``needs``: of the machine; ``metrics``: kube-proxy's that not all modes have, by the words
    after ``kubeproxy_``; ``others``: what other programs tell of this mode alone."""

    leaves: tuple[Left, ...]
    sysctls: tuple[Setting, ...]
    needs: tuple[tuple[Text, str], ...]
    metrics: tuple[str, ...]
    others: tuple[str, ...] = ()


METRICS = "pkg/proxy/metrics/metrics.go, RegisterMetrics"
_IPVS, _IPTABLES = "pkg/proxy/ipvs/proxier.go", "pkg/proxy/iptables/proxier.go"
_SYNC = "sync_proxy_rules_"
_WHOLE_OR_PART = (
    "sync_full_proxy_rules_duration_seconds",
    "sync_partial_proxy_rules_duration_seconds",
)
_RESTORE = f"{_SYNC}iptables_restore_failures_total"
_CHAINS = Left(
    Text(
        "KUBE- chains in filter and nat, and the jumps to them",
        "filter 和 nat 表中的 KUBE- 链和跳转",
    ),
    "iptables-save | grep KUBE-",
    "",
    "",
)


def _chains(source: str) -> Left:
    return msgspec.structs.replace(_CHAINS, source=source)


NODE_SIDES: Mapping[Mode, NodeSide] = {
    "ipvs": NodeSide(
        leaves=(
            Left(Text("virtual servers", "虚拟服务器"), "ipvsadm -Ln", "", _IPVS),
            Left(
                Text(
                    "the link kube-ipvs0 with all Services' addresses: as long as it is there the "
                    "node takes their packets for its own",
                    "kube-ipvs0 及其上所有 Service 地址: 只要存在, 节点就把这些报文当作自己的",
                ),
                "ip addr show kube-ipvs0",
                "ip link del kube-ipvs0",
                _IPVS,
            ),
            Left(
                Text("ipsets KUBE-…, in use by the chains", "ipset KUBE-…, 被链使用"),
                "ipset list -n | grep ^KUBE-",
                "",
                "pkg/proxy/ipvs/ipset.go",
            ),
            _chains(_IPVS),
        ),
        sysctls=(
            Setting("net.ipv4.vs.conntrack", "1", _IPVS),
            Setting("net.ipv4.vs.expire_nodest_conn", "1", _IPVS),
            Setting("net.ipv4.vs.expire_quiescent_template", "1", _IPVS),
            Setting("net.ipv4.vs.conn_reuse_mode", "0", _IPVS, "Linux 4.1 to 5.8"),
            Setting("net.ipv4.ip_forward", "1", _IPVS),
            Setting("net.ipv4.conf.all.arp_ignore", "1", _IPVS, "ipvs.strictARP"),
            Setting("net.ipv4.conf.all.arp_announce", "2", _IPVS, "ipvs.strictARP"),
        ),
        needs=(
            (
                Text(
                    "the modules ip_vs and that of the scheduler (ip_vs_rr), dummy, ip_set; for "
                    "kube-proxy also the programs ipset, 6.0 or newer, and iptables",
                    "模块 ip_vs, 调度器 (ip_vs_rr), dummy, ip_set; kube-proxy 还需要 ipset 6.0 "
                    "或更新和 iptables",
                ),
                "pkg/proxy/ipvs/proxier.go, CanUseIPVSProxier",
            ),
        ),
        metrics=(_RESTORE,),
        others=("node_ipvs_… (node_exporter, collector ipvs)",),
    ),
    "iptables": NodeSide(
        leaves=(_chains(_IPTABLES),),
        sysctls=(
            Setting(
                "net.ipv4.conf.all.route_localnet",
                "1",
                _IPTABLES,
                "iptables.localhostNodePorts, unless nodePortAddresses leaves out 127.0.0.1",
            ),
        ),
        needs=(
            (
                Text(
                    "xt_statistic, xt_recent, xt_nfacct and the like, in the iptables variant that "
                    "is used; for kube-proxy also the programs iptables-restore and conntrack's "
                    "netlink",
                    "所用 iptables 变体的 xt_statistic, xt_recent, xt_nfacct 等; kube-proxy 还需要 "
                    "iptables-restore 和 conntrack netlink",
                ),
                _IPTABLES,
            ),
        ),
        metrics=(
            *_WHOLE_OR_PART,
            _RESTORE,
            f"{_SYNC}iptables_partial_restore_failures_total",
            f"{_SYNC}iptables_total",
            f"{_SYNC}iptables_last",
            "iptables_ct_state_invalid_dropped_packets_total",
            "iptables_localhost_nodeports_accepted_packets_total",
        ),
    ),
    "nftables": NodeSide(
        leaves=(
            Left(
                Text(
                    "the tables ip kube-proxy and ip6 kube-proxy",
                    "表 ip kube-proxy 和 ip6 kube-proxy",
                ),
                "nft list table ip kube-proxy; nft list table ip6 kube-proxy",
                "nft delete table ip kube-proxy; nft delete table ip6 kube-proxy",
                "pkg/proxy/nftables/proxier.go, kubeProxyTable",
            ),
        ),
        sysctls=(),
        needs=(
            (
                Text(
                    "Linux 5.13 or newer; for kube-proxy also the program nft, 1.0.1 or newer",
                    "Linux 5.13 或更新; kube-proxy 还需要程序 nft 1.0.1 或更新",
                ),
                "pkg/proxy/nftables/supported.go",
            ),
        ),
        metrics=(
            *_WHOLE_OR_PART,
            f"{_SYNC}nftables_sync_failures_total",
            f"{_SYNC}nftables_cleanup_failures_total",
        ),
    ),
}

CLEANED = "cmd/kube-proxy/app/server_linux.go, platformCleanup"
_AT_START = Text(
    "kube-proxy removes it when it starts in the new mode, before it serves anything: Services are "
    "away until its first sync, so drain the node. It removes all virtual servers, others' too",
    "kube-proxy 以新模式启动时, 在提供服务之前移除: 首次同步前 Service 不可用, 所以先排空节点. "
    "它移除所有虚拟服务器, 包括别人的",
)
_AT_START_NFT = Text(
    "kube-proxy removes it when it starts in the new mode, before it serves anything: Services are "
    "away until its first sync, so drain the node",
    "kube-proxy 以新模式启动时, 在提供服务之前移除: 首次同步前 Service 不可用, 所以先排空节点",
)
_BY_HAND = Text(
    "kube-proxy does not remove it when it starts, as both modes use iptables: run kube-proxy "
    "--cleanup between the two, on a drained node",
    "两种模式都用 iptables, kube-proxy 启动时不会移除: 先排空节点, 在两者之间运行 "
    "kube-proxy --cleanup",
)
HAIRPIN = Text(
    "hairpin removes it after its first sync in the new mode, so that there is no moment without "
    "either; hairpin proxy cleanup removes what hairpin made in any mode",
    "hairpin 在新模式首次同步之后移除, 中间没有空档; hairpin proxy cleanup 移除 hairpin 在任何"
    "模式中创建的对象",
)

_WITH_IPVS = Text(
    "those that IPVS carries are reset when its virtual servers go: drain the node",
    "IPVS 承载的连接在虚拟服务器删除时被重置: 先排空节点",
)
_GO_ON = Text(
    "those that are there go on: connection tracking translates them to their end",
    "已有的连接继续: 连接跟踪会一直转换到连接结束",
)


def open_connections(before: Mode) -> Text:
    """What becomes of them when the mode is changed (seen in labs, ``tests/lab/test_modes.py``)."""
    return _WITH_IPVS if before == "ipvs" else _GO_ON


def cleaned(before: Mode, after: Mode) -> Text:
    """When kube-proxy removes what its old mode left (see ``CLEANED``)."""
    if "nftables" not in (before, after):
        return _BY_HAND
    return _AT_START if before == "ipvs" else _AT_START_NFT
