"""Run a command in a Pod or on a node, with its input, output, signals and exit code.

Standard input is passed when it is no terminal; -i passes it from a terminal too.  -t gives the
command a terminal of the same size as yours: keys like Ctrl-C and Ctrl-Z go to the command.

examples:
  hairpin exec foo -- curl -s 172.23.0.1:8080
  hairpin exec node/node -- ipvsadm -Ln
  hairpin exec outside -- curl -s 192.168.100.2:30080
  echo hello | hairpin exec -i foo -- cat
  hairpin exec -it foo -- bash
"""

from __future__ import annotations

import argparse
import sys

from hairpin.lab.session import LabError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        metavar="POD|node/NAME|outside",
        help="foo, pod/foo, ns/foo, node/NAME; outside is beyond the cluster",
    )
    parser.add_argument("command", nargs="*", metavar="-- COMMAND")
    parser.add_argument("-n", "--namespace", default="default", help="of the Pod")
    parser.add_argument(
        "-i", "--stdin", action="store_true", help="pass standard input, also from a terminal"
    )
    parser.add_argument("-t", "--tty", action="store_true", help="give the command a terminal")
    parser.add_argument(
        "-c", "--container", help="accepted as kubectl does: a Pod's containers share all here"
    )


def run(arguments: argparse.Namespace) -> int:
    from hairpin.cli.streams import attach
    from hairpin.cli.target import target
    from hairpin.cli.terminal import is_terminal
    from hairpin.world.client import connect

    if not arguments.command:
        raise LabError("no command", f"hairpin exec {arguments.target} -- COMMAND", exit_code=2)
    typed = is_terminal(sys.stdin)
    if arguments.tty and not typed:
        raise LabError("-t needs a terminal on standard input", "leave -t out", exit_code=2)
    client = connect(arguments.lab)
    request = {**target(arguments.target, arguments.namespace), "argv": arguments.command}
    if arguments.container and "pod" in request:
        request["container"] = arguments.container
    passed = arguments.stdin or arguments.tty or not typed
    return attach(client, request, tty=arguments.tty, stdin=passed)
