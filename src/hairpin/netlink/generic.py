"""Generic netlink: families that the kernel numbers when their modules load.

Source: include/uapi/linux/genetlink.h.
"""

from __future__ import annotations

from struct import Struct

from hairpin.netlink import message as wire
from hairpin.netlink.message import Request

NETLINK_GENERIC = 16

_GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY = 3
_CTRL_ATTR_FAMILY_ID = 1
_CTRL_ATTR_FAMILY_NAME = 2

GENERIC = Struct("=BBxx")  # command, version


def get_family(name: str) -> Request:
    """Asks for a family's number; ENOENT when no loaded module has it."""
    head = GENERIC.pack(_CTRL_CMD_GETFAMILY, 1)
    return Request(_GENL_ID_CTRL, 0, head + wire.text(_CTRL_ATTR_FAMILY_NAME, name))


def parse_family(body: bytes) -> tuple[str, int | None]:
    """Name and number of a family, from the answer or the request.  Raises WireError."""
    found = wire.attributes(body, GENERIC.size)
    number = found.get(_CTRL_ATTR_FAMILY_ID)
    name = wire.string(found.get(_CTRL_ATTR_FAMILY_NAME, b""))
    return name, None if number is None else wire.number(number)
