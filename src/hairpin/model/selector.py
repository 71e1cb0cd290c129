"""Label selectors: which labels an object must have (k8s.io/apimachinery/pkg/labels).

``app=web,tier!=db,env in (prod, test),zone notin (a),canary,!old,size>3``: all parts must hold.
Pure, and without msgspec: ``hairpin get`` stays quick to start.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from hairpin.model.names import label_key, label_value, quoted

Operator = Literal["exists", "absent", "in", "notin", "gt", "lt"]

_TOKEN = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+)")
_WORD = re.compile(r"[^\s=!(),<>]+")
_LIMIT = 64 * 1024  # characters; far above any selector that means something


class SelectorError(ValueError):
    """What is wrong with a selector, in a person's words."""


class Requirement(NamedTuple):
    """One part of a selector.

    ``values``: for in and notin the values, sorted, each once; for gt and lt one whole number.
    """

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels meets it; notin is met where the key is absent."""
        have = labels.get(self.key)
        match self.operator:
            case "exists":
                return have is not None
            case "absent":
                return have is None
            case "in":
                return have in self.values
            case "notin":
                return have not in self.values
        number = _number(have) if have is not None else None
        if number is None:
            return False
        bound = int(self.values[0])
        return number > bound if self.operator == "gt" else number < bound

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "absent":
                return f"!{self.key}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({','.join(self.values)})"
        return f"{self.key}{'>' if self.operator == 'gt' else '<'}{self.values[0]}"


class Selector(NamedTuple):
    """Requirements that must all hold; none at all selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(one.matches(labels) for one in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(one) for one in self.requirements)


def parse(text: str) -> Selector:
    """The selector that ``text`` says; an empty one selects everything.  Raises SelectorError."""
    if len(text) > _LIMIT:
        raise SelectorError(f"a selector of {len(text)} characters")
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != "".join(text.split()):
        raise SelectorError(f"{quoted(text)} is not a label selector")
    found: list[Requirement] = []
    rest = _Tokens(text, tokens)
    if rest.next is None:
        return Selector()
    while True:
        found.append(_requirement(rest))
        if rest.next is None:
            return Selector(tuple(found))
        rest.take(",")
        if rest.next is None:
            raise SelectorError(f"{quoted(text)}: something must follow the last comma")


class _Tokens:
    """What of a selector is still to be read."""

    def __init__(self, text: str, tokens: list[str]) -> None:
        self.text = text
        self._tokens = tokens
        self._at = 0

    @property
    def next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def take(self, wanted: str = "") -> str:
        """The next token; with ``wanted`` it must be that one.  Raises SelectorError."""
        token = self.next
        if token is None or (wanted and token != wanted):
            expected = f"{wanted} expected" if wanted else "more expected"
            at = f"before {token}" if token is not None else "at the end"
            raise SelectorError(f"{quoted(self.text)}: {expected} {at}")
        self._at += 1
        return token

    def word(self) -> str | None:
        """The next token if it is a name or value, and None where it is none."""
        token = self.next
        if token is None or not _WORD.fullmatch(token):
            return None
        self._at += 1
        return token


def _requirement(tokens: _Tokens) -> Requirement:
    if tokens.next == "!":
        tokens.take()
        return Requirement(_key(tokens), "absent")
    key = _key(tokens)
    match tokens.next:
        case None | ",":
            return Requirement(key, "exists")
        case "=" | "==":
            tokens.take()
            return Requirement(key, "in", (_value(tokens),))
        case "!=":
            tokens.take()
            return Requirement(key, "notin", (_value(tokens),))
        case "in":
            tokens.take()
            return Requirement(key, "in", _values(tokens))
        case "notin":
            tokens.take()
            return Requirement(key, "notin", _values(tokens))
        case "<" | ">" as sign:
            tokens.take()
            bound = tokens.take()
            if _number(bound) is None:
                raise SelectorError(f"{quoted(tokens.text)}: {bound} is not a whole number")
            return Requirement(key, "gt" if sign == ">" else "lt", (str(int(bound)),))
        case other:
            raise SelectorError(
                f"{quoted(tokens.text)}: = != in notin < > or a comma expected before {other}"
            )


def _key(tokens: _Tokens) -> str:
    key = tokens.take()
    if wrong := label_key(key):
        raise SelectorError(wrong)
    return key


def _value(tokens: _Tokens) -> str:
    value = tokens.word() or ""
    if wrong := label_value(value):
        raise SelectorError(wrong)
    return value


def _values(tokens: _Tokens) -> tuple[str, ...]:
    """``(a,b)``; between commas nothing is the empty value."""
    tokens.take("(")
    found = {_value(tokens)}
    while tokens.next == ",":
        tokens.take()
        found.add(_value(tokens))
    tokens.take(")")
    return tuple(sorted(found))


def _number(text: str) -> int | None:
    """A whole number of 64 bits, as Kubernetes compares them."""
    if not re.fullmatch(r"[-+]?[0-9]{1,19}", text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None
