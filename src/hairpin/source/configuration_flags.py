"""kube-proxy's flags: which field of the configuration each of them is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_FALSE = frozenset(("0", "f", "F", "false", "FALSE", "False"))


class Flag(msgspec.Struct, frozen=True):
    """``field`` is the path in the file; without ``metavar`` the flag is true or false."""

    field: str
    help: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()


def read_flag(flag: Flag, text: str) -> Any:
    """The value of a flag as it would stand in the file.  Raises ValueError."""
    return _READ.get(flag.metavar or "", str)(text)


def _boolean(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise ValueError(f'"{text}" is neither true nor false')
    return text in _TRUE


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'"{text}" is no whole number') from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f'"{text}" is no number') from None


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _gates(text: str) -> dict[str, bool]:
    pairs = [part.partition("=") for part in _list(text)]
    return {name.strip(): _boolean(value.strip()) for name, _, value in pairs}


_READ: Mapping[str, Callable[[str], Any]] = {
    "": _boolean,
    "N": _integer,
    "NUMBER": _number,
    "LIST": _list,
    "NAME=BOOL,…": _gates,
}

_MODES = ("iptables", "ipvs", "nftables")
_LOCAL_MODES = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")

FLAGS: Mapping[str, Flag] = {
    "hostname-override": Flag("hostnameOverride", "the Node's name, if not the hostname", "NAME"),
    "proxy-mode": Flag("mode", "the mechanism that carries Services", "MODE", _MODES),
    "bind-address": Flag("bindAddress", "the node's own address", "IP"),
    "bind-address-hard-fail": Flag("bindAddressHardFail", "a port that is taken is fatal"),
    "healthz-bind-address": Flag("healthzBindAddress", "where health is asked for", "IP:PORT"),
    "metrics-bind-address": Flag("metricsBindAddress", "where metrics are asked for", "IP:PORT"),
    "profiling": Flag("enableProfiling", "serve profiles"),
    "show-hidden-metrics-for-version": Flag(
        "showHiddenMetricsForVersion", "serve metrics that this version has hidden", "VERSION"
    ),
    "feature-gates": Flag("featureGates", "features that are switched", "NAME=BOOL,…"),
    "kubeconfig": Flag("clientConnection.kubeconfig", "how to reach the API server", "FILE"),
    "kube-api-content-type": Flag(
        "clientConnection.contentType", "how to speak to the API server", "TYPE"
    ),
    "kube-api-burst": Flag("clientConnection.burst", "requests at once", "N"),
    "kube-api-qps": Flag("clientConnection.qps", "requests a second", "NUMBER"),
    "config-sync-period": Flag("configSyncPeriod", "how often all is read anew", "DURATION"),
    "cluster-cidr": Flag("clusterCIDR", "the Pods' network, or one a family", "CIDR[,CIDR]"),
    "detect-local-mode": Flag(
        "detectLocalMode", "how traffic of this node's Pods is known", "MODE", _LOCAL_MODES
    ),
    "pod-bridge-interface": Flag("detectLocal.bridgeInterface", "the Pods' bridge", "LINK"),
    "pod-interface-name-prefix": Flag(
        "detectLocal.interfaceNamePrefix", "how the names of the Pods' links begin", "PREFIX"
    ),
    "nodeport-addresses": Flag(
        "nodePortAddresses", "networks in which NodePorts answer, or primary", "LIST"
    ),
    "masquerade-all": Flag("iptables.masqueradeAll", "masquerade all that comes to ClusterIPs"),
    "iptables-masquerade-bit": Flag("iptables.masqueradeBit", "bit of the mark, 0 to 31", "N"),
    "iptables-localhost-nodeports": Flag(
        "iptables.localhostNodePorts", "NodePorts at 127.0.0.1, in mode iptables"
    ),
    "iptables-sync-period": Flag("iptables.syncPeriod", "how often all is put right", "DURATION"),
    "iptables-min-sync-period": Flag(
        "iptables.minSyncPeriod", "the least time between two syncs", "DURATION"
    ),
    "ipvs-scheduler": Flag("ipvs.scheduler", "how a real server is chosen", "NAME"),
    "ipvs-exclude-cidrs": Flag(
        "ipvs.excludeCIDRs", "networks whose virtual servers are left alone", "LIST"
    ),
    "ipvs-strict-arp": Flag("ipvs.strictARP", "no ARP for Services' addresses"),
    "ipvs-sync-period": Flag("ipvs.syncPeriod", "how often all is put right", "DURATION"),
    "ipvs-min-sync-period": Flag(
        "ipvs.minSyncPeriod", "the least time between two syncs", "DURATION"
    ),
    "ipvs-tcp-timeout": Flag("ipvs.tcpTimeout", "of silent TCP connections", "DURATION"),
    "ipvs-tcpfin-timeout": Flag("ipvs.tcpFinTimeout", "of ending TCP connections", "DURATION"),
    "ipvs-udp-timeout": Flag("ipvs.udpTimeout", "of silent UDP connections", "DURATION"),
    "conntrack-max-per-core": Flag("conntrack.maxPerCore", "connections a CPU", "N"),
    "conntrack-min": Flag("conntrack.min", "connections at least", "N"),
    "conntrack-tcp-timeout-established": Flag(
        "conntrack.tcpEstablishedTimeout", "of open TCP connections", "DURATION"
    ),
    "conntrack-tcp-timeout-close-wait": Flag(
        "conntrack.tcpCloseWaitTimeout", "of half-closed TCP connections", "DURATION"
    ),
    "conntrack-tcp-be-liberal": Flag(
        "conntrack.tcpBeLiberal", "take TCP packets outside the window"
    ),
    "conntrack-udp-timeout": Flag("conntrack.udpTimeout", "of unanswered UDP", "DURATION"),
    "conntrack-udp-timeout-stream": Flag(
        "conntrack.udpStreamTimeout", "of answered UDP", "DURATION"
    ),
    "oom-score-adj": Flag("oomScoreAdj", "how soon the kernel ends this process", "N"),
}
"""By name without dashes.  Flags that are about a process (--cleanup, --v) are not here."""
