"""What kube-proxy refuses in its configuration (pkg/proxy/apis/config/validation).

Sections of other modes are passed over, as kube-proxy does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network

import msgspec

from hairpin.model.configuration import (
    PRIMARY,
    IPTablesConfiguration,
    IPVSConfiguration,
    KubeProxyConfiguration,
    NFTablesConfiguration,
)
from hairpin.model.names import quoted
from hairpin.state.ipvs import SCHEDULERS


class Problem(msgspec.Struct, frozen=True):
    field: str
    message: str
    remedy: str = ""


def problems(config: KubeProxyConfiguration) -> Iterator[Problem]:
    """What is wrong, the fields in kube-proxy's spelling."""
    yield from _bit("iptables", config.iptables.masquerade_bit)
    yield from _periods("iptables", config.iptables)
    if config.mode == "ipvs":
        yield from _ipvs(config.ipvs)
    if config.mode == "nftables":
        yield from _bit("nftables", config.nftables.masquerade_bit)
        yield from _periods("nftables", config.nftables)
    yield from _conntrack(config)
    if config.client_connection.burst < 0:
        yield Problem("clientConnection.burst", "is negative")
    if not -1000 <= config.oom_score_adj <= 1000:
        yield Problem("oomScoreAdj", f"{config.oom_score_adj} is not in -1000 to 1000")
    if config.config_sync_period <= 0:
        yield Problem("configSyncPeriod", "must be greater than 0")
    if not _is_address(config.bind_address):
        yield Problem("bindAddress", f"{quoted(config.bind_address)} is not an IP address")
    yield from _host_port("healthzBindAddress", config.healthz_bind_address)
    yield from _host_port("metricsBindAddress", config.metrics_bind_address)
    yield from _cluster_cidr(config.cluster_cidr)
    yield from _node_port_addresses(config.node_port_addresses)
    local = config.detect_local
    if config.detect_local_mode == "BridgeInterface" and not local.bridge_interface:
        yield Problem("detectLocal.bridgeInterface", "is missing")
    if config.detect_local_mode == "InterfaceNamePrefix" and not local.interface_name_prefix:
        yield Problem("detectLocal.interfaceNamePrefix", "is missing")


def address_with_port(address: str, port: int) -> str:
    """``address`` with the port, unless it has one."""
    if not _is_address(address):
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _bit(section: str, bit: int) -> Iterator[Problem]:
    if not 0 <= bit <= 31:
        yield Problem(f"{section}.masqueradeBit", f"{bit} is not in 0 to 31")


def _periods(
    section: str, part: IPTablesConfiguration | IPVSConfiguration | NFTablesConfiguration
) -> Iterator[Problem]:
    if part.sync_period <= 0:
        yield Problem(f"{section}.syncPeriod", "must be greater than 0")
    if part.min_sync_period < 0:
        yield Problem(f"{section}.minSyncPeriod", "is negative")
    if part.min_sync_period > part.sync_period:
        yield Problem(f"{section}.syncPeriod", f"is shorter than {section}.minSyncPeriod")


def _ipvs(part: IPVSConfiguration) -> Iterator[Problem]:
    yield from _periods("ipvs", part)
    for field, seconds in (
        ("tcpTimeout", part.tcp_timeout),
        ("tcpFinTimeout", part.tcp_fin_timeout),
        ("udpTimeout", part.udp_timeout),
    ):
        if seconds < 0:
            yield Problem(f"ipvs.{field}", "is negative")
    yield from _networks("ipvs.excludeCIDRs", part.exclude_cidrs)
    if part.scheduler and part.scheduler not in SCHEDULERS:
        message = f"{quoted(part.scheduler)} is no scheduler"
        yield Problem("ipvs.scheduler", message, f"IPVS has {', '.join(SCHEDULERS)}")


def _conntrack(config: KubeProxyConfiguration) -> Iterator[Problem]:
    part = config.conntrack
    for field, number in (
        ("maxPerCore", part.max_per_core),
        ("min", part.min),
        ("tcpEstablishedTimeout", part.tcp_established_timeout),
        ("tcpCloseWaitTimeout", part.tcp_close_wait_timeout),
        ("udpTimeout", part.udp_timeout),
        ("udpStreamTimeout", part.udp_stream_timeout),
    ):
        if number < 0:
            yield Problem(f"conntrack.{field}", "is negative")


def _cluster_cidr(text: str) -> Iterator[Problem]:
    """One network, or one of each family."""
    if not text:
        return
    parts = text.split(",")
    versions = [_version(part) for part in parts]
    if None in versions:
        bad = parts[versions.index(None)]
        yield Problem("clusterCIDR", f"{quoted(bad)} is not an IP network", _LIKE)
    elif len(parts) > 2 or len(set(versions)) != len(parts):
        yield Problem("clusterCIDR", "more than one network of a family", _LIKE)


_LIKE = "write it like 10.244.0.0/16, or 10.244.0.0/16,fd00:10:244::/56 for both families"


def _node_port_addresses(texts: tuple[str, ...]) -> Iterator[Problem]:
    if texts == (PRIMARY,):
        return
    if PRIMARY in texts:
        where = f"nodePortAddresses[{texts.index(PRIMARY)}]"
        yield Problem(where, f"{quoted(PRIMARY)} cannot stand beside others")
        return
    yield from _networks("nodePortAddresses", texts)


def _networks(field: str, texts: Iterable[str]) -> Iterator[Problem]:
    for index, text in enumerate(texts):
        if _version(text) is None:
            yield Problem(f"{field}[{index}]", f"{quoted(text)} is not an IP network")


def _host_port(field: str, text: str) -> Iterator[Problem]:
    host, colon, port = text.rpartition(":")
    inner = host.removeprefix("[").removesuffix("]")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in inner) != bracketed:
        yield Problem(field, f"{quoted(text)} is not like 127.0.0.1:10256")
    elif not _is_address(inner):
        yield Problem(field, f"{quoted(inner)} is not an IP address")
    elif not (port.isascii() and port.isdecimal() and 1 <= int(port[:6]) <= 65535):
        yield Problem(field, f"{quoted(port)} is not a port (1 to 65535)")


def _version(text: str) -> int | None:
    """The IP version of a network with its prefix length, or None."""
    if not text.rpartition("/")[2].isdecimal() or "/" not in text:
        return None
    try:
        return ip_network(text, strict=False).version
    except ValueError:
        return None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text
