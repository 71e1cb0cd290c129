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
    lacking: dict[str, str] = {}

    @property
    def unserved(self) -> str | None:
        """Why Services cannot be served here, None where they can."""
        for name, has in (("ipvs", self.ipvs), ("dummy", self.dummy)):
            if not has:
                return self.lacking.get(name, f"this kernel has no {name}")
        return None
