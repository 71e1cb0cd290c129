"""What can be wrong with a link."""

from __future__ import annotations

import msgspec


class Impairment(msgspec.Struct, frozen=True, kw_only=True):
    """Of one link, in both directions: seconds of delay, per cent of packets lost."""

    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    mtu: int | None = None
    down: bool = False

    @property
    def words(self) -> str:
        """As ``hairpin set`` takes it."""
        said = [
            *([f"delay={_milliseconds(self.delay)}"] if self.delay else []),
            *([f"jitter={_milliseconds(self.jitter)}"] if self.jitter else []),
            *([f"loss={self.loss:g}%"] if self.loss else []),
            *([f"mtu={self.mtu}"] if self.mtu else []),
            *(["down"] if self.down else []),
        ]
        return " ".join(said) or "none"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:g}ms"
