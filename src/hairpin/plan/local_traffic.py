"""What the configuration and the node say together: who is masqueraded, where NodePorts answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hairpin.model.address import IP, Network
from hairpin.model.configuration import PRIMARY, KubeProxyConfiguration
from hairpin.plan.ipvs_rules import Masquerading, Words
from hairpin.plan.node import NodeFacts

_LOOPBACK: Mapping[int, IP] = {4: IPv4Address("127.0.0.1"), 6: IPv6Address("::1")}
_EVERYTHING = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


def node_ips(config: KubeProxyConfiguration, node: NodeFacts) -> dict[int, IP]:
    """The node's own address by IP version: bindAddress if it is one, else what the Node says;
    a family without counts as 127.0.0.1 or ::1, as with kube-proxy."""
    found = dict(_LOOPBACK)
    for ip in node.node_ips:
        found[ip.version] = ip
    bound = _address(config.bind_address)
    if bound is not None and not bound.is_unspecified:
        found[bound.version] = bound
    return found


def node_port_addresses(config: KubeProxyConfiguration, node: NodeFacts) -> dict[int, list[IP]]:
    """Where NodePorts answer, by IP version.

    A family without a network of its own in nodePortAddresses has all addresses (kube-proxy's
    NewNodePortAddresses).
    """
    networks = _networks(config.node_port_addresses)
    if config.node_port_addresses == (PRIMARY,):
        own = (ip for ip in node_ips(config, node).values() if not ip.is_loopback)
        networks = [ip_network(ip) for ip in own]
    found: dict[int, list[IP]] = {}
    for version, everything in _EVERYTHING.items():
        allowed = [one for one in networks if one.version == version] or [everything]
        found[version] = [
            ip
            for ip in node.addresses
            if ip.version == version and any(ip in one for one in allowed)
        ]
    return found


def masquerading(config: KubeProxyConfiguration, node: NodeFacts) -> dict[int, Masquerading]:
    """Who is masqueraded on the way to a ClusterIP, by IP version.

    In IPVS mode the mark and masqueradeAll are those of the section ``iptables``.
    """
    own = config.iptables
    return {
        version: Masquerading(
            mark=1 << own.masquerade_bit,
            everyone=own.masquerade_all,
            not_local=_not_local(config, node, version),
        )
        for version in (4, 6)
    }


def _not_local(config: KubeProxyConfiguration, node: NodeFacts, version: int) -> Words:
    """What matches a packet that is from none of the node's Pods; empty: that is not known."""
    match config.detect_local_mode:
        case "BridgeInterface":
            return ("!", "-i", config.detect_local.bridge_interface)
        case "InterfaceNamePrefix":
            return ("!", "-i", f"{config.detect_local.interface_name_prefix}+")
        case "NodeCIDR":
            networks: Iterable[Network] = node.pod_cidrs
        case _:
            networks = _networks(config.cluster_cidr.split(","))
    first = next((one for one in networks if one.version == version), None)
    return ("!", "-s", str(first)) if first is not None else ()


def _networks(texts: Iterable[str]) -> list[Network]:
    """Those that can be read: ``source.configuration`` refuses others."""
    found: list[Network] = []
    for text in texts:
        try:
            found.append(ip_network(text.strip(), strict=False))
        except ValueError:
            continue
    return found


def _address(text: str) -> IP | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
