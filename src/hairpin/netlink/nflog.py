"""Packets that netfilter logs, over nfnetlink (NFLOG, and TRACE of iptables' legacy variant).

TRACE logs through the logger of the packet's family; where that is nfnetlink_log, to group 0,
with a prefix that names the rule.  Sources: include/uapi/linux/netfilter/nfnetlink_log.h,
net/netfilter/nfnetlink_log.c, trace_packet in net/ipv4/netfilter/ip_tables.c.
"""

from __future__ import annotations

import re
from typing import Literal

from hairpin.netlink import message as wire
from hairpin.netlink.message import Frame, Request
from hairpin.state.nftrace import LoggedRule

GROUP = 0  # of packets that nobody said a group for
_SUBSYSTEM = 4  # NFNL_SUBSYS_ULOG
_PACKET, _CONFIG = _SUBSYSTEM << 8, _SUBSYSTEM << 8 | 1
_HEADER, _MARK, _IIF, _OIF, _PAYLOAD, _PREFIX = 1, 2, 4, 5, 9, 10  # NFULA_*
_COMMAND, _MODE, _ROOM, _THRESHOLD = 1, 2, 3, 5  # NFULA_CFG_*
_BIND, _PF_BIND, _PF_UNBIND = 1, 3, 4  # NFULNL_CFG_CMD_*
_COPY_PACKET = 2
_SNAP = 128  # bytes of a packet: its headers, and some to know it by
_NLBUFSIZ = 64 * 1024
_FAMILIES: dict[int, Literal[4, 6]] = {2: 4, 10: 6}
_SAID = re.compile(r"TRACE: (\S+?):(\S+):(rule|return|policy):(\d+) ?")
_KINDS: dict[str, Literal["rule", "return", "policy"]] = {
    "rule": "rule", "return": "return", "policy": "policy",
}  # fmt: skip


def bind() -> list[Request]:
    """Takes the packets of group 0; EBUSY: another program has them."""
    mode = _SNAP.to_bytes(4, "big") + bytes((_COPY_PACKET, 0))
    return [
        _config(0, wire.u8(_COMMAND, _BIND)),
        _config(0, wire.attribute(_MODE, mode)),
        _config(0, wire.attribute(_ROOM, _NLBUFSIZ.to_bytes(4, "big"))),
        # One message for one packet: more would come a second later.
        _config(0, wire.attribute(_THRESHOLD, (1).to_bytes(4, "big"))),
    ]


def logger(version: int, *, on: bool) -> Request:
    """Makes nfnetlink_log the namespace's logger for a family, or leaves it without one."""
    family = 2 if version == 4 else 10
    return _config(family, wire.u8(_COMMAND, _PF_BIND if on else _PF_UNBIND))


def parse(message: Frame) -> LoggedRule | None:
    """A rule that a packet met; None for what is no TRACE.  Raises WireError."""
    if message.kind != _PACKET or len(message.body) < 4:
        return None
    version = _FAMILIES.get(message.body[0])
    found = wire.attributes(message.body, 4)
    said = _SAID.match(wire.string(found.get(_PREFIX, b"")))
    header = found.get(_HEADER, b"")
    if version is None or said is None or len(header) < 3:
        return None
    return LoggedRule(
        version=version,
        table=said[1],
        chain=said[2],
        kind=_KINDS[said[3]],
        number=int(said[4]),
        hook=header[2],
        data=found.get(_PAYLOAD, b""),
        iif=_number(found, _IIF),
        oif=_number(found, _OIF),
        mark=_number(found, _MARK),
    )


def render(one: LoggedRule) -> Frame:
    """The message as the kernel sends it."""
    family = next(number for number, version in _FAMILIES.items() if version == one.version)
    body = bytes((family, 0, 0, GROUP))
    body += wire.attribute(_HEADER, bytes((0, 0, one.hook, 0)))
    prefix = f"TRACE: {one.table}:{one.chain}:{one.kind}:{one.number} "
    body += wire.text(_PREFIX, prefix)
    for kind, number in ((_MARK, one.mark), (_IIF, one.iif), (_OIF, one.oif)):
        body += wire.attribute(kind, number.to_bytes(4, "big")) if number else b""
    return Frame(_PACKET, 0, 0, body + wire.attribute(_PAYLOAD, one.data))


def _config(family: int, attribute: bytes) -> Request:
    return Request(_CONFIG, 0, bytes((family, 0, 0, GROUP)) + attribute)


def _number(found: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(found.get(kind, b""), "big")
