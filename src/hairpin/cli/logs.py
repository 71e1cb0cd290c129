"""Show what a Pod's container has printed, standard output and error together.

The latest mebibyte is kept.  With -f it goes on as the container prints, also when the container
is started again, until Ctrl-C or until the Pod is deleted.

examples:
  hairpin logs foo
  hairpin logs foo -c server --tail 20
  hairpin logs -f pod/foo
  hairpin logs -p foo                  what it printed before it was started again
"""

from __future__ import annotations

import argparse
import os

from hairpin.cli.target import split_pod
from hairpin.lab.session import LabError

_MOST = 2**31 - 1


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pod", metavar="POD", help="foo, pod/foo or namespace/foo")
    parser.add_argument("-c", "--container", help="which container; the first one if not said")
    parser.add_argument("-n", "--namespace", default="default", help="of the Pod")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    parser.add_argument(
        "--tail", metavar="N", type=int, default=-1, help="only the last N lines (-1: all)"
    )
    parser.add_argument(
        "-p", "--previous", action="store_true", help="of the process before the last restart"
    )


def run(arguments: argparse.Namespace) -> int:
    from hairpin.lab.session import STDERR, STDOUT
    from hairpin.world.client import connect

    if arguments.follow and arguments.previous:
        raise LabError("-f and -p do not go together", "leave one out", exit_code=2)
    if not -1 <= arguments.tail <= _MOST:
        raise LabError(f"--tail {arguments.tail}: 0 or more, or -1 for all", exit_code=2)
    client = connect(arguments.lab)
    namespace, pod = split_pod(arguments.pod, arguments.namespace)
    request = {
        "namespace": namespace,
        "pod": pod,
        "container": arguments.container,
        "tail": None if arguments.tail < 0 else arguments.tail,
        "follow": arguments.follow,
        "previous": arguments.previous,
    }
    with client.stream("logs", **request) as conversation:
        for kind, payload in conversation.frames():
            if kind in (STDOUT, STDERR):
                _write(1 if kind == STDOUT else 2, payload)
    return 0


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
