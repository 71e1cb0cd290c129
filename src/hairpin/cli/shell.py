"""Open a shell in a Pod or on a node.

hairpin shell foo
hairpin shell node/node
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

_SHELL = ["sh", "-c", "command -v bash >/dev/null && exec bash --norc -i || exec sh -i"]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="POD|node/NAME")
    parser.add_argument("-n", "--namespace", default="default")


def run(arguments: argparse.Namespace) -> int:
    from hairpin.cli.streams import attach
    from hairpin.cli.target import target
    from hairpin.world import lifecycle

    client = lifecycle.connect(arguments.lab)
    request = request_for(
        target(arguments.target, arguments.namespace), arguments.target.rpartition("/")[2]
    )
    return attach(client, request, tty=sys.stdin.isatty(), stdin=True)


def request_for(target: dict[str, Any], name: str) -> dict[str, Any]:
    """The request for a shell there, which says in its prompt where it is."""
    return {**target, "argv": _SHELL, "env": {"PS1": f"{name}:\\w# "}}
