"""The parser of one verb's command line: what ``main`` and completion both use."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from types import ModuleType
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where to read on."""

    def error(self, message: str) -> NoReturn:
        shown = "".join(one if one.isprintable() else repr(one)[1:-1] for one in message)
        print(f"{self.prog}: {shown}\n  see: {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)

    def format_usage(self) -> str:
        """One line: what must be said, the options being listed below."""
        words = [self.prog]
        for action in self._actions:
            shown = action.metavar if isinstance(action.metavar, str) else action.dest
            if not action.option_strings:
                words.append(shown)
            elif action.required:
                words.append(f"{action.option_strings[0]} {shown}")
        return f"usage: {' '.join(words)} [options]\n"

    def format_help(self) -> str:
        return f"{self.format_usage()}\n{super().format_help()}"


def parser_of(verb: str) -> tuple[Parser, ModuleType]:
    """The parser of a verb with all its arguments, and the verb's module."""
    module = import_module(f"hairpin.cli.{verb}")
    parser = Parser(
        prog=f"hairpin {verb}",
        usage=argparse.SUPPRESS,
        description=(module.__doc__ or "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.arguments(parser)
    parser.add_argument(
        "--lab",
        default=os.environ.get("HAIRPIN_LAB", "default"),
        metavar="NAME",
        help="which lab, by its name (HAIRPIN_LAB, or default)",
    )
    return parser, module
