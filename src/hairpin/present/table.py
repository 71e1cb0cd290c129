"""Tables as kubectl prints them: columns three spaces apart, nothing drawn."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

TYPE_CHECKING = False  # typing is not imported for it: ``hairpin get`` stays quick to start
if TYPE_CHECKING:
    from hairpin.present.colour import Paint


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    paint: Paint | None = None,
    headed: bool = True,
) -> str:
    """Rows under a header, each column as wide as its widest cell.

    ``paint`` colours the cells; without ``headed`` the header is left out.
    """
    rooms = widths([header, *rows] if headed else rows)
    first = lines([header], rooms) if headed else []
    return "\n".join([*first, *lines(rows, rooms, header, paint)])


def widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """How many terminal columns each column of these rows needs."""
    return [max(width(cell) for cell in column) for column in zip(*rows, strict=True)]


def lines(
    rows: Sequence[Sequence[str]],
    rooms: Sequence[int],
    header: Sequence[str] = (),
    paint: Paint | None = None,
) -> list[str]:
    """Each row as a line, its cells padded to ``rooms``; the last one is not."""
    made = []
    for row in rows:
        cells = [pad(cell, room) for cell, room in zip(row, rooms, strict=True)]
        line = "   ".join(cells).rstrip()
        if paint:
            line = _painted(row, cells, header, paint)
        made.append(line)
    return made


def _painted(row: Sequence[str], cells: Sequence[str], header: Sequence[str], paint: Paint) -> str:
    """The cells with their colours, which take no room; spaces at the end are left out."""
    last = max((index for index, cell in enumerate(row) if cell), default=-1)
    painted = []
    for index, (name, cell, padded) in enumerate(zip(header, row, cells, strict=True)):
        if index > last:
            break
        room = "" if index == last else padded[len(cell) :]
        painted.append(paint(name, cell) + room)
    return "   ".join(painted)


def width(text: str) -> int:
    """Terminal columns: Chinese characters take two."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def pad(text: str, room: int) -> str:
    """``text`` with spaces up to ``room`` columns."""
    return text + " " * (room - width(text))


def age(seconds: float) -> str:
    """A duration as kubectl says it: 45s, 12m, 3h, 2d."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= 2 * size or (unit != "m" and whole >= size):
            return f"{whole // size}{unit}"
    return f"{whole}s"
