"""Let a node take new Pods again, after cordon.

examples:
  hairpin uncordon n2
"""

from __future__ import annotations

import argparse

from hairpin.cli import cordon


def arguments(parser: argparse.ArgumentParser) -> None:
    cordon.arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    return cordon.change(arguments, unschedulable=False)
