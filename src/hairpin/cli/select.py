"""Which objects a command line means: kinds, names, namespace and labels.

What ``get``, ``describe`` and ``delete`` share: ``pods``, ``pods,svc``, ``pod foo bar``,
``pod/foo svc/web``, ``all``, with ``-n``, ``-A`` and ``-l``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from hairpin.cli.kinds import ALL, NAMESPACED, UNLABELLED, shown_kind
from hairpin.lab.session import LabError
from hairpin.present.objects import name_of

Fetch = Callable[[str], list[dict[str, Any]]]
"""All objects of a kind."""


class Asked(NamedTuple):
    """A kind and the names asked for; no names is all of them."""

    kind: str
    names: tuple[str, ...] = ()


def arguments(parser: argparse.ArgumentParser) -> None:
    """``-n``, ``-A`` and ``-l``."""
    parser.add_argument(
        "-n", "--namespace", default="default", help="objects of this namespace (default: default)"
    )
    parser.add_argument(
        "-A", "--all-namespaces", action="store_true", help="objects of every namespace"
    )
    parser.add_argument(
        "-l",
        "--selector",
        default="",
        metavar="LABELS",
        help="objects with these labels: app=web,tier!=db,env in (a,b),!old",
    )


def asked(words: list[str]) -> list[Asked]:
    """What the words of a command line name, in their order.  Raises LabError.

    Nothing named is an empty list.
    """
    if not words:
        return []
    if any("/" in word for word in words):
        return _by_slash(words)
    kinds: list[str] = []
    for word in words[0].split(","):
        for kind in ALL if word.lower() == "all" else (shown_kind(word),):
            if kind not in kinds:
                kinds.append(kind)
    return [Asked(kind, tuple(dict.fromkeys(words[1:]))) for kind in kinds]


def _by_slash(words: list[str]) -> list[Asked]:
    found: dict[str, list[str]] = {}
    for word in words:
        kind, slash, name = word.partition("/")
        if not slash or not kind or not name:
            raise LabError(
                f"{word}: not KIND/NAME like the others", "name all in the same way", exit_code=2
            )
        names = found.setdefault(shown_kind(kind), [])
        if name not in names:
            names.append(name)
    return [Asked(kind, tuple(names)) for kind, names in found.items()]


class Scope:
    """The part of a lab's objects that a command is about."""

    def __init__(self, namespace: str, everywhere: bool, selector: str) -> None:
        """Raises LabError for what is no selector."""
        self.namespace = namespace
        self.everywhere = everywhere
        self.selector = selector
        self._selects: Callable[[dict[str, str]], bool] | None = None
        if selector:
            from hairpin.model.selector import SelectorError, parse

            try:
                self._selects = parse(selector).matches
            except SelectorError as error:
                remedy = "like -l 'app=web,tier!=db,env in (a,b),!old'"
                raise LabError(f"-l: {error}", remedy, exit_code=2) from None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Scope:
        """From the arguments that ``arguments`` added.  Raises LabError."""
        return cls(arguments.namespace, arguments.all_namespaces, arguments.selector)

    def check(self, wanted: list[Asked]) -> None:
        """Raises LabError for names and labels that do not go together."""
        for kind, names in wanted:
            if self._selects and names:
                raise LabError("names and -l do not go together", "leave one out", exit_code=2)
            if self._selects and kind in UNLABELLED:
                raise LabError(f"{kind} have no labels", "leave -l out", exit_code=2)
            if names and self.everywhere and kind in NAMESPACED:
                raise LabError("names and -A do not go together", "say -n NAMESPACE", exit_code=2)

    def has(self, kind: str, one: dict[str, Any]) -> bool:
        """Whether an object is in the namespace and has the labels."""
        if kind in UNLABELLED:
            return True
        metadata = one["metadata"]
        if kind in NAMESPACED and not self.everywhere and metadata["namespace"] != self.namespace:
            return False
        return not self._selects or self._selects(metadata.get("labels") or {})

    def place(self, kind: str) -> str:
        """Where was looked, for people: `` in namespace default``."""
        return (
            "" if self.everywhere or kind not in NAMESPACED else f" in namespace {self.namespace}"
        )


def chosen(
    fetch: Fetch, one: Asked, scope: Scope, *, lenient: bool = False
) -> list[dict[str, Any]]:
    """The objects meant, in the order of their names if any were given.

    A name that is nobody's raises LabError, or is passed over where ``lenient``.
    """
    found = [each for each in fetch(one.kind) if scope.has(one.kind, each)]
    if not one.names:
        return found
    by_name: dict[str, list[dict[str, Any]]] = {}
    for each in found:
        by_name.setdefault(name_of(one.kind, each), []).append(each)
    for name in one.names:
        if name not in by_name and not lenient:
            raise LabError(
                f"there is no {name} among the {one.kind}{scope.place(one.kind)}",
                _known(by_name),
                exit_code=2,
            )
    return [each for name in one.names for each in by_name.get(name, [])]


def _known(names: dict[str, Any]) -> str | None:
    """The names there are, as far as a line holds them."""
    if not names:
        return None
    shown = list(names)[:8]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"there are: {', '.join(shown)}{more}"
