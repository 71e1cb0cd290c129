"""What nf_tables tells of a packet that is traced (``meta nftrace set 1``)."""

from __future__ import annotations

from typing import Literal

import msgspec

from hairpin.state.nftables import NftFamily, Verdict


class TraceEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that a packet met, or the end of a chain.

    ``rule``: the rule with that ``handle`` said ``verdict``, None for "go on"; ``return``: it came
    to the end of a chain that was jumped to, or was sent back by a rule; ``policy``: a base
    chain's policy decided, and is the verdict.  ``packet`` tells packets apart for a time only:
    the kernel gives later ones the same number.  ``network`` and ``transport`` are the packet's
    headers as they are at this point, in full only in the first event of each base chain, and
    else empty; of the transport header at most 20 bytes.  ``link`` is the link layer's.
    """

    family: NftFamily
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
