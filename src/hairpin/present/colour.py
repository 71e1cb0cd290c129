"""Colour for what a person looks for in a table: what is well, waits or has failed."""

from __future__ import annotations

from collections.abc import Callable

Paint = Callable[[str, str], str]
"""A cell in its column's colour: column heading and text, to text with escapes or without."""

_GREEN, _YELLOW, _RED, _DIM = "32", "33", "31", "2"

_WORDS = {
    "Running": _GREEN,
    "Ready": _GREEN,
    "Active": _GREEN,
    "ESTABLISHED": _GREEN,
    "Succeeded": _DIM,
    "Completed": _DIM,
    "<none>": _DIM,
    "<unset>": _DIM,
    "on": _GREEN,
    "off": _YELLOW,
    "mixed": _YELLOW,
    "absent": _DIM,
    "n/a": _DIM,
    "Pending": _YELLOW,
    "ContainerCreating": _YELLOW,
    "Terminating": _YELLOW,
    "NotReady": _RED,
    "Failed": _RED,
    "Error": _RED,
    "CrashLoopBackOff": _RED,
    "none: refused": _RED,
    "yes": _GREEN,
    "no": _YELLOW,
}
_COLUMNS = (
    "STATUS", "READY", "VALUE", "STATE", "ENDPOINTS", "NOT-READY", "TAKEN", "SYNCED", "PENDING",
)  # fmt: skip


def paint(column: str, cell: str) -> str:
    """The cell in the colour of what it says, where its column has one."""
    if column not in _COLUMNS:
        return cell
    code = _count(cell) if column == "READY" else _WORDS.get(cell)
    return f"\033[{code}m{cell}\033[0m" if code else cell


def _count(cell: str) -> str | None:
    """``1/2``: how many of how many are ready."""
    ready, slash, all_of = cell.partition("/")
    if not slash:
        return _WORDS.get(cell)
    return _GREEN if ready == all_of else _YELLOW
