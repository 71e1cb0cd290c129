"""IP addresses as values, and how msgspec reads and writes them.

msgspec knows no ``ipaddress`` types, and takes no union of custom ones: fields are annotated
with a common base class, and the hook decides.
"""

from __future__ import annotations

import ipaddress
import re
from abc import ABCMeta
from contextlib import suppress
from sys import getrefcount
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


_FEW = 1 << 12  # addresses; some 170 bytes each
_known: dict[bytes, IP] = {}
_look_at = _FEW  # so many known ones: time to see which of them somebody has still

_LEADING_ZEROS = re.compile(r"(?<![0-9a-fA-F:])0+(?=[0-9])")


def ip(text: str) -> IP:
    """The address that ``text`` names.  Raises ValueError."""
    found = ipaddress.ip_address(text)
    return found if "%" in text else from_packed(found.packed)


def from_packed(packed: bytes) -> IP:
    """The address of 4 or 16 bytes.  Raises ValueError.

    Always the same object for the same bytes while somebody has it: making one takes four times
    as long as finding it, and values that share theirs compare in a third of the time.
    """
    found = _known.get(packed)
    if found is None:
        if len(packed) == 4:
            found = ipaddress.IPv4Address(packed)
        elif len(packed) == 16:
            found = ipaddress.IPv6Address(packed)
        else:
            raise ValueError(f"an address of {len(packed)} bytes")
        if len(_known) >= _look_at:
            forget_unused()
        _known[packed] = found
    return found


def forget_unused() -> int:
    """Lets go of the addresses that nobody has but ``from_packed``; gives how many it still has.

    It does so by itself whenever it has twice as many as the last time.  Weak references would
    cost more than the addresses.  Safe with other threads, which may get a second object for an
    address that goes just then: equal, only not the same.
    """
    global _look_at  # noqa: PLW0603  # belongs to the table beside it
    # What CPython counts for one that nobody else has is the measure for all.
    alone = _count({b"": ipaddress.IPv4Address(0)}, b"")
    for packed in tuple(_known):
        if _count(_known, packed) <= alone:
            _known.pop(packed, None)
    _look_at = max(_FEW, 2 * len(_known))
    return len(_known)


def _count(of: dict[bytes, IP], packed: bytes) -> int:
    """How often an address is referred to; of one that is not there, as often as None is."""
    return getrefcount(of.get(packed))


def network(text: str) -> Network:
    """The network that ``text`` names, its host bits zero.  Raises ValueError."""
    return ipaddress.ip_network(text)


def network_of(packed: bytes, prefix: int) -> Network:
    """The network of 4 or 16 bytes and a prefix length in bits.  Raises ValueError."""
    return ipaddress.ip_network((packed, prefix))


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
        text = value.strip() if isinstance(value, str) else ""  # source ranges may be padded
        if not text.rpartition("/")[2].isdecimal():
            raise ValueError("not an IP network")
        if "/" not in text:
            raise ValueError("an IP network without its prefix length")
        return network(text)
    if kind is ClusterIP and value == "None":
        return value
    if issubclass(kind, ipaddress._BaseAddress) or kind is ClusterIP:
        if not isinstance(value, str) or "%" in value:
            raise ValueError("not an IP address")
        return ip(value)
    if hasattr(kind, "from_builtin"):  # a kind of ``state`` that has several forms
        return kind.from_builtin(value)
    raise NotImplementedError(kind.__name__)


def read_value(value: Any) -> Any:
    """An address, a network, a number or a word, whichever it looks like.

    Raises ValueError for anything else.
    """
    if not isinstance(value, str):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("not an address, network, number or word")
        return value
    for read in (ip, network):
        with suppress(ValueError):
            return read(value)
    return value


def sloppy_from_builtin(kind: Any, value: Any) -> Any:
    """As ``from_builtin``, for what API servers took before they were strict.

    As Go's ParseIPSloppy and ParseCIDRSloppy do, which kube-proxy reads with: leading zeros mean
    nothing (and not octal), host bits of a network are dropped, and an IPv4 address that is
    written as IPv6 is IPv4.
    """
    if not isinstance(value, str):
        return from_builtin(kind, value)
    text = _LEADING_ZEROS.sub("", value.strip()) if "." in value else value.strip()
    if issubclass(kind, ipaddress._BaseNetwork):
        address, slash, length = text.rpartition("/")
        if slash and length.isdecimal():
            return ipaddress.ip_network(f"{address}/{int(length)}", strict=False)
    found = from_builtin(kind, text)
    mapped = getattr(found, "ipv4_mapped", None)
    return found if mapped is None else mapped


def encode(value: Any) -> bytes:
    """Any value of ``model`` or ``state`` as JSON."""
    return msgspec.json.encode(value, enc_hook=to_builtin)
