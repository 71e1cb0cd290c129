"""nf_tables' trace over nfnetlink: what the kernel tells of packets (NFNLGRP_NFTRACE), and asking.

Who asks is a table that its socket owns (NFT_TABLE_F_OWNER, Linux 5.12): it goes when the socket
does, however the process ends.

Source: include/uapi/linux/netfilter/nf_tables.h (enum nft_trace_attributes), and
net/netfilter/nf_tables_trace.c for what is told when.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hairpin.netlink import message as wire
from hairpin.netlink import nftables
from hairpin.netlink import nftables_format as form
from hairpin.netlink import nftables_values as values
from hairpin.netlink.message import Frame, Request
from hairpin.state.nftables import (
    Hook,
    Match,
    NftChain,
    NftFamily,
    NftRule,
    NftTable,
    Opaque,
    SetTrace,
    Statement,
    Verdict,
)
from hairpin.state.nftrace import Looked, TraceEvent, TraceFamily

GROUP = 9  # NFNLGRP_NFTRACE
_TRACE = form.kind(17)  # NFT_MSG_TRACE

_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _ID = range(1, 7)
_LINK, _NETWORK, _TRANSPORT, _IIF = 7, 8, 9, 10
_OIF, _MARK, _NFPROTO, _POLICY = 12, 14, 15, 16
_FAMILIES: dict[int, TraceFamily] = {1: "inet", 2: "ip", 5: "netdev", 7: "bridge", 10: "ip6"}
_KINDS: dict[int, Literal["policy", "return", "rule"]] = {1: "policy", 2: "return", 3: "rule"}


def parse(message: Frame) -> TraceEvent | None:
    """An event; None for a message that is none, or of a family that has no packets of IP.

    The family is the table's: an ``inet`` table says so for packets of both.  Raises WireError.
    """
    if message.kind != _TRACE or len(message.body) < len(form.head(0)):
        return None
    family = _FAMILIES.get(message.body[0])
    found = wire.attributes(message.body, len(form.head(0)))
    kind = _KINDS.get(_number(found, _TYPE))
    if family is None or kind is None:
        return None
    if kind == "rule" and not _number(found, _HANDLE):
        # The end of a chain (seen of Linux 6.18): no rule, but it may be the first that is told
        # of a base chain, with the packet's headers.
        if _NETWORK not in found:
            return None
        kind, found = "return", {one: data for one, data in found.items() if one != _VERDICT}
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
    body = form.head(family_number(event.family))
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


def family_number(name: str) -> int:
    """NFPROTO_* of a family of nf_tables, by nft's name of it."""
    return next(number for number, one in _FAMILIES.items() if one == name)


_BRIDGE, _NETDEV = 7, 5  # NFPROTO_*
_DEVICES, _DEVICE_NAME = 4, 1  # NFTA_HOOK_DEVS, NFTA_DEVICE_NAME
_FLAGS_OF_TABLE, _OWNED = 2, 0x2  # NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER
EARLY, TRACKED, LATE = -500, -199, 500
"""Priorities of the table's chains: before all others, raw among them (-300); right after
conntrack (-200); after all others (NAT of sources is at 100)."""
_CHAINS: tuple[tuple[str, Literal["prerouting", "input", "forward", "output", "postrouting"], int],
               ...] = (
    ("pre", "prerouting", EARLY), ("out", "output", EARLY),
    ("pre-tracked", "prerouting", TRACKED), ("out-tracked", "output", TRACKED),
    ("in", "input", LATE), ("fwd", "forward", LATE), ("post", "postrouting", LATE),
)  # fmt: skip


def dump_tables(family: TraceFamily) -> Request:
    """Asks for the tables of a family."""
    kind = form.kind(form.GETTABLE)
    return Request(kind, wire.NLM_F_DUMP, form.head(family_number(family)))


def priority_of(chain: str) -> int:
    """The priority of a chain of ``observer``'s or ``ingress``'s."""
    if chain == INGRESS:
        return EARLY
    return next(priority for name, _, priority in _CHAINS if name == chain)


