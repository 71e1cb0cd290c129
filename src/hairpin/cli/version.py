"""Print hairpin's version."""

from __future__ import annotations

import argparse

from hairpin import __version__


def arguments(parser: argparse.ArgumentParser) -> None:
    """Takes none."""


def run(arguments: argparse.Namespace) -> int:
    print(f"hairpin {__version__}")
    return 0
