"""Open a shell in a Pod or on a node: bash where there is one, else sh.

With a terminal it is an interactive shell with job control; without one it runs the commands of
standard input.

examples:
  hairpin shell foo
  hairpin shell node/node
  echo 'ip addr' | hairpin shell foo
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

_SHELL = ["sh", "-c", "command -v bash >/dev/null && exec bash --norc -i || exec sh -i"]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        metavar="POD|node/NAME|outside",
        help="foo, pod/foo, ns/foo, node/NAME; outside is beyond the cluster",
    )
    parser.add_argument("-n", "--namespace", default="default", help="of the Pod")


def run(arguments: argparse.Namespace) -> int:
    from hairpin.cli.streams import attach
    from hairpin.cli.target import target
    from hairpin.cli.terminal import is_terminal
    from hairpin.world.client import connect

    client = connect(arguments.lab)
    request = request_for(
        target(arguments.target, arguments.namespace), arguments.target.rpartition("/")[2]
    )
    return attach(client, request, tty=is_terminal(sys.stdin), stdin=True)


def request_for(target: dict[str, Any], name: str) -> dict[str, Any]:
    """The request for a shell there, which says in its prompt where it is."""
    return {**target, "argv": _SHELL, "env": {"PS1": f"{name}:\\w# "}}
