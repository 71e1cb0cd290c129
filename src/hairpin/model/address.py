"""IP addresses as values, and how msgspec reads and writes them.

msgspec knows no ``ipaddress`` types, and takes no union of custom ones: fields are annotated
with the common base class of both families.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    IP = ipaddress.IPv4Address | ipaddress.IPv6Address
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network
else:
    IP = ipaddress._BaseAddress
    Network = ipaddress._BaseNetwork


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


def from_builtin(kind: type, value: Any) -> Any:
    """msgspec's ``dec_hook``: the text of an address as the kind the field wants."""
    if issubclass(kind, ipaddress._BaseAddress):
        return ip(value)
    if issubclass(kind, ipaddress._BaseNetwork):
        return network(value)
    raise NotImplementedError(kind.__name__)


def encode(value: Any) -> bytes:
    """Any value of ``model`` or ``state`` as JSON."""
    return msgspec.json.encode(value, enc_hook=to_builtin)
