"""What the kernel tells of a packet that is traced, and which packets are to be.

nf_tables tells of those with ``meta nftrace set 1``, iptables' legacy variant of those that passed
the target TRACE: the same bit of the packet, so that either switches on both.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hairpin.model.address import IP
from hairpin.state.nftables import Verdict

TraceFamily = Literal["ip", "ip6", "inet", "bridge", "netdev"]


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """The connection whose packets the kernel is to tell of.

    ``protocol`` is the number of the IP protocol.  ``source`` None and ``source_port`` 0: not
    known.  ``ports`` are those that a server may have, after rewriting too.  ``tracked``: conntrack
    is on where this is asked, so that a packet can be known by its connection's first addresses.
    """

    version: Literal[4, 6]
    protocol: int
    target: IP
    source: IP | None = None
    source_port: int = 0
    ports: tuple[int, ...] = ()
    tracked: bool = False


class LoggedRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of iptables' legacy variant that a packet met, as TRACE logs it.

    ``number`` counts the chain's rules from 1.  ``kind``: as of ``TraceEvent``; a policy's number
    is one more than there are rules.  ``hook`` is the kernel's (NF_INET_*).  ``data`` is the
    packet from its IP header on.
    """

    version: Literal[4, 6]
    table: str
    chain: str
    kind: Literal["rule", "return", "policy"]
    number: int
    hook: int
    data: bytes
    iif: int = 0
    oif: int = 0
    mark: int = 0


class TraceEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that a packet met, or the end of a chain.

    ``rule``: the rule with that ``handle`` said ``verdict``, None for "go on"; ``return``: it came
    to the end of a chain that was jumped to, or was sent back by a rule; ``policy``: a base
    chain's policy decided, and is the verdict.  ``packet`` tells packets apart for a time only:
    the kernel gives later ones the same number.  ``network`` and ``transport`` are the packet's
    headers as they are at this point, in full only in the first event of each base chain, and
    else empty; of the transport header at most 20 bytes.  ``link`` is the link layer's.
    """

    family: TraceFamily
    table: str
    chain: str
    kind: Literal["rule", "return", "policy"]
    packet: int
    handle: int = 0
    verdict: Verdict | None = None
    link: bytes = b""
    network: bytes = b""
    transport: bytes = b""
    iif: int = 0  # the index of the link that it came in by, 0 for none
    oif: int = 0
    mark: int = 0
