"""Change how many Pods a Deployment has, and wait until they are ready.

What is beyond that number goes as Pods go: see hairpin delete --help.

examples:
  hairpin scale deployment/web --replicas=5
  hairpin scale deployment web db --replicas 0
"""

from __future__ import annotations

import argparse
import sys

from hairpin.cli import rollout
from hairpin.lab.session import LabError

_MOST = 10_000  # as in a manifest


def arguments(parser: argparse.ArgumentParser) -> None:
    rollout.naming(parser)
    parser.add_argument("--replicas", type=int, required=True, metavar="N", help="Pods of each")


def run(arguments: argparse.Namespace) -> int:
    from hairpin.world.client import connect

    if not 0 <= arguments.replicas <= _MOST:
        raise LabError(
            f"--replicas={arguments.replicas}: not from 0 to {_MOST}",
            "say how many Pods there are to be",
            exit_code=2,
        )
    names = rollout.deployments(arguments, "hairpin scale deployment/NAME --replicas=N")
    client = connect(arguments.lab)
    answer = client.call(
        "scale", namespace=arguments.namespace, names=names, replicas=arguments.replicas
    )
    for name in names:
        print(f"deployment.apps/{name} scaled")
    for line in answer["warnings"]:
        print(f"hairpin: {line}", file=sys.stderr)
    return 0
