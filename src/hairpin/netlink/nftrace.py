"""nf_tables' trace events over nfnetlink (NFNLGRP_NFTRACE): what the kernel tells of packets.

Source: include/uapi/linux/netfilter/nf_tables.h (enum nft_trace_attributes), and
net/netfilter/nf_tables_trace.c for what is told when.
"""

from __future__ import annotations

from typing import Literal

from hairpin.netlink import message as wire
from hairpin.netlink import nftables_format as form
from hairpin.netlink import nftables_values as values
from hairpin.netlink.message import Frame
from hairpin.state.nftables import Verdict
from hairpin.state.nftrace import TraceEvent

GROUP = 9  # NFNLGRP_NFTRACE
_TRACE = form.kind(17)  # NFT_MSG_TRACE

_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID = range(1, 7)
_LINK, _NETWORK, _TRANSPORT, _IIF = 7, 8, 9, 10
_OIF, _MARK, _NFPROTO, _POLICY = 12, 14, 15, 16
_KINDS: dict[int, Literal["policy", "return", "rule"]] = {1: "policy", 2: "return", 3: "rule"}


def parse(message: Frame) -> TraceEvent | None:
    """An event; None for a message that is none, or of a family that Services have no part in.

    The family is the table's: an ``inet`` table says so for packets of both.  Raises WireError.
    """
    if message.kind != _TRACE or len(message.body) < len(form.head(0)):
        return None
    family = form.FAMILY_NAMES.get(message.body[0])
    found = wire.attributes(message.body, len(form.head(0)))
    kind = _KINDS.get(_number(found, _TYPE))
    if family is None or kind is None:
        return None
    if kind == "rule" and not _number(found, _HANDLE):
        return None  # the end of a chain that was come back to (seen of Linux 6.18): no rule
    verdict: Verdict | None = None
    if _VERDICT in found:
        verdict = values.read_verdict(found[_VERDICT])
    elif kind == "policy" and _POLICY in found:
        policy = form.POLICY_NAMES.get(_number(found, _POLICY))
        verdict = Verdict(policy) if policy is not None else None  # type: ignore[arg-type]
    return TraceEvent(
        family=family,
        table=wire.string(found.get(_TABLE, b"")),
        chain=wire.string(found.get(_CHAIN, b"")),
        kind=kind,
        packet=_number(found, _ID),
        handle=_number(found, _HANDLE),
        verdict=verdict,
        link=found.get(_LINK, b""),
        network=found.get(_NETWORK, b""),
        transport=found.get(_TRANSPORT, b""),
        iif=_number(found, _IIF),
        oif=_number(found, _OIF),
        mark=_number(found, _MARK),
    )


def render(event: TraceEvent) -> Frame:
    """The event as the kernel sends it."""
    body = form.head(form.FAMILIES[event.family])
    body += wire.text(_TABLE, event.table) + wire.text(_CHAIN, event.chain)
    body += form.be32(_TYPE, next(one for one, name in _KINDS.items() if name == event.kind))
    body += form.be32(_ID, event.packet)
    if event.handle:
        body += wire.attribute(_HANDLE, event.handle.to_bytes(8, "big"))
    if event.kind == "policy" and event.verdict is not None:
        body += form.be32(_POLICY, form.POLICIES[event.verdict.kind])
    elif event.verdict is not None:
        inner = values.verdict(event.verdict)[wire.ATTRIBUTE.size :]
        body += wire.nested(_VERDICT, inner)
    for kind, data in (
        (_LINK, event.link),
        (_NETWORK, event.network),
        (_TRANSPORT, event.transport),
    ):
        body += wire.attribute(kind, data) if data else b""
    for kind, number in ((_IIF, event.iif), (_OIF, event.oif), (_MARK, event.mark)):
        body += form.be32(kind, number) if number else b""
    return Frame(_TRACE, 0, 0, body)


def _number(found: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(found.get(kind, b""), "big")
