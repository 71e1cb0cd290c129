"""Run a command in a Pod or on a node, with its input, output, signals and exit code.

hairpin exec foo -- curl -s 172.23.0.1:8080
hairpin exec node/node -- ipvsadm -Ln
echo hello | hairpin exec -i foo -- cat
hairpin exec -it foo -- bash
"""

from __future__ import annotations

import argparse
import sys

from hairpin.lab.session import LabError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="POD|node/NAME")
    parser.add_argument("command", nargs="*", metavar="-- COMMAND")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument(
        "-i", "--stdin", action="store_true", help="pass standard input, also from a terminal"
    )
    parser.add_argument("-t", "--tty", action="store_true", help="give the command a terminal")


def run(arguments: argparse.Namespace) -> int:
    from hairpin.cli.streams import attach
    from hairpin.cli.target import target
    from hairpin.world import lifecycle

    if not arguments.command:
        raise LabError("no command", f"hairpin exec {arguments.target} -- COMMAND", exit_code=2)
    if arguments.tty and not sys.stdin.isatty():
        raise LabError("-t needs a terminal on standard input", "leave -t out", exit_code=2)
    client = lifecycle.connect(arguments.lab)
    request = {**target(arguments.target, arguments.namespace), "argv": arguments.command}
    passed = arguments.stdin or arguments.tty or not sys.stdin.isatty()
    return attach(client, request, tty=arguments.tty, stdin=passed)
