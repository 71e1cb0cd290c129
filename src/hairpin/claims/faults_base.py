"""What a fault is: something broken on purpose, what a trace has to name, and how it is put back.

Faults are made with plain commands in the namespaces of a lab, or by objects that say the wrong
thing, so that a trace judges the kernel and does not remember what hairpin did.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from hairpin.claims.base import Text
from hairpin.claims.tracing import Question

Manifest = dict[str, Any]
Mode = Literal["ipvs", "iptables", "nftables"]


class Shell(msgspec.Struct, frozen=True):
    """A command line for ``sh``, run in a namespace of the lab."""

    netns: str
    line: str


class Switch(msgspec.Struct, frozen=True):
    """Ingredients set, as by ``hairpin set``; those that this proxy mode lacks are left out."""

    ingredients: dict[str, str]


class Objects(msgspec.Struct, frozen=True):
    """Objects applied; ``delete``: references of those that go (``Pod default/foo``)."""

    manifests: tuple[Manifest, ...] = ()
    delete: tuple[str, ...] = ()
    grace: int = 0  # seconds that Pods get to end
    settle: float = 0.0  # seconds to wait afterwards


class Connect(msgspec.Struct, frozen=True):
    """A connection made beforehand, whose memory the fault needs."""

    question: Question


class Fill(msgspec.Struct, frozen=True):
    """The connection table of all nodes may hold so many, and holds them; 0: as it was made.

    Only the kernel's first network namespace can set it, which is the lab process's.
    """

    held: int


Act = Shell | Switch | Objects | Connect | Fill


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing broken.

    ``acts`` break it, ``causes`` are the ids that a trace of ``ask`` may name, ``undo`` puts back
    what the printed mend leaves.  ``mends``: the printed mend is all that is needed; where it is
    False, why not is in ``note``.  ``modes``: in which proxy modes there can be such a thing.
    """

    id: str
    says: Text
    acts: tuple[Act, ...]
    ask: Question
    causes: tuple[str, ...]
    undo: tuple[Act, ...] = ()
    mends: bool = True
    note: str = ""
    modes: tuple[Mode, ...] = ("ipvs", "iptables", "nftables")
