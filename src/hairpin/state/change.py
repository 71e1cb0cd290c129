"""A difference as a value, and the state that differences are taken of.

Nothing is applied that could not first be printed: a Change says the verb, the namespace, the
object before and after, and the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from hairpin.model.address import from_builtin
from hairpin.state.ipset import IpSet, SetEntry
from hairpin.state.ipvs import RealServer, Timeouts, VirtualServer
from hairpin.state.links import Address, Bridged, Link, Neighbour, Netns, Route
from hairpin.state.netfilter import (
    Chain,
    ChainPolicy,
    DispatchChain,
    DispatchRule,
    Jump,
    PacketCounter,
    Rule,
    ServiceChain,
)
from hairpin.state.nftables import NftChain, NftElement, NftSet, NftTable
from hairpin.state.sysctl import Sysctl

Object = (
    Netns
    | Link
    | Address
    | Route
    | Neighbour
    | Bridged
    | Sysctl
    | Rule
    | ChainPolicy
    | Chain
    | Jump
    | ServiceChain
    | DispatchChain
    | DispatchRule
    | PacketCounter
    | IpSet
    | SetEntry
    | VirtualServer
    | RealServer
    | Timeouts
    | NftTable
    | NftChain
    | NftSet
    | NftElement
)


class Change(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One difference.

    add: ``object`` is to exist (``before`` is None); remove: it is to be gone; set: it exists as
    ``before`` and is to be as ``object``.  Sysctls, chain policies and timeouts always exist, so
    they know only "set", whose ``before`` may be None for "whatever it was".

    ``gc=False``: there may be ten thousands of them, and no value here can lead back to itself.
    """

    verb: Literal["add", "remove", "set"]
    netns: str
    object: Object
    before: Object | None = None
    reason: str = ""

    def undone(self) -> Change:
        """The Change that takes this one back.  Raises ValueError for a set without before."""
        match self.verb:
            case "add":
                return msgspec.structs.replace(self, verb="remove")
            case "remove":
                return msgspec.structs.replace(self, verb="add")
            case _:
                if self.before is None:
                    raise ValueError(f"what {self.object} was before is not known")
                return msgspec.structs.replace(self, object=self.before, before=self.object)


class Wanted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An object that the kernel should hold, who asked for it (``service default/web``), why."""

    netns: str
    object: Object
    owner: str
    why: str


class KernelState:
    """What kernel namespaces should hold, in an order in which it can be built.

    Raises ValueError when two owners want the same thing differently.
    """

    def __init__(self, wanted: Iterable[Wanted] = ()) -> None:
        self._by_key: dict[tuple[str, tuple[object, ...]], Wanted] = {}
        for one in wanted:
            known = self._by_key.setdefault((one.netns, one.object.key), one)
            if known.object != one.object:
                raise ValueError(f"{one.owner} and {known.owner} disagree about {one.object}")

    def __iter__(self) -> Iterator[Wanted]:
        return iter(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, netns: str, key: tuple[object, ...]) -> Wanted | None:
        """The wanted object with that identity, or None."""
        return self._by_key.get((netns, key))


def decode_changes(data: bytes) -> list[Change]:
    """Changes from the JSON that ``model.address.encode`` made of them.

    Raises msgspec.ValidationError with the path of the field.
    """
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[Change], dec_hook=from_builtin)
    return list(decoder.decode(data))
