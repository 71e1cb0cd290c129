"""ipset: named sets that netfilter rules match addresses and ports against.

The types are the five that kube-proxy's IPVS mode uses (pkg/proxy/ipvs/ipset.go).
"""

from __future__ import annotations

from typing import Literal

from hairpin.model.address import IP, Network
from hairpin.state.base import KernelObject
from hairpin.state.ipvs import Port, Protocol

SetType = Literal["hash:ip", "hash:ip,port", "hash:ip,port,ip", "hash:ip,port,net", "bitmap:port"]
SetFamily = Literal["inet", "inet6"]

MAX_NAME = 31
"""Bytes of a set's name: IPSET_MAXNAMELEN with its final zero (uapi/linux/netfilter/ipset)."""


class IpSet(KernelObject, frozen=True, tag="ipset", kw_only=True):
    """A set; ``family`` is None where the type holds no addresses (bitmap:port, all ports).

    ``timeout`` is how long an entry stays that is added without saying so: seconds, 0 for ever.
    No proxy makes a set whose entries go by themselves.
    """

    name: str
    type: SetType
    family: SetFamily | None = None
    maxelem: int = 65536  # entries, of hash types; 0 for a bitmap
    timeout: int = 0

    @property
    def key(self) -> tuple[object, ...]:
        return ("ipset", self.name)


class SetEntry(KernelObject, frozen=True, tag="set-entry", kw_only=True, gc=False):
    """One member of a set; what the set's type does not hold is None or 0.

    As ipset prints it: ``10.96.1.1,tcp:80``, ``30084``, ``192.0.2.6,tcp:80,10.0.0.0/8``.
    ``nomatch``: what it says is taken out of the set, by one who wrote it so (ipset(8)).
    """

    set: str
    ip: IP | None = None
    protocol: Protocol | None = None
    port: Port = 0
    ip2: IP | None = None  # hash:ip,port,ip
    net: Network | None = None  # hash:ip,port,net
    nomatch: bool = False

    @property
    def key(self) -> tuple[object, ...]:
        ip, ip2, net = self.ip, self.ip2, self.net
        if ip is None:
            return ("set-entry", self.set, self.port)
        own = ("set-entry", self.set, ip._ip, ip._version, self.protocol, self.port)  # type: ignore[union-attr]  # see KernelObject.key
        if ip2 is not None:
            return (*own, ip2._ip, ip2._version)  # type: ignore[union-attr]  # see KernelObject.key
        if net is not None:
            return (*own, int(net.network_address), net.version, net.prefixlen)
        return own

    def __str__(self) -> str:
        if self.ip is None:
            return str(self.port)
        words = [str(self.ip)]
        if self.protocol is not None:
            words.append(f"{self.protocol.lower()}:{self.port}")
        if self.ip2 is not None:
            words.append(str(self.ip2))
        if self.net is not None:
            one = self.net.prefixlen == self.net.max_prefixlen
            words.append(str(self.net.network_address if one else self.net))
        return ",".join(words)
