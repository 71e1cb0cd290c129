"""Show what a Pod's container has printed.

hairpin logs foo
hairpin logs foo -c server
"""

from __future__ import annotations

import argparse
import sys

from hairpin.cli.target import split_pod


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pod", metavar="POD")
    parser.add_argument("-c", "--container", help="which container; the first one if not said")
    parser.add_argument("-n", "--namespace", default="default")


def run(arguments: argparse.Namespace) -> int:
    from hairpin.lab.session import STDOUT
    from hairpin.world import lifecycle

    client = lifecycle.connect(arguments.lab)
    namespace, pod = split_pod(arguments.pod, arguments.namespace)
    with client.stream(
        "logs", namespace=namespace, pod=pod, container=arguments.container
    ) as conversation:
        for kind, payload in conversation.frames():
            if kind == STDOUT:
                sys.stdout.buffer.write(payload)
    sys.stdout.buffer.flush()
    return 0
