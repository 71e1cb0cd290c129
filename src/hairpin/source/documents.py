"""YAML and JSON text to plain values, the way kubectl reads it, without its traps.

kubectl reads YAML 1.1 by way of JSON.  Where that gives a text another meaning than the one a
reader sees, this module asks for quotes instead of guessing: a number with a leading zero (octal
in YAML 1.1), ``on`` or ``yes`` as a key.  Dates and ``12:30`` stay text, as with kubectl.
Bounded in nesting, in the expansion of aliases and in size, so that no input can hang it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec
import yaml

from hairpin.model.errors import ManifestError
from hairpin.source.files import check_size

try:
    from yaml._yaml import CParser

    HAS_LIBYAML = True
except ImportError:
    HAS_LIBYAML = False

MAX_DEPTH = 100
"""Levels of nesting; Kubernetes' own objects have about 15."""
MAX_REPEATED = 100_000
"""Values that aliases may repeat in one document; long texts count for several."""

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9_]*)|0x[0-9a-fA-F_]+|0b[01_]+|0o[0-7_]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+(\.[0-9]*)?")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_WORDS = {"y": True, "yes": True, "on": True, "true": True}
_WORDS |= {"n": False, "no": False, "off": False, "false": False}
_BOOL = {form: said for word, said in _WORDS.items() for form in (word, word.title(), word.upper())}
_TAGS = {
    "tag:yaml.org,2002:str": "str",
    "tag:yaml.org,2002:map": "map",
    "tag:yaml.org,2002:seq": "seq",
}
_LONG = 256  # characters from which on a repeated text counts
_NUMBER_DIGITS = 40  # longer ones are no number of Kubernetes; Python refuses 4300 digits


class Document(msgspec.Struct, frozen=True):
    """One document of a file, as plain values, and the line it begins on, from 1."""

    value: Any
    line: int


def documents(data: bytes, name: str) -> list[Document]:
    """The documents of a text, without the empty ones.

    ``name`` stands for the file in errors.  Raises ManifestError with line and column.
    """
    text = _decoded(data, name)
    if text.lstrip()[:1] == "{":
        try:
            return list(_json_documents(text, name))
        except json.JSONDecodeError as error:
            if name.endswith(".json"):
                _fail(name, error.lineno, error.colno, f"not JSON: {error.msg}")
    return list(_yaml_documents(text, name))


def _decoded(data: bytes, name: str) -> str:
    check_size(data, name)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = error.start - (before.rfind(b"\n") + 1) + 1
        _fail(
            name,
            before.count(b"\n") + 1,
            column,
            f"not UTF-8 text: byte 0x{data[error.start]:02x}",
            "save the file as UTF-8",
        )


def _fail(name: str, line: int, column: int, message: str, remedy: str = "") -> NoReturn:
    """Raises the error with its place, line and column from 1."""
    raise ManifestError(message, where=f"{name}:{line}:{column}", remedy=remedy) from None


# JSON


def _json_documents(text: str, name: str) -> Iterator[Document]:
    """One JSON object after another.  Raises json.JSONDecodeError where it is no JSON."""
    start = 0
    line = 1
    escapes = "\\ud" in text or "\\uD" in text

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            # The first key that is not in its place among the distinct ones came before.
            in_order = iter(found)
            twice = next(key for key, _ in pairs if key != next(in_order, None))
            raise ManifestError(f'"{twice}" is there twice in a mapping', where=f"{name}:{line}")
        return found

    def constant(word: str) -> NoReturn:
        raise ManifestError(f"not JSON: {word}", where=f"{name}:{line}")

    decoder = json.JSONDecoder(
        object_pairs_hook=mapping, parse_constant=constant, parse_int=_json_integer
    )
    while begin := re.compile(r"\S").search(text, start):
        line += text.count("\n", start, begin.start())
        try:
            value, end = decoder.raw_decode(text, begin.start())
        except RecursionError:
            value, end = None, 0
        if not end or _deep(value):
            raise ManifestError(f"more than {MAX_DEPTH} levels deep", where=f"{name}:{line}")
        if escapes:
            _check_unicode(value, f"{name}:{line}")
        yield Document(value, line)
        line += text.count("\n", begin.start(), end)
        start = end


def _json_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _NUMBER_DIGITS else float(digits[:300])


def _check_unicode(value: Any, where: str) -> None:
    """JSON can write half a character (a lone surrogate), which no file or program takes."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ManifestError("not JSON: half of a \\u surrogate pair", where=where) from None


def _deep(value: Any) -> bool:
    """Whether it is nested more than MAX_DEPTH levels, without recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


# YAML


class _Guard:
    """The part of PyYAML's composer that hairpin replaces: tags, and a limit to nesting."""

    depth = 0

    def resolve(self, kind: type, value: object, implicit: tuple[bool, bool]) -> str:
        """The tag of a node that has none: whether a scalar is plain decides what it means."""
        if kind is yaml.ScalarNode:
            return "plain" if implicit[0] else "str"
        return "map" if kind is yaml.MappingNode else "seq"

    def descend_resolver(self, parent: yaml.Node | None, index: object) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            mark = parent.start_mark if parent else None
            raise yaml.MarkedYAMLError(
                problem=f"more than {MAX_DEPTH} levels deep", problem_mark=mark
            )

    def ascend_resolver(self) -> None:
        self.depth -= 1

    def check_resolver_prefix(self, *_: object) -> None:
        """Paths are not resolved."""


