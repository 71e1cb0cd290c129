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

_SHELL = "command -v bash >/dev/null && exec bash --norc{0} || exec sh{0}"


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
    where = target(arguments.target, arguments.namespace)
    person = is_terminal(sys.stdin)
    request = request_for(where, arguments.target.rpartition("/")[2], person=person)
    return attach(client, request, tty=person, stdin=True)


def request_for(target: dict[str, Any], name: str, *, person: bool = True) -> dict[str, Any]:
    """The request for a shell there, which says in its prompt where it is; without a ``person``
    at it one that reads commands and says nothing of its own."""
    line = _SHELL.format(" -i" if person else "")
    return {**target, "argv": ["sh", "-c", line], "env": {"PS1": f"{name}:\\w# "}}
