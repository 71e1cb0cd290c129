"""Making the kernel hold what the lab itself wants: in parts, and with what was refused said.

What Services ask of the nodes is not here: that is their proxies' (``lab.proxies``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from hairpin.kernel.apply import Failed, Kernel
from hairpin.lab import names, topology
from hairpin.lab.namespaces import Namespaces
from hairpin.lab.proxies import Refused
from hairpin.lab.session import LabError
from hairpin.lab.turns import Stage, at_once
from hairpin.plan.diff import diff
from hairpin.state.change import Change, KernelState, Wanted
from hairpin.state.links import Link
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
        yield from self._apply(changes, failed)
        _raise(failed)

    def become(self, wanted: KernelState, changes: Sequence[Change]) -> Iterator[Stage]:
        """Applies the Changes that lead to ``wanted``; ``held`` is what came of it.

        Raises as ``apply``.
        """
        failed: list[Failed] = []
        if moved := _moved(changes):
            left = KernelState(one for one in self.held if not _is_of(one, moved))
            yield from self._apply(diff(left, self.held), failed)
            self.held = _come_of(left, self.held, failed) if failed else left
            changes = diff(wanted, self.held)
        yield from self._apply(changes, failed)
        self.held = _come_of(wanted, self.held, failed) if failed else wanted
        _raise(failed)

    def _apply(self, changes: Sequence[Change], failed: list[Failed]) -> Iterator[Stage]:
        done = 0
        for piece in _pieces(changes):
            failed += self._kernel.apply(piece)
            self._namespaces.forget(piece)
            done += len(piece)
            yield Stage("building Pods and Services", done, len(changes))

    def bare_nodes(self, nodes: Sequence[str]) -> None:
        """Makes nodes with an uplink and nothing else, for a story that builds the rest.

        Raises LabError.
        """
        state = topology.uplinks(list(nodes))
        self._namespaces.make_nodes(nodes)
        at_once(self.become(state, diff(state, self.held)))


def _moved(changes: Sequence[Change]) -> set[str]:
    """The namespaces whose link is to lead to another node now: of Pods that come back there.

    The far end of a link cannot be sent elsewhere together with its name, so that all of such a
    namespace is made anew, as it is for any Pod.
    """
    return {
        one.netns
        for one in changes
        if isinstance(one.object, Link)
        and isinstance(one.before, Link)
        and one.object.name == names.POD_LINK
        and one.object.peer_netns != one.before.peer_netns
    }


def _is_of(one: Wanted, namespaces: Collection[str]) -> bool:
    """Whether something is in one of the namespaces, or the far end of a link into it."""
    inside = one.netns in namespaces
    return inside or (isinstance(one.object, Link) and one.object.peer_netns in namespaces)


def _come_of(wanted: KernelState, held: KernelState, failed: Sequence[Failed]) -> KernelState:
    """What is held when those Changes failed on the way: what they were about is as before."""
    missed = {(one.change.netns, one.change.object.key) for one in failed}
    there = [one for one in wanted if (one.netns, one.object.key) not in missed]
    before = [one for one in held if (one.netns, one.object.key) in missed]
    return KernelState([*there, *before])


def _raise(failed: Sequence[Failed]) -> None:
    if failed:
        raise _refusal([_say(one) for one in failed[:_SHOWN]], len(failed))


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
