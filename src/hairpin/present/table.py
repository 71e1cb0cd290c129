"""Tables as kubectl prints them: columns three spaces apart, nothing drawn."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a header, each column as wide as its widest cell."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(width(line[index]) for line in lines) for index in range(len(header))]
    return "\n".join(
        "   ".join(pad(cell, room) for cell, room in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def width(text: str) -> int:
    """Terminal columns: Chinese characters take two."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def pad(text: str, room: int) -> str:
    """``text`` with spaces up to ``room`` columns."""
    return text + " " * (room - width(text))


def age(seconds: float) -> str:
    """A duration as kubectl says it: 45s, 12m, 3h, 2d."""
    whole = int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if whole >= 2 * size or (unit != "m" and whole >= size):
            return f"{whole // size}{unit}"
    return f"{whole}s"
