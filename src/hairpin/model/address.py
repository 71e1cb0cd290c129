"""IP addresses as values, and how msgspec reads and writes them.

msgspec knows no ``ipaddress`` types, and takes no union of custom ones: fields are annotated
with a common base class, and the hook decides.
"""

from __future__ import annotations

import ipaddress
from abc import ABCMeta
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    IP = ipaddress.IPv4Address | ipaddress.IPv6Address
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network
    ClusterIP = IP | Literal["None"]
else:
    IP = ipaddress._BaseAddress
    Network = ipaddress._BaseNetwork

    ClusterIP = ABCMeta("ClusterIP", (), {})  # an address, or "None" of a headless Service
    ClusterIP.register(ipaddress._BaseAddress)
    ClusterIP.register(str)


def ip(text: str) -> IP:
    """The address that ``text`` names.  Raises ValueError."""
    return ipaddress.ip_address(text)


def network(text: str) -> Network:
    """The network that ``text`` names, its host bits zero.  Raises ValueError."""
    return ipaddress.ip_network(text)


def to_builtin(value: Any) -> Any:
    """msgspec's ``enc_hook``: an ``ipaddress`` value as its text."""
    if isinstance(value, ipaddress._IPAddressBase):
        return str(value)
    raise NotImplementedError(type(value).__name__)


def from_builtin(kind: Any, value: Any) -> Any:
    """msgspec's ``dec_hook``: the text of an address as the kind the field wants.

    Stricter than ``ipaddress``, as Kubernetes is: no number for an address, no zone in one, no
    network without its prefix length.
    """
    if issubclass(kind, ipaddress._BaseNetwork):
        if not isinstance(value, str) or not value.rpartition("/")[2].isdecimal():
            raise ValueError("not an IP network")
        if "/" not in value:
            raise ValueError("an IP network without its prefix length")
        return network(value)
    if kind is ClusterIP and value == "None":
        return value
    if issubclass(kind, ipaddress._BaseAddress) or kind is ClusterIP:
        if not isinstance(value, str) or "%" in value:
            raise ValueError("not an IP address")
        return ip(value)
    raise NotImplementedError(kind.__name__)


def encode(value: Any) -> bytes:
    """Any value of ``model`` or ``state`` as JSON."""
    return msgspec.json.encode(value, enc_hook=to_builtin)
