"""What all parts of an audit look at: what is wanted, what is there, whose it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from hairpin.audit.held import Held
from hairpin.audit.owners import Owners
from hairpin.audit.report import Differs
from hairpin.model.address import to_builtin
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.plan.node import NodeFacts
from hairpin.plan.whole import WholePlan
from hairpin.present.phrase import phrase
from hairpin.present.shell import commands
from hairpin.state.base import KernelObject
from hairpin.state.change import Change, Object, Wanted

HERE = ""
T = TypeVar("T", bound=KernelObject)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One node.  ``plan`` is that of ``config.mode``."""

    held: Held
    plan: WholePlan
    config: KubeProxyConfiguration
    node: NodeFacts
    owners: Owners

    def wanted(self, *kinds: type) -> dict[tuple[object, ...], Wanted]:
        """What is planned of some kinds, by the object's key."""
        return {one.object.key: one for one in self.plan if isinstance(one.object, kinds)}


def split(
    wanted: dict[tuple[object, ...], Wanted], seen: Iterable[T]
) -> tuple[list[Wanted], list[tuple[Wanted, T]], list[T]]:
    """What is not there; what is, with what is seen of it; what nobody wants."""
    both: list[tuple[Wanted, T]] = []
    extra: list[T] = []
    met: set[tuple[object, ...]] = set()
    for one in seen:
        key = one.key
        want = wanted.get(key)
        if want is None:
            extra.append(one)
        else:
            met.add(key)
            both.append((want, one))
    missing = [one for key, one in wanted.items() if key not in met]
    return missing, both, extra


def differing(
    seen: KernelObject, wanted: KernelObject, fields: Sequence[str]
) -> tuple[Differs, ...]:
    """The fields in which two objects of one kind differ."""
    return tuple(
        Differs(name.replace("_", " "), _text(have), _text(want))
        for name in fields
        if (have := getattr(seen, name)) != (want := getattr(wanted, name))
    )


def add(one: Wanted) -> tuple[str, ...]:
    """The commands that make it."""
    return _lines(Change(verb="add", netns=HERE, object=one.object))


def set_to(one: Wanted, before: Object) -> tuple[str, ...]:
    """The commands that make it as it should be."""
    return _lines(Change(verb="set", netns=HERE, object=one.object, before=before))


def remove(*objects: Object) -> tuple[str, ...]:
    """The commands that take them away."""
    return tuple(
        line for one in objects for line in _lines(Change(verb="remove", netns=HERE, object=one))
    )


def _lines(change: Change) -> tuple[str, ...]:
    return tuple(commands(change, HERE))


def told(one: KernelObject) -> str:
    """The object in a few words."""
    return phrase(msgspec.to_builtins(one, enc_hook=to_builtin))


def many(count: int, word: str) -> str:
    """``1 entry``, ``2 entries``."""
    ending = {"y": "ies", "s": "ses"}.get(word[-1])
    plural = f"{word}s" if ending is None else f"{word[:-1]}{ending}"
    return f"{count} {word if count == 1 else plural}"


def _text(value: object) -> str:
    if value is None or value in ("", 0) or value == frozenset():
        return "0" if value == 0 and not isinstance(value, bool) else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, msgspec.Struct):
        shape = msgspec.to_builtins(value, enc_hook=to_builtin)
        return " ".join(f"{name} {inner}" for name, inner in shape.items() if inner)
    if isinstance(value, frozenset | tuple):
        return ",".join(sorted(map(str, value)))
    return str(value)
