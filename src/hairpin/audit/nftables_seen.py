"""One family's nftables table as it is and as it should be."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from hairpin.audit.case import Case
from hairpin.audit.owners import named
from hairpin.plan import nft_names as names
from hairpin.state.base import KernelObject
from hairpin.state.change import Wanted
from hairpin.state.nftables import (
    NftElement,
)


class Table:
    """One family's table, held against what is wanted of it."""

    def __init__(
        self,
        case: Case,
        family: str,
        wanted: dict[tuple[object, ...], Wanted],
        seen: Sequence[KernelObject],
    ) -> None:
        self.case = case
        self.family = family
        self.at = f"{family} {names.TABLE}"
        self.wanted = wanted
        self.seen = seen
        self.gone: set[str] = set()  # sets that are missing, with all that is in them

    def of(self, kind: type) -> dict[tuple[object, ...], Wanted]:
        """What is wanted of a kind, by the object's key."""
        return {key: one for key, one in self.wanted.items() if isinstance(one.object, kind)}

    def inside(self, name: str) -> list[Wanted]:
        """What is wanted in a set."""
        return [
            one
            for one in self.wanted.values()
            if isinstance(one.object, NftElement) and one.object.set == name
        ]


def command(text: str) -> str:
    """A line for the shell."""
    return f"nft {shlex.quote(text)}"


def endpoint_owner(name: str) -> str:
    """Of ``affinity-HASH-ns/name/tcp/port__10.0.0.1/80`` too."""
    return named(name.partition("__")[0])
