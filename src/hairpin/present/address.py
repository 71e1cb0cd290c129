"""Addresses as the C library's inet_ntop(3) writes them, and with it ipvsadm, ipset and ip."""

from __future__ import annotations

from hairpin.model.address import IP, Network


def address_text(address: IP) -> str:
    """Like ``str``, but an IPv4 address inside an IPv6 one is shown as one."""
    if address.version == 4:
        return str(address)
    number = int(address)
    if number >> 32 == 0xFFFF or (number >> 32 == 0 and number >> 16):
        low = ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
        return f"::{'ffff:' if number >> 32 else ''}{low}"
    return str(address)


def network_text(network: Network) -> str:
    """With the length of its prefix; a network of one address is that address alone (ipset)."""
    base = address_text(network.network_address)
    return base if network.prefixlen == network.max_prefixlen else f"{base}/{network.prefixlen}"
