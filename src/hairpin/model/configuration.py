"""KubeProxyConfiguration: the file that kube-proxy takes (kubeproxy.config.k8s.io/v1alpha1).

Every field of Kubernetes 1.36 is here, with kube-proxy's name and default, whether hairpin uses it
or not; ``source.configuration`` reads the file and says which are not used.  Durations are
seconds.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from hairpin.model.metadata import api_name

API_VERSION = "kubeproxy.config.k8s.io/v1alpha1"
KIND = "KubeProxyConfiguration"
PRIMARY = "primary"
"""In nodePortAddresses: the node's own address of each family, as its Node says."""

Mode = Literal["", "iptables", "ipvs", "nftables"]
LocalMode = Literal["", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"]

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_NAMES = {
    "enable_dsr": "enableDSR",
    "strict_arp": "strictARP",
}


class Seconds(float):
    """A length of time; in the file it is text as Go writes it: ``30s``, ``1m30s``, ``1h``."""


def duration(text: str) -> Seconds:
    """What Go's time.ParseDuration makes of a text.  Raises ValueError."""
    digits = text.removeprefix("-").removeprefix("+")
    if digits == "0":
        return Seconds(0)
    total, end = 0.0, 0
    for part in _PART.finditer(digits):
        if part.start() != end:
            break
        total += float(part[1]) * _UNITS[part[2]]
        end = part.end()
    if not digits or end != len(digits):
        raise ValueError(f"not a duration like 30s or 1m30s: {text!r}")
    return Seconds(-total if text.startswith("-") else total)


def field_name(attribute: str) -> str:
    """kube-proxy's name of a field."""
    return _NAMES.get(attribute) or api_name(attribute)


class Config(msgspec.Struct, frozen=True, kw_only=True, rename=field_name):
    """A part of the configuration."""


class IPTablesConfiguration(Config, frozen=True, kw_only=True):
    """In IPVS mode too, ``masquerade_bit`` and ``masquerade_all`` come from here.

    The bit is one of the 32 of a packet's mark: packets that have it are masqueraded.
    """

    masquerade_bit: int = 14
    masquerade_all: bool = False
    localhost_node_ports: bool = True
    sync_period: Seconds = Seconds(30)
    min_sync_period: Seconds = Seconds(1)


class IPVSConfiguration(Config, frozen=True, kw_only=True):
    """A timeout of 0 leaves the kernel's; an empty scheduler is rr."""

    sync_period: Seconds = Seconds(30)
    min_sync_period: Seconds = Seconds(0)
    scheduler: str = ""
    exclude_cidrs: tuple[str, ...] = ()
    strict_arp: bool = False
    tcp_timeout: Seconds = Seconds(0)
    tcp_fin_timeout: Seconds = Seconds(0)
    udp_timeout: Seconds = Seconds(0)


class NFTablesConfiguration(Config, frozen=True, kw_only=True):
    masquerade_bit: int = 14
    masquerade_all: bool = False
    sync_period: Seconds = Seconds(30)
    min_sync_period: Seconds = Seconds(1)


class ConntrackConfiguration(Config, frozen=True, kw_only=True):
    """0 leaves what the kernel has.  ``max_per_core`` counts connections per CPU."""

    max_per_core: int = 32 * 1024
    min: int = 128 * 1024
    tcp_established_timeout: Seconds = Seconds(86400)
    tcp_close_wait_timeout: Seconds = Seconds(3600)
    tcp_be_liberal: bool = False
    udp_timeout: Seconds = Seconds(0)
    udp_stream_timeout: Seconds = Seconds(0)


class DetectLocalConfiguration(Config, frozen=True, kw_only=True):
    bridge_interface: str = ""
    interface_name_prefix: str = ""


class ClientConnectionConfiguration(Config, frozen=True, kw_only=True):
    kubeconfig: str = ""
    accept_content_types: str = ""
    content_type: str = "application/vnd.kubernetes.protobuf"
    qps: float = 5
    burst: int = 10


class WinkernelConfiguration(Config, frozen=True, kw_only=True):
    network_name: str = ""
    source_vip: str = ""
    enable_dsr: bool = False
    root_hns_endpoint_name: str = ""
    forward_health_check_vip: bool = False


class KubeProxyConfiguration(Config, frozen=True, kw_only=True):
    """``mode`` "" is iptables, ``detect_local_mode`` "" is ClusterCIDR.

    ``logging`` is kept as it is: hairpin does not read it.
    """

    feature_gates: dict[str, bool] = {}
    client_connection: ClientConnectionConfiguration = ClientConnectionConfiguration()
    logging: dict[str, Any] = {}
    hostname_override: str = ""
    bind_address: str = "0.0.0.0"
    healthz_bind_address: str = ""  # see source.configuration: it follows bind_address
    metrics_bind_address: str = ""
    bind_address_hard_fail: bool = False
    enable_profiling: bool = False
    show_hidden_metrics_for_version: str = ""
    mode: Mode = ""
    iptables: IPTablesConfiguration = IPTablesConfiguration()
    ipvs: IPVSConfiguration = IPVSConfiguration()
    nftables: NFTablesConfiguration = NFTablesConfiguration()
    winkernel: WinkernelConfiguration = WinkernelConfiguration()
    detect_local_mode: LocalMode = ""
    detect_local: DetectLocalConfiguration = DetectLocalConfiguration()
    cluster_cidr: str = ""
    node_port_addresses: tuple[str, ...] = ()
    oom_score_adj: int = -999
    conntrack: ConntrackConfiguration = ConntrackConfiguration()
    config_sync_period: Seconds = Seconds(900)
    port_range: str = ""
    windows_run_as_service: bool = False
