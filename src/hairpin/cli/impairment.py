"""What ``hairpin set link/NAME`` is told: ``delay=50ms loss=1% mtu=1400 down``."""

from __future__ import annotations

import re
from typing import Any

from hairpin.lab.session import LabError

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1e-3}
_WORDS = "delay=50ms, jitter=5ms, loss=1%, mtu=1400, down, up, notice=5s, none"


def settings(words: list[str]) -> dict[str, Any]:
    """Settings for the lab; empty for ``none``.  Raises LabError."""
    if words == ["none"]:
        return {}
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if word in ("down", "up"):
            found["down"] = word == "down"
        elif equals and name in ("delay", "jitter", "notice"):
            found[name] = _seconds(word, value)
        elif equals and name == "loss":
            found["loss"] = _percent(word, value)
        elif equals and name == "mtu":
            found["mtu"] = _bytes(word, value)
        else:
            raise LabError(f"{word}: no state of a link", f"one of {_WORDS}", exit_code=2)
    if not found:
        raise LabError("say what the link is to be", f"some of {_WORDS}", exit_code=2)
    return found


def _seconds(word: str, value: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|)", value)
    if match is None:
        raise LabError(f"{word}: no time", f"like {word.partition('=')[0]}=50ms", exit_code=2)
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > 60:
        raise LabError(f"{word}: more than a minute", exit_code=2)
    return seconds


def _bytes(word: str, value: str) -> int:
    """From what IPv4 needs (RFC 791) to the most that a veth takes."""
    if not value.isdecimal() or not 68 <= int(value) <= 65535:
        raise LabError(f"{word}: not from 68 to 65535 bytes", "like mtu=1400", exit_code=2)
    return int(value)


def _percent(word: str, value: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%?", value)
    if match is None or float(match[1]) > 100:
        raise LabError(f"{word}: not from 0% to 100%", "like loss=1%", exit_code=2)
    return float(match[1])
