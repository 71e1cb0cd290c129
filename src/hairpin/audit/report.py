"""What an audit comes to, as values."""

from __future__ import annotations

from typing import Literal

import msgspec

from hairpin.state.change import Object
from hairpin.state.conntrack import Flow

What = Literal["missing", "extra", "wrong", "leftover", "stale"]
"""missing: it is to be there.  extra: nobody wants it.  wrong: it is there otherwise.  leftover: of
another mode.  stale: a connection that is remembered where nobody serves any more."""

WHATS: tuple[What, ...] = ("missing", "wrong", "extra", "leftover", "stale")

CLEAN, FINDINGS, NOT_JUDGED = 0, 1, 2
"""Exit codes."""


class Differs(msgspec.Struct, frozen=True):
    """One property that is otherwise than it should be, as texts; "" for none."""

    field: str
    seen: str
    expected: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing of the kernel that is not as Services ask.

    ``subject`` names it in a few words; ``object`` is its value (of a leftover the first of
    ``count``).  ``owner`` is who asked for it, or who asks for what it is about: ``service
    default/web:http``, ``proxy`` for what all Services share, "" where nobody can be named;
    ``shared`` are others that ask for the same.  ``consequence`` is one sentence about traffic,
    ``mend`` are shell lines for the node.
    """

    what: What
    subject: str
    owner: str
    consequence: str
    object: Object | Flow | None = None
    differs: tuple[Differs, ...] = ()
    shared: tuple[str, ...] = ()
    mend: tuple[str, ...] = ()
    count: int = 1


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something about the node that traffic depends on, and that is no proxy's: it changes no
    exit code.  ``subject`` is a setting or object, ``seen`` its value."""

    subject: str
    seen: str
    consequence: str
    mend: tuple[str, ...] = ()


class NotJudged(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the kernel that could not be judged: what, why.

    ``needed``: without it nobody can say that the node is as it should be.
    """

    part: str
    why: str
    needed: bool = True


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """An audit of one node.  ``judged`` counts objects that were compared, by kind."""

    node: str
    mode: str
    findings: tuple[Finding, ...] = ()
    notes: tuple[Note, ...] = ()
    not_judged: tuple[NotJudged, ...] = ()
    problems: tuple[str, ...] = ()  # what Services say and no proxy can serve
    judged: dict[str, int] = {}

    @property
    def exit_code(self) -> int:
        """Findings are certain whatever else could not be judged."""
        if self.findings:
            return FINDINGS
        return NOT_JUDGED if any(one.needed for one in self.not_judged) else CLEAN
