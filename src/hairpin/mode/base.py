"""What every proxy mode can do, and the one that a configuration asks for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

import msgspec

from hairpin.kernel.apply import Failed, Kernel
from hairpin.kernel.errors import KernelError
from hairpin.mode.wants import Adjust, Differences, Wants
from hairpin.model.address import IP
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.plan.node import NodeFacts
from hairpin.state.change import Change, Object
from hairpin.state.ipvs import RealServer


class Compared(msgspec.Struct, frozen=True):
    """The kernel held against what is wanted.

    ``strays`` are real servers of wanted virtual servers that nobody wants: IPVS alone has any.
    ``unread`` says, by kind, what could not be read; of these everything wanted is among the
    differences.
    """

    differences: Differences
    strays: list[RealServer]
    unread: dict[str, KernelError]


class Mode(Protocol):
    """One network namespace programmed in one mode.  Holds nothing of what it did."""

    kernel: Kernel
    netns: str

    def desired(self, node: NodeFacts, adjust: Adjust | None = None) -> Wants:
        """Nothing but the frame so far; put Services into it."""
        ...

    def node_addresses(self) -> list[IP]:
        """The node's own addresses.  Raises KernelError."""
        ...

    def observe(self) -> list[Object]:
        """What of ours the kernel holds, settings left out.  Raises KernelError."""
        ...

    def compare(self, wants: Wants) -> Compared:
        """How the kernel differs from what is wanted.  Does not raise for the kernel."""
        ...

    def differences(self, wants: Wants) -> list[Change]:
        """The Changes that would bring the kernel there, nothing of it applied.

        Raises KernelError when the kernel cannot be read.
        """
        ...

    def apply(self, differences: Differences) -> list[Failed]:
        """Applies all that can be; gives what is not so.  Does not raise for the kernel."""
        ...

    def clean_up(self, kept: Collection[str] = ()) -> tuple[list[Change], list[Failed]]:
        """Removes exactly what is ours: what was tried, and what of it could not be done.

        ``kept`` are the places that another mode has taken over by now (``places``).  Settings
        stay as they are.  Raises KernelError when the kernel cannot be read.
        """
        ...


def mode_of(
    kernel: Kernel, netns: str, config: KubeProxyConfiguration, *, takes_over: bool = False
) -> Mode:
    """By the configuration's mode; none is IPVS.  A mode is imported when it is asked for.

    ``takes_over``: another mode serves until this one does.  Raises ValueError for a configuration
    that cannot be.
    """
    match config.mode:
        case "iptables":
            from hairpin.mode.iptables import IptablesMode

            return IptablesMode(kernel, netns, config)
        case "nftables":
            from hairpin.mode.nftables import NftablesMode

            return NftablesMode(kernel, netns, config)
        case _:
            from hairpin.mode.ipvs import IpvsMode

            return IpvsMode(kernel, netns, config, takes_over=takes_over)


def places(objects: Iterable[Object]) -> set[str]:
    """Where these objects stand, for those whose names several modes use: iptables chains, and
    jumps to them."""
    found: set[str] = set()
    for one in objects:
        place = place_of(one)
        if place:
            found.add(place)
    return found


def place_of(one: Object) -> str:
    """``ip nat KUBE-SERVICES`` for a chain, ``ip nat PREROUTING KUBE-SERVICES`` for a jump, ""
    for all else."""
    kind, *rest = one.key
    if kind in ("chain", "dispatch-chain", "service-chain", "jump"):
        return " ".join(str(part) for part in rest)
    return ""
