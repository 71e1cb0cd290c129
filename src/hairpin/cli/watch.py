"""``hairpin get -w``: first what there is, then a row whenever an object changes."""

from __future__ import annotations

import argparse
import json
from typing import Any

from hairpin.cli.get import columns, structured
from hairpin.cli.kinds import singular
from hairpin.cli.select import Asked, Scope
from hairpin.cli.terminal import paint
from hairpin.lab.session import EVENT
from hairpin.present.objects import name_of
from hairpin.present.table import lines, widths
from hairpin.world.client import Client

_EVENTS = ("ADDED", "MODIFIED", "DELETED")


def watch(client: Client, asked: Asked, scope: Scope, arguments: argparse.Namespace) -> int:
    """Prints changes until Ctrl-C or until the lab ends.  Raises LabError."""
    rows = _Rows(asked, scope, arguments)
    first: list[tuple[str, dict[str, Any]]] = []
    synced = False
    with client.stream("watch", kind=asked.kind) as conversation:
        for kind, payload in conversation.frames():
            if kind != EVENT:
                continue
            event = json.loads(payload)
            if event["type"] == "SYNCED":
                synced = True
                rows.start(first, shown=not arguments.watch_only)
            elif not synced:
                first.append((event["type"], event["object"]))
            else:
                rows.show([(event["type"], event["object"])])
            if synced:
                print(end="", flush=True)
    return 0


class _Rows:
    """The rows that were printed, and so how wide the next ones are."""

    def __init__(self, asked: Asked, scope: Scope, arguments: argparse.Namespace) -> None:
        self._asked = asked
        self._scope = scope
        self._arguments = arguments
        self._known: set[tuple[str, str]] = set()
        self._rooms: list[int] = []

    def start(self, found: list[tuple[str, dict[str, Any]]], *, shown: bool) -> None:
        """What there is already; remembered without being printed where not ``shown``."""
        chosen = self._chosen(found)
        if shown:
            self._print(chosen)

    def show(self, found: list[tuple[str, dict[str, Any]]]) -> None:
        """What has changed."""
        self._print(self._chosen(found))

    def _chosen(self, found: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
        """Those that were asked for.

        One whose labels changed so that it is no longer selected counts as deleted, as it does
        in Kubernetes.
        """
        kept = []
        for event, one in found:
            name = name_of(self._asked.kind, one)
            if self._asked.names and name not in self._asked.names:
                continue
            key = (one.get("metadata", {}).get("namespace", one.get("node", "")), name)
            here = self._scope.has(self._asked.kind, one) and event != "DELETED"
            if not here and key not in self._known:
                continue
            said = event if here else "DELETED"
            if here and key not in self._known:
                said = "ADDED"
            (self._known.add if here else self._known.discard)(key)
            kept.append((said, one))
        return kept

    def _print(self, found: list[tuple[str, dict[str, Any]]]) -> None:
        if not found:
            return
        form = self._arguments.output
        events = self._arguments.output_watch_events
        if form in ("json", "yaml"):
            for event, one in found:
                shown = {"type": event, "object": one} if events else one
                print(("---\n" if form == "yaml" else "") + structured([shown], form, alone=True))
        elif form == "name":
            for _, one in found:
                print(f"{singular(self._asked.kind)}/{name_of(self._asked.kind, one)}")
        else:
            self._table(found, events)

    def _table(self, found: list[tuple[str, dict[str, Any]]], events: bool) -> None:
        header: list[str] = []
        rows: list[list[str]] = []
        for event, one in found:
            header, some = columns(self._asked.kind, [one], self._scope, self._arguments)
            if events:
                header = ["EVENT", *header]
                some = [[event, *row] for row in some]
            elif event == "DELETED":
                _mark_gone(header, some)
            rows += some
        printed = []
        if not self._rooms:
            room = len(max(_EVENTS, key=len)) if events else 0
            self._rooms = widths([header, *rows])
            self._rooms[0] = max(self._rooms[0], room)
            if not self._arguments.no_headers:
                printed = lines([header], self._rooms)
        new = widths([self._rooms_as_cells(), *rows])
        self._rooms = new
        print("\n".join([*printed, *lines(rows, new, header, paint())]))

    def _rooms_as_cells(self) -> list[str]:
        return [" " * room for room in self._rooms]


def _mark_gone(header: list[str], rows: list[list[str]]) -> None:
    """Where a column says how an object is, that it is going says most."""
    if "STATUS" in header:
        for row in rows:
            row[header.index("STATUS")] = "Terminating"
