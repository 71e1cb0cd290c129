"""End the lab: its Pods, its nodes, its kernel.  Nothing of it is left.

examples:
  hairpin down
  hairpin down --lab other
"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Takes none of its own."""


def run(arguments: argparse.Namespace) -> int:
    from hairpin.world import lifecycle

    lifecycle.stop(arguments.lab)
    print(f"lab {arguments.lab} is down")
    return 0