def parse_hook(body: bytes) -> tuple[int, int]:
    """The hook's number and the priority of a chain as the kernel tells it.

    Raises WireError: it is no base chain.
    """
    found = wire.attributes(body, len(form.head(0)))
    if form.CHAIN_HOOK not in found:
        raise wire.WireError("a chain without a hook")
    hook = wire.attributes(found[form.CHAIN_HOOK])
    priority = hook.get(form.HOOK_PRIORITY, bytes(4))
    return _number(hook, form.HOOK_HOOKNUM), int.from_bytes(priority, "big", signed=True)


_MOST_PORTS = 16
INGRESS = "link"  # the chain of ``ingress``
_RATE = 100
"""Opening packets of others a second that may be told of, see ``statements``."""


def ingress(name: str, looked: Looked, links: Sequence[str]) -> list[Request]:
    """The same for rules that look at what links receive: a table of family netdev."""
    table = observer(name, looked)[0]
    head = nftables.add_chain(
        NftChain(family="ip" if looked.version == 4 else "ip6", table=name, name=INGRESS)
    )
    devices = wire.nested(_DEVICES, *(wire.text(_DEVICE_NAME, one) for one in links))
    hook = wire.nested(
        form.CHAIN_HOOK,
        form.be32(form.HOOK_HOOKNUM, 0),
        form.be32(form.HOOK_PRIORITY, EARLY & 0xFFFFFFFF),
        devices,
    )
    rules = [NftRule(one) for one in statements(looked)]
    chain = NftChain(family="ip" if looked.version == 4 else "ip6", table=name, name=INGRESS,
                     rules=tuple(rules))  # fmt: skip
    made = [
        table,
        Request(head.kind, head.flags, head.body + hook + wire.text(form.CHAIN_TYPE, "filter")),
        *nftables.add_rules(chain, lambda: 1),
    ]
    return [Request(one.kind, one.flags, bytes((_NETDEV,)) + one.body[1:]) for one in made]


def observer(name: str, looked: Looked, *, bridge: bool = False) -> list[Request]:
    """The messages of a transaction that makes the table ``name`` that asks for these packets.

    Its chains at the hooks' ends ask for nothing: a traced packet that comes there is told of.
    All let everything through.  With ``bridge`` a table of that family, for rules that look at
    bridged frames.
    """
    family: NftFamily = "ip" if looked.version == 4 else "ip6"
    table = nftables.add_table(NftTable(family=family, name=name))
    made = [Request(table.kind, table.flags, table.body + form.be32(_FLAGS_OF_TABLE, _OWNED))]
    for short, hook, priority in _CHAINS:
        rules: tuple[NftRule, ...] = (NftRule((Verdict("accept"),)),)  # as with ``_ASK``
        if priority == EARLY:
            rules = tuple(NftRule(one) for one in statements(looked))
        elif priority == TRACKED:
            if bridge or not looked.tracked or not looked.source_port:
                continue
            rules = (NftRule(_tracked(looked)),)
        chain = NftChain(
            family=family,
            table=name,
            name=short,
            hook=Hook(type="filter", hook=hook, priority=priority),
            rules=rules,
        )
        made.append(nftables.add_chain(chain))
        made += nftables.add_rules(chain, lambda: 1)
    if bridge:
        made = [Request(one.kind, one.flags, bytes((_BRIDGE,)) + one.body[1:]) for one in made]
    return made


