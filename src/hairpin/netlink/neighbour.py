"""rtnetlink: neighbours, and the forwarding databases of VXLANs.

Links are known by index here; ``kernel.links`` turns names into indexes.  Source:
include/uapi/linux/neighbour.h.
"""

from __future__ import annotations

from struct import Struct

import msgspec

from hairpin.model.address import IP
from hairpin.netlink import message as wire
from hairpin.netlink.message import Request

_AF_INET, _AF_INET6, _AF_BRIDGE = 2, 10, 7
_RTM_NEWNEIGH = 28
_RTM_DELNEIGH = 29

_NDA_DST = 1
_NDA_LLADDR = 2
_NUD_NOARP = 0x40
_NUD_PERMANENT = 0x80
_NTF_SELF = 0x02  # the link's own table, not that of a bridge it is a port of

_NEIGHBOUR = Struct("=BxxxiHBB")  # family, link index, state, flags, type


class NeighbourMessage(msgspec.Struct, frozen=True, kw_only=True):
    """ndmsg and its attributes: ``bridged``, an entry of a VXLAN's forwarding database, where
    ``ip`` is the address of the far end; else a neighbour.
    """

    index: int
    ip: IP
    mac: str
    bridged: bool = False


def put_neighbour(one: NeighbourMessage) -> Request:
    """Adds an entry that never ages, or puts it in the place of the one that is there."""
    return Request(_RTM_NEWNEIGH, wire.NLM_F_CREATE | wire.NLM_F_REPLACE, _render(one))


def remove_neighbour(one: NeighbourMessage) -> Request:
    """Removes an entry; ENOENT when there is none such."""
    return Request(_RTM_DELNEIGH, 0, _render(one))


def _render(one: NeighbourMessage) -> bytes:
    family = _AF_INET if one.ip.version == 4 else _AF_INET6
    state, flags = _NUD_PERMANENT, 0
    if one.bridged:
        family, state, flags = _AF_BRIDGE, _NUD_PERMANENT | _NUD_NOARP, _NTF_SELF
    return b"".join(
        (
            _NEIGHBOUR.pack(family, one.index, state, flags, 0),
            wire.attribute(_NDA_DST, one.ip.packed),
            wire.attribute(_NDA_LLADDR, bytes.fromhex(one.mac.replace(":", ""))),
        )
    )
