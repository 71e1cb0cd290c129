"""What the configuration and the node say together: who is masqueraded, where NodePorts answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import msgspec

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
    networks = node_port_networks(config, node)
    return {
        version: [
            ip
            for ip in node.addresses
            if ip.version == version and any(ip in one for one in networks[version])
        ]
        for version in networks
    }


def every_address(config: KubeProxyConfiguration, node: NodeFacts) -> dict[int, bool]:
    """Whether NodePorts answer at all addresses, those that come later included, by IP version."""
    return {
        version: any(one.prefixlen == 0 for one in networks)
        for version, networks in node_port_networks(config, node).items()
    }


def health_check_addresses(
    config: KubeProxyConfiguration, node: NodeFacts
) -> dict[int, list[IP] | None]:
    """Where healthCheckNodePorts listen, by IP version; None for every address."""
    own, every = node_port_addresses(config, node), every_address(config, node)
    return {version: None if every[version] else own[version] for version in own}


def node_port_networks(config: KubeProxyConfiguration, node: NodeFacts) -> dict[int, list[Network]]:
    """The networks of nodePortAddresses by IP version; all addresses are one of prefix 0."""
    said = config.node_port_addresses
    if not said and config.mode == "nftables":
        said = (PRIMARY,)  # in that mode it is the default
    networks = _networks(said)
    if said == (PRIMARY,):
        own = (ip for ip in node_ips(config, node).values() if not ip.is_loopback)
        networks = [ip_network(ip) for ip in own]
    return {
        version: [one for one in networks if one.version == version] or [everything]
        for version, everything in _EVERYTHING.items()
    }


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


class LocalTraffic(msgspec.Struct, frozen=True):
    """What tells packets from the node's own Pods: their source, or where they come in.

    ``interface`` is a name, or what names begin with where ``prefix`` is True.
    """

    source: Network | None = None
    interface: str = ""
    prefix: bool = False


def local_traffic(
    config: KubeProxyConfiguration, node: NodeFacts, version: int
) -> LocalTraffic | None:
    """How packets from the node's Pods are known in one IP version; None: they are not."""
    match config.detect_local_mode:
        case "BridgeInterface":
            return LocalTraffic(interface=config.detect_local.bridge_interface)
        case "InterfaceNamePrefix":
            return LocalTraffic(interface=config.detect_local.interface_name_prefix, prefix=True)
        case "NodeCIDR":
            networks: Iterable[Network] = node.pod_cidrs
        case _:
            networks = _networks(config.cluster_cidr.split(","))
    first = next((one for one in networks if one.version == version), None)
    return LocalTraffic(source=first) if first is not None else None


def _not_local(config: KubeProxyConfiguration, node: NodeFacts, version: int) -> Words:
    """What matches a packet that is from none of the node's Pods; empty: that is not known."""
    local = local_traffic(config, node, version)
    if local is None:
        return ()
    if local.source is not None:
        return ("!", "-s", str(local.source))
    return ("!", "-i", f"{local.interface}+" if local.prefix else local.interface)


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
