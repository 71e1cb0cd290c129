"""A Trace: what became of one connection, hop by hop, and because of what.

``hairpin trace -o json`` prints these values as they are; docs/trace.md says the schema, and
fields are only ever added to it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hairpin.model.address import IP

LegName = Literal["request", "reply", "data", "error"]
Disposition = Literal["delivered", "rejected", "dropped", "lost", "no-route", "timed-out"]
"""delivered: answered.  rejected: somebody said no (RST, ICMP).  dropped: it went in somewhere,
where what drops it is known.  lost: last seen somewhere, and why it ended there is not known.
no-route: it could not be sent on.  timed-out: all packets arrived, and the answer never came."""

StepKind = Literal[
    "sent", "received", "bridge", "route", "ipvs", "nat", "rule", "deliver", "drop", "reject",
    "tunnel", "conntrack", "left",
]  # fmt: skip


Seen = Literal["hook", "capture", "inferred"]
"""hook: a hook of netfilter told of it.  capture: it was seen on a link.  inferred: it follows from
what was seen before and after, and from tables."""


class Ends(msgspec.Struct, frozen=True):
    """Addresses and ports of a packet.  ICMP has ports 0."""

    source: IP
    source_port: int
    destination: IP
    destination_port: int

    def __str__(self) -> str:
        return (
            f"{_at(self.source, self.source_port)} → {_at(self.destination, self.destination_port)}"
        )

    @property
    def reversed(self) -> Ends:
        """Those of an answer."""
        return Ends(self.destination, self.destination_port, self.source, self.source_port)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One decision about the packet in a namespace.

    ``before`` and ``after`` differ where it was rewritten.  ``by`` is the rule, route or object
    that decided; ``owner`` who asked for that (``service default/web:http``), ``why`` what for.
    ``at`` is seconds since the connection began; ``seen`` how it is known.
    """

    kind: StepKind
    says: str
    link: str | None = None
    hook: str | None = None  # netfilter's, where it is known
    before: Ends | None = None
    after: Ends | None = None
    by: str | None = None
    owner: str | None = None
    why: str | None = None
    at: float | None = None
    seen: Seen = "inferred"


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to the packet in one namespace, from entering it to leaving it."""

    netns: str
    role: Literal["pod", "node", "outside", "other"]
    name: str
    steps: tuple[Step, ...]


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """The way of one packet.

    ``packet`` is it in words (``TCP SYN``); ``arrived`` is whether it came to where it should.
    """

    name: LegName
    packet: str
    arrived: bool
    hops: tuple[Hop, ...]


class Tracked(msgspec.Struct, frozen=True, kw_only=True):
    """What a namespace remembers of the connection: conntrack's flow, IPVS's entry."""

    netns: str
    by: Literal["conntrack", "ipvs"]
    original: str
    reply: str
    state: str = ""


class Mend(msgspec.Struct, frozen=True, kw_only=True):
    """What makes it work: a hairpin command, and the same for a shell.

    Either may be empty where there is none.  ``on`` is the namespace that the shell command is
    for, empty where any will do (kubectl).
    """

    hairpin: str = ""
    shell: str = ""
    on: str = ""


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Why it failed.  ``id`` is stable; ``object`` is what it is about; ``source`` where the rule
    that was applied is from; ``evidence`` what was seen that says so."""

    id: str
    because: str
    mend: Mend = Mend()
    object: str = ""
    evidence: tuple[str, ...] = ()
    source: str = ""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how it ended; ``by`` is who said no or dropped it, where that is known."""

    leg: LegName
    netns: str
    link: str | None = None
    by: str | None = None
    says: str = ""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was traced."""

    source: str
    target: str
    protocol: str
    ip: IP
    port: int
    source_ip: IP | None = None
    source_port: int = 0
    service: str | None = None  # ``default/web:http``, where the target is one's


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """One traced connection."""

    asked: Asked
    disposition: Disposition
    outcome: str  # as the client saw it: answered, timeout, refused, unreachable, error
    ended: Ended
    legs: tuple[Leg, ...]
    tracked: tuple[Tracked, ...] = ()
    cause: Cause | None = None  # None: it works
    answer: str = ""  # the first line of what was answered
    seconds: float = 0.0
    packets: int = 0  # packets of the connection, each counted once
    notes: tuple[str, ...] = ()  # what could not be seen


def _at(address: IP, port: int) -> str:
    if not port:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def at(address: IP, port: int) -> str:
    """``10.0.0.1:80``, ``[fd00::1]:80``, or the address alone for port 0."""
    return _at(address, port)
