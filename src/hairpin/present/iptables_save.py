"""What ``iptables-save`` printed, read back strictly: a dump may be cut off, or mended by hand.

The words of iptables 1.8.9, either variant.  Counters and dates are passed over.
"""

from __future__ import annotations

import re
from typing import get_args

import msgspec

from hairpin.state.netfilter import Table

Place = tuple[str, str]
"""Table and chain."""
Spec = tuple[str, ...]

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPED = re.compile(r"\\(.)")
_CHAIN = re.compile(r":(\S+) (\S+)(?: \[\d+:\d+\])?")
_TABLES = frozenset(get_args(Table))


class IptablesSaveError(ValueError):
    """A line that iptables-save does not print, and which one it is."""


class Printed(msgspec.Struct, frozen=True):
    """All chains with their rules in their order; policies are of those that are built in.

    ``program`` is what else than ``iptables`` or ``ip6tables`` changes these rules (see
    ``READ_WITH``), "" where that is not known.
    """

    chains: dict[Place, list[Spec]] = {}
    policies: dict[Place, str] = {}
    program: str = ""


READ_WITH = "# Read with "
"""Begins a line that hairpin itself puts first, where a variant was asked by its own name."""


def parse(text: str) -> Printed:
    """Every table of one family.  Raises IptablesSaveError with the line's number."""
    chains: dict[Place, list[Spec]] = {}
    policies: dict[Place, str] = {}
    table = program = ""
    number = 0
    for number, line in enumerate(text.splitlines(), 1):
        try:
            if line.startswith(READ_WITH):
                program = line.removeprefix(READ_WITH).strip().removesuffix("-save")
            if not line.strip() or line.startswith("#"):
                continue
            if line.startswith("*"):
                table = _table(line[1:].strip(), table)
            elif not table:
                raise ValueError("a line before the first table (*filter)")
            elif line.strip() == "COMMIT":
                table = ""
            elif line.startswith(":"):
                chain, policy = _chain(line)
                chains.setdefault((table, chain), [])
                if policy != "-":
                    policies[table, chain] = policy
            else:
                chain, spec = _rule(line)
                if (table, chain) in chains:  # else it is no chain: nothing can come there
                    chains[table, chain].append(spec)
        except ValueError as error:
            raise IptablesSaveError(f"line {number}: {error}") from None
    if table:
        raise IptablesSaveError(f"line {number}: the end of table {table} (COMMIT) is missing")
    return Printed(chains, policies, program)


def split(line: str) -> list[str]:
    """The words of a line; quotes and backslashes as xtables writes them."""
    return [
        _ESCAPED.sub(r"\1", found[1]) if found[1] is not None else found[2]
        for found in _TOKEN.finditer(line)
    ]


def _table(name: str, open_table: str) -> str:
    if open_table:
        raise ValueError(f"the end of table {open_table} (COMMIT) is missing")
    if name not in _TABLES:
        raise ValueError(f"{name!r} is no table")
    return name


def _chain(line: str) -> tuple[str, str]:
    found = _CHAIN.fullmatch(line.strip())
    if found is None:
        raise ValueError(f"{line!r} names no chain")
    return found[1], found[2]


def _rule(line: str) -> tuple[str, Spec]:
    words = split(line)
    if words and words[0].startswith("["):  # counters, of iptables-save -c
        words = words[1:]
    if len(words) < 2 or words[0] != "-A":
        raise ValueError(f"{line!r} is no rule")
    return words[1], tuple(words[2:])
