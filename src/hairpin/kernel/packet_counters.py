"""Packet counters with names (nfacct), which iptables rules count in.

Source: include/uapi/linux/netfilter/nfnetlink_acct.h, net/netfilter/nfnetlink_acct.c.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from struct import Struct

from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.netlink import message as wire
from hairpin.netlink.message import Request
from hairpin.state.change import Change
from hairpin.state.netfilter import PacketCounter

_SUBSYSTEM = 7 << 8  # NFNL_SUBSYS_ACCT
_NEW, _GET, _DEL = _SUBSYSTEM, _SUBSYSTEM | 1, _SUBSYSTEM | 3
_NAME, _PACKETS = 1, 2
_NFGENMSG = Struct("=BBH")  # family, version, resource
_COUNT = Struct(">Q")
_HEADER = _NFGENMSG.pack(0, 0, 0)


def observe(socket: NetlinkSocket) -> dict[str, int]:
    """Packets that each counter has seen.  Raises KernelError where there are none to be had."""
    found: dict[str, int] = {}
    for frame in socket.dump(Request(_GET, wire.NLM_F_DUMP, _HEADER)):
        values = wire.attributes(frame.body, _NFGENMSG.size)
        name = bytes(values[_NAME]).rstrip(b"\0").decode(errors="replace")
        found[name] = _COUNT.unpack(values[_PACKETS])[0] if _PACKETS in values else 0
    return found


def apply(socket: NetlinkSocket, changes: Sequence[Change]) -> list[KernelError | None]:
    """Makes and removes counters; one that is there stays as it is, and one that rules still
    count in stays, too: they may be of iptables' other variant."""
    requests = []
    for change in changes:
        assert isinstance(change.object, PacketCounter)
        kind = _DEL if change.verb == "remove" else _NEW
        requests.append(Request(kind, 0, _HEADER + wire.text(_NAME, change.object.name)))
    verdicts: list[KernelError | None] = []
    for change, error in zip(changes, socket.batch(requests), strict=True):
        fine = [errno.EBUSY, *([errno.ENOENT] if change.verb == "remove" else ())]
        verdicts.append(None if error is not None and error.errno in fine else error)
    return verdicts