def statements(looked: Looked) -> list[tuple[Statement, ...]]:
    """The rules that ask for the connection's packets.

    By the client's end where it is known; besides, by the server's ports the packets that open a
    connection, since masquerading gives it a client's end that nobody can know before.  Of these
    others may have some too, and only so many a second are told of.
    """
    protocol = Match(
        field="meta l4proto", value=_PROTOCOLS.get(looked.protocol, str(looked.protocol))
    )
    ip: Literal["ip", "ip6"] = "ip" if looked.version == 4 else "ip6"
    rules: list[tuple[Statement, ...]] = []
    from_, to = ("ip saddr", "ip daddr") if ip == "ip" else ("ip6 saddr", "ip6 daddr")
    client = looked.source
    if looked.protocol in (1, 58):  # ICMP has no ports; no Service rewrites it
        for one, other in ((from_, to), (to, from_)):
            ends: tuple[Statement, ...] = (Match(field=other, value=looked.target),)  # type: ignore[arg-type]
            if client is not None:
                ends = (Match(field=one, value=client), *ends)  # type: ignore[arg-type]
            rules.append((protocol, *ends, *_ASK))
        return rules
    if looked.source_port:
        for field, port in ((from_, "th sport"), (to, "th dport")):
            rules.append(
                (
                    protocol,
                    *((Match(field=field, value=client),) if client is not None else ()),  # type: ignore[arg-type]
                    Match(field=port, value=looked.source_port),  # type: ignore[arg-type]
                    *_ASK,
                )
            )
    opening = _SYN if looked.protocol == 6 else ()
    for number in looked.ports[:_MOST_PORTS]:
        for port in ("th dport", "th sport"):
            rules.append(
                (protocol, Match(field=port, value=number), *opening, _LIMIT, *_ASK)  # type: ignore[arg-type]
            )
    return rules


def _tracked(looked: Looked) -> tuple[Statement, ...]:
    """By the addresses that conntrack has of the connection's first packet."""
    rule: tuple[Statement, ...] = (
        Match(field="meta l4proto", value=_PROTOCOLS.get(looked.protocol, str(looked.protocol))),
        *_original(_CT_PROTO_SRC, looked.source_port.to_bytes(2, "big")),
    )
    if looked.source is not None:
        rule += _original(_CT_SRC_IP[looked.version], looked.source.packed)
    return (*rule, *_ASK)


_ASK: tuple[Statement, ...] = (SetTrace(), Verdict("accept"))
"""The packet is asked for, and goes on: told in one event instead of the rule's, the chain's end
and the policy's."""
_PROTOCOLS = {6: "TCP", 17: "UDP", 132: "SCTP"}
_CT_PROTO_SRC, _CT_SRC_IP = 11, {4: 19, 6: 21}  # NFT_CT_PROTO_SRC, NFT_CT_SRC_IP, NFT_CT_SRC_IP6


def _original(key: int, value: bytes) -> tuple[Statement, ...]:
    """``ct original ... VALUE``: loaded into a register (NFTA_CT_*), and compared."""
    load = form.be32(1, form.REG_1) + form.be32(2, key) + wire.u8(3, 0)
    return Opaque(name="ct", data=load), _equal(value, form.CMP_EQ)


def _equal(value: bytes, operator: int) -> Opaque:
    """A comparison of register 1 (NFTA_CMP_*)."""
    data = form.be32(1, form.REG_1) + form.be32(2, operator)
    return Opaque(name="cmp", data=data + wire.nested(3, wire.attribute(1, value)))


_SYN: tuple[Statement, ...] = (
    # One byte of the TCP header, at 13: its flags (NFTA_PAYLOAD_*, NFTA_BITWISE_*).
    Opaque(
        name="payload",
        data=form.be32(1, form.REG_1) + form.be32(2, form.TRANSPORT_HEADER)
        + form.be32(3, 13) + form.be32(4, 1),
    ),
    Opaque(
        name="bitwise",
        data=form.be32(1, form.REG_1) + form.be32(2, form.REG_1) + form.be32(3, 1)
        + wire.nested(4, wire.attribute(1, b"\x02")) + wire.nested(5, wire.attribute(1, b"\0")),
    ),
    _equal(b"\0", form.CMP_NEQ),
)  # fmt: skip
_LIMIT = Opaque(  # NFTA_LIMIT_RATE, _UNIT (seconds), _BURST, _TYPE (packets)
    name="limit",
    data=wire.attribute(1, _RATE.to_bytes(8, "big")) + wire.attribute(2, (1).to_bytes(8, "big"))
    + form.be32(3, _RATE) + form.be32(4, 0),
)  # fmt: skip


def _number(found: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(found.get(kind, b""), "big")
