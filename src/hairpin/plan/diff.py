"""Two states to the Changes between them.

Additions come in the order in which the wanted state lists them (what a thing stands on comes
first), removals in the reverse order and after the additions, so that at no moment both the old
and the new are missing.
"""

from __future__ import annotations

from hairpin.state.change import Change, KernelState
from hairpin.state.ipvs import Timeouts
from hairpin.state.links import Link, Netns
from hairpin.state.netfilter import ChainPolicy
from hairpin.state.sysctl import Sysctl


def diff(wanted: KernelState, held: KernelState) -> list[Change]:
    """The Changes that make ``wanted`` of ``held``; empty when they are the same."""
    changes: list[Change] = []
    made: set[tuple[str, str]] = set()
    for want in wanted:
        have = held.get(want.netns, want.object.key)
        if have is not None and have.object == want.object:
            continue
        verb, before = ("add", None) if have is None else ("set", have.object)
        match want.object:
            case Sysctl() | ChainPolicy() | Timeouts():
                verb = "set"  # they always exist
            case Link() as link if have is None and (want.netns, link.name) in made:
                verb, before = "set", _bare(link)  # came with its other end
            case Link(peer=str() as peer, peer_netns=str() as there):
                made.add((there, peer))
        changes.append(
            Change(
                verb="set" if verb == "set" else "add",
                netns=want.netns,
                object=want.object,
                before=before,
                reason=f"{want.owner}: {want.why}",
            )
        )
    return changes + _removals(wanted, held)


def _bare(link: Link) -> Link:
    """A veth end as the kernel makes it together with the other end."""
    return Link(
        name=link.name, type=link.type, up=False, peer=link.peer, peer_netns=link.peer_netns
    )


def _removals(wanted: KernelState, held: KernelState) -> list[Change]:
    extra = [have for have in held if wanted.get(have.netns, have.object.key) is None]
    gone = {have.object.name for have in extra if isinstance(have.object, Netns)}
    dropped: set[tuple[str | None, str | None]] = set()
    changes: list[Change] = []
    for have in reversed(extra):
        match have.object:
            case Sysctl() | ChainPolicy() | Timeouts():
                continue  # nothing is wanted of them any more; they cannot cease to exist
            case Link(type="veth") as link:
                # One end takes the other along. It is removed by itself even where its namespace
                # goes: the kernel empties namespaces later, and the name may be wanted at once.
                if (have.netns, link.name) in dropped:
                    continue
                dropped.add((link.peer_netns, link.peer))
            case Netns():
                pass
            case _ if have.netns in gone:
                continue
        reason = f"{have.owner}: no longer wanted"
        changes.append(Change(verb="remove", netns=have.netns, object=have.object, reason=reason))
    return changes
