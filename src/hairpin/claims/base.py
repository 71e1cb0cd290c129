"""What a claim is, and what runs it.

A step is a list of acts and claims in the order of the story: an act changes the lab, a claim
tries a connection and says what must come of it.  Values only; ``runner`` does the work.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hairpin.lab.probe import Outcome
from hairpin.model.address import IP
from hairpin.state.change import Change

Language = Literal["en", "zh"]


class Text(msgspec.Struct, frozen=True):
    """The same words in both languages."""

    en: str
    zh: str

    def said(self, language: Language) -> str:
        return self.zh if language == "zh" else self.en


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """An act: a server starts in a namespace and goes on running.

    ``prepare`` is run before it, in the node.  ``port`` is the TCP port that shows it is ready.
    """

    name: str
    netns: str
    argv: tuple[str, ...]
    port: int
    prepare: tuple[tuple[str, ...], ...] = ()


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One or more connections in a row from a namespace, one after the other."""

    netns: str
    ip: IP
    port: int
    times: int = 1
    timeout: float = 1.0  # seconds for each


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """Every connection is answered, by these servers in this order.

    ``rotation``: any rotation of the order will do, for a scheduler that goes on from where it
    stood.  ``server_saw``: the client's address as the server saw it.
    """

    by: tuple[str, ...]
    rotation: bool = False
    server_saw: IP | None = None


class Unanswered(msgspec.Struct, frozen=True, kw_only=True):
    """No connection is answered, and this is how it ends."""

    outcomes: tuple[Outcome, ...] = ("timeout",)


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A statement that one attempt can bear out or refute."""

    id: str
    says: Text
    attempt: Attempt
    expect: Answered | Unanswered


Act = Change | Start
Item = Act | Claim


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the story."""

    id: str
    title: Text
    items: tuple[Item, ...]

    @property
    def claims(self) -> list[Claim]:
        return [item for item in self.items if isinstance(item, Claim)]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A claim that has run."""

    claim: Claim
    held: bool
    expected: Text
    seen: Text
    seconds: float
