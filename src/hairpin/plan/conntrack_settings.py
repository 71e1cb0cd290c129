"""The connection tracking settings that a proxy of any mode writes."""

from __future__ import annotations

from hairpin.model.configuration import KubeProxyConfiguration

WHY = "the section conntrack of the configuration"


def conntrack_settings(config: KubeProxyConfiguration) -> list[tuple[str, str]]:
    """Names and values of sysctls (timeouts in seconds); a timeout of 0 leaves the kernel's.

    kube-proxy's (cmd/kube-proxy/app/conntrack.go of Kubernetes 1.36), but for nf_conntrack_max.
    """
    conntrack = config.conntrack
    found: list[tuple[str, str]] = []
    for name, seconds in (
        ("tcp_timeout_established", conntrack.tcp_established_timeout),
        ("tcp_timeout_close_wait", conntrack.tcp_close_wait_timeout),
        ("udp_timeout", conntrack.udp_timeout),
        ("udp_timeout_stream", conntrack.udp_stream_timeout),
    ):
        if seconds > 0:
            found.append((f"net.netfilter.nf_conntrack_{name}", str(int(seconds))))
    if conntrack.tcp_be_liberal:
        found.append(("net.netfilter.nf_conntrack_tcp_be_liberal", "1"))
    return found
