"""What a World's kernel can do, as far as a lab must know it."""

from __future__ import annotations

import msgspec


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """Found by trying (``kernel.probe``); the defaults are a kernel that lacks nothing.

    ``lacking`` says why, in words, for each ability that is absent: by its name here.
    """

    ipvs: bool = True
    ipvs_conntrack: bool = True
    dummy: bool = True
    br_netfilter: bool = True
    iptables: bool = True  # with MASQUERADE
    legacy_iptables: bool = False  # the variant that works here, where iptables does
    nftables: bool = True  # with NAT, of IPv4 and IPv6
    lacking: dict[str, str] = {}

    @property
    def unserved(self) -> str | None:
        """Why Services cannot be served here in IPVS mode, None where they can."""
        return self.unserved_in("ipvs")

    def unserved_in(self, mode: str) -> str | None:
        """Why Services cannot be served here in a mode, None where they can."""
        for name in NEEDED[mode]:
            if not getattr(self, name):
                return self.lacking.get(name, f"this kernel has no {name}")
        return None


NEEDED = {"ipvs": ("ipvs", "dummy"), "iptables": ("iptables",), "nftables": ("nftables",)}
"""What each proxy mode cannot do without."""

GUEST = Abilities(
    legacy_iptables=True,
    nftables=False,
    lacking={"nftables": "the embedded kernel has no nf_tables for IP"},
)
"""Debian's user-mode Linux, with the modules that its World loads."""
