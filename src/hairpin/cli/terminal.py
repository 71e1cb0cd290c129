"""What the terminal takes: colour, and the times people type."""

from __future__ import annotations

import os
import re
import sys

from hairpin.lab.session import LabError

TYPE_CHECKING = False  # typing is not imported for it
if TYPE_CHECKING:
    from typing import TextIO

    from hairpin.present.colour import Paint

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DAY = 86400.0


def is_terminal(stream: TextIO | None) -> bool:
    """Whether it is a terminal; a stream that was closed before the start (None) is none."""
    return stream is not None and stream.isatty()


def colours() -> bool:
    """Whether standard output shows colour: a terminal, and not switched off.

    NO_COLOR with any text in it switches it off (no-color.org), and so does TERM=dumb.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return is_terminal(sys.stdout)


def columns() -> int:
    """How wide standard output is; 0 where it is no terminal."""
    if not is_terminal(sys.stdout):
        return 0
    from shutil import get_terminal_size

    return get_terminal_size(fallback=(0, 0)).columns


def paint() -> Paint | None:
    """How tables are coloured here; None: not at all."""
    if not colours():
        return None
    from hairpin.present.colour import paint as painted

    return painted


def duration(text: str) -> float:
    """Seconds from ``30``, ``30s``, ``1m30s``, ``500ms``; at most a day.

    Raises LabError, which argparse is not to see.
    """
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|$)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text or len(text) > 20:
        raise LabError(f'"{text}" is not a time', "like 30s, 2m or 1m30s", exit_code=2)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds > _DAY:
        raise LabError(f"{text} is more than a day", "like 30s, 2m or 1m30s", exit_code=2)
    return seconds
