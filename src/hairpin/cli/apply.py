"""Create or change objects of the running lab.

hairpin apply -f web.yaml
"""

from __future__ import annotations

import argparse

from hairpin.cli import manifests


def arguments(parser: argparse.ArgumentParser) -> None:
    manifests.arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from hairpin.world import lifecycle

    loaded = manifests.load(arguments)
    client = lifecycle.connect(arguments.lab)
    manifests.report(client.call("apply", objects=manifests.wire(loaded)))
    return 0
