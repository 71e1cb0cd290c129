"""Making the kernel hold what the lab itself wants: in parts, and with what was refused said.

What Services ask of the nodes is not here: that is their proxies' (``lab.proxies``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hairpin.kernel.apply import Failed, Kernel
from hairpin.lab import topology
from hairpin.lab.namespaces import Namespaces
from hairpin.lab.proxies import Refused
from hairpin.lab.session import LabError
from hairpin.lab.turns import Stage, at_once
from hairpin.plan.diff import diff
from hairpin.state.change import Change, KernelState
from hairpin.state.links import Netns as NetnsObject

_SHOWN = 5  # failures that an error names; the rest are counted
_PIECE = 64  # Changes before others can have a turn


class Building:
    """What the lab has built, and the way to more."""

    def __init__(self, kernel: Kernel, namespaces: Namespaces) -> None:
        self.held = KernelState()
        """What the kernel should hold by now."""
        self._kernel = kernel
        self._namespaces = namespaces

    def apply(self, changes: Sequence[Change]) -> Iterator[Stage]:
        """Applies Changes; ``held`` is the caller's to say.  Raises LabError at the end for all
        that the kernel refused: the rest is applied.
        """
        failed: list[Failed] = []
        done = 0
        for piece in _pieces(changes):
            failed += self._kernel.apply(piece)
            done += len(piece)
            yield Stage("building Pods and Services", done, len(changes))
        self._namespaces.forget(changes)
        if failed:
            raise _refusal([_say(one) for one in failed[:_SHOWN]], len(failed))

    def bare_nodes(self, nodes: Sequence[str]) -> None:
        """Makes nodes with an uplink and nothing else, for a story that builds the rest.

        Raises LabError.
        """
        state = topology.uplinks(list(nodes))
        self._namespaces.make_nodes(nodes)
        at_once(self.apply(diff(state, self.held)))
        self.held = state


def refuse(refused: Refused) -> None:
    """Raises LabError for what the kernel would not do for the proxies."""
    if refused.count:
        raise _refusal(refused.said[:_SHOWN], refused.count)


def _refusal(said: Sequence[str], count: int) -> LabError:
    more = [f"and {count - len(said)} more"] if count > len(said) else []
    return LabError("the kernel refused: " + "; ".join([*said, *more]))


def _say(failed: Failed) -> str:
    change = failed.change
    return f"{change.verb} {change.object} in {change.netns}: {failed.error}"


def _pieces(changes: Sequence[Change]) -> Iterator[Sequence[Change]]:
    """The Changes in parts, between which others can have a turn.

    Cut where the namespace changes: what goes out together stays together.
    """
    start = 0
    for position in range(_PIECE, len(changes)):
        here, before = changes[position], changes[position - 1]
        apart = here.netns != before.netns or isinstance(here.object, NetnsObject)
        if position - start >= _PIECE and apart:
            yield changes[start:position]
            start = position
    yield changes[start:]
