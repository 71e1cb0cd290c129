"""rtnetlink: netem as the queue of a link, which delays and loses what is sent there.

Links are known by index here.  Sources: include/uapi/linux/rtnetlink.h (tcmsg), pkt_sched.h
(tc_netem_qopt), include/net/pkt_sched.h (PSCHED_SHIFT).
"""

from __future__ import annotations

from struct import Struct

import msgspec

from hairpin.netlink import message as wire
from hairpin.netlink.message import Request

_RTM_NEWQDISC = 36
_RTM_DELQDISC = 37
_TC_H_ROOT = 0xFFFFFFFF
_HANDLE = 0x00010000  # 1:0
_TCA_KIND = 1
_TCA_OPTIONS = 2
_TICK = 64e-9  # seconds of a psched tick
_ALWAYS = 0xFFFFFFFF  # a probability of 1
_LIMIT = 10_000  # packets that wait: 50 ms at more than 2 Gbit/s of full frames

_TCMSG = Struct("=BxxxiIII")  # family, link index, handle, parent, info
_NETEM = Struct("=6I")  # latency, limit, loss, gap, duplicate, jitter


class Netem(msgspec.Struct, frozen=True, kw_only=True):
    """Delay and jitter in seconds, loss from 0 to 1."""

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0


def put_netem(index: int, netem: Netem) -> Request:
    """Makes it the link's queue, or changes the one that is there."""
    ticks = [min(round(one / _TICK), 0xFFFFFFFF) for one in (netem.delay, netem.jitter)]
    loss = round(netem.loss * _ALWAYS)
    options = _NETEM.pack(ticks[0], _LIMIT, loss, 0, 0, ticks[1])
    body = b"".join(
        (
            _TCMSG.pack(0, index, _HANDLE, _TC_H_ROOT, 0),
            wire.text(_TCA_KIND, "netem"),
            wire.attribute(_TCA_OPTIONS, options),
        )
    )
    return Request(_RTM_NEWQDISC, wire.NLM_F_CREATE | wire.NLM_F_REPLACE, body)


def remove_netem(index: int) -> Request:
    """Gives the link its usual queue back; ENOENT or EINVAL where it has that."""
    return Request(_RTM_DELQDISC, 0, _TCMSG.pack(0, index, _HANDLE, _TC_H_ROOT, 0))


def parse_qdisc(body: bytes) -> tuple[int, Netem | None]:
    """A link's index and its netem; None where its queue is another.  Raises WireError."""
    if len(body) < _TCMSG.size:
        raise wire.WireError(f"queue message of {len(body)} bytes")
    index = int(_TCMSG.unpack_from(body)[1])
    found = wire.attributes(body, _TCMSG.size)
    options = found.get(_TCA_OPTIONS, b"")
    if wire.string(found.get(_TCA_KIND, b"")) != "netem" or len(options) < _NETEM.size:
        return index, None
    latency, _, loss, _, _, jitter = _NETEM.unpack_from(options)
    return index, Netem(
        delay=round(latency * _TICK, 7), jitter=round(jitter * _TICK, 7), loss=loss / _ALWAYS
    )