def _composer(text: str) -> Any:
    if HAS_LIBYAML:

        class Composer(_Guard, CParser):
            pass

        return Composer(text)
    from yaml.composer import Composer as PlainComposer
    from yaml.parser import Parser
    from yaml.reader import Reader
    from yaml.scanner import Scanner

    class Plain(_Guard, Reader, Scanner, Parser, PlainComposer):
        def __init__(self, stream: str) -> None:
            Reader.__init__(self, stream)
            Scanner.__init__(self)
            Parser.__init__(self)
            PlainComposer.__init__(self)

    return Plain(text)


def _yaml_documents(text: str, name: str) -> Iterator[Document]:
    try:
        composer = _composer(text)
        while composer.check_node():
            node = composer.get_node()
            value = _Builder(name).build(node)
            if value is not None:
                yield Document(value, node.start_mark.line + 1)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        _fail(name, line, column, f"not YAML: {error.problem or error.context}")
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = error.position - (before.rfind("\n") + 1) + 1
        message = f"not YAML: character #x{_codepoint(error.character):04x} is not allowed"
        _fail(name, before.count("\n") + 1, column, message)


def _codepoint(character: int | str | bytes) -> int:
    return character if isinstance(character, int) else ord(character)


class _Builder:
    """Plain values from the nodes of one document."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._seen: set[int] = set()
        self._repeated = 0
        self._depth = 0

    def build(self, node: yaml.Node) -> Any:
        match node:
            case yaml.ScalarNode():
                return self._scalar(node)
            case yaml.MappingNode() | yaml.SequenceNode():
                self._depth += 1
                self._check_collection(node)
                collection = isinstance(node, yaml.MappingNode)
                value = self._mapping(node) if collection else self._sequence(node)
                self._depth -= 1
                return value

    def _check_collection(self, node: yaml.CollectionNode) -> None:
        expected = "map" if isinstance(node, yaml.MappingNode) else "seq"
        if _TAGS.get(node.tag, node.tag) != expected:
            self._fail(node, f"the tag {_tag(node)} means nothing here")
        self._count_again(node, 1 + len(node.value))

    def _count_again(self, node: yaml.Node, size: int) -> None:
        """Bounds what aliases can make of a small text."""
        if id(node) in self._seen:
            self._repeated += size
        self._seen.add(id(node))
        if self._repeated > MAX_REPEATED or self._depth > MAX_DEPTH:
            self._fail(node, "aliases make too much of this")

    def _sequence(self, node: yaml.Node) -> list[Any]:
        return [self.build(inner) for inner in node.value]

    def _mapping(self, node: yaml.Node) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == "plain" and key_node.value == "<<":
                for key, value in self._merge(value_node):
                    merged.setdefault(key, value)
                continue
            key = self._key(key_node)
            if key in found:
                self._fail(key_node, f'"{key}" is there twice in this mapping')
            found[key] = self.build(value_node)
        return {**merged, **found} if merged else found

    def _merge(self, node: yaml.Node) -> Iterator[tuple[str, Any]]:
        value = self.build(node)
        for mapping in value if isinstance(value, list) else [value]:
            if not isinstance(mapping, dict):
                self._fail(node, "<< takes a mapping or a list of mappings")
            yield from mapping.items()

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._fail(node, "a key has to be text")
        text: str = node.value
        if node.tag == "plain" and (text in _BOOL or text in _NULL):
            meant = str(_BOOL[text]).lower() if text in _BOOL else "null"
            if text != meant:
                remedy = f'write "{text}"' if text else ""
                self._fail(node, f"the key {text or 'is empty:'} means {meant} in YAML", remedy)
        return text

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        if len(text) > _LONG:
            self._count_again(node, len(text) // _LONG)
        tag = _TAGS.get(node.tag, node.tag)
        if tag == "str":
            return text
        if tag != "plain":
            self._fail(node, f"the tag {_tag(node)} means nothing here")
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if not (text[0] in "+-." or text[0].isdecimal()) or len(text) > _NUMBER_DIGITS:
            return text
        if _LEADING_ZERO.fullmatch(text):
            remedy = "write the number without the zero in front, or quote it if it is text"
            self._fail(node, f"{text} may be octal or decimal", remedy)
        if _INTEGER.fullmatch(text):
            digits = text.replace("_", "")
            return int(digits, 0)
        if not _FLOAT.fullmatch(text):
            return text
        number = float(text)
        return int(number) if number.is_integer() and abs(number) < 2**53 else number

    def _fail(self, node: yaml.Node, message: str, remedy: str = "") -> NoReturn:
        mark = node.start_mark
        _fail(self._name, mark.line + 1, mark.column + 1, message, remedy)


def _tag(node: yaml.Node) -> str:
    return str(node.tag).replace("tag:yaml.org,2002:", "!!")
