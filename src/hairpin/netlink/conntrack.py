"""nfnetlink, connection tracking: forgetting all connections of a namespace.

Sources: include/uapi/linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h.
"""

from __future__ import annotations

from struct import Struct

from hairpin.netlink.message import Request

NETLINK_NETFILTER = 12

_NFNL_SUBSYS_CTNETLINK = 1
_IPCTNL_MSG_CT_DELETE = 2
_NFGENMSG = Struct("=BBH")  # family, version, resource


def flush() -> Request:
    """Deletes every entry of the connection tracking table: a delete that names none."""
    return Request(_NFNL_SUBSYS_CTNETLINK << 8 | _IPCTNL_MSG_CT_DELETE, 0, _NFGENMSG.pack(0, 0, 0))
