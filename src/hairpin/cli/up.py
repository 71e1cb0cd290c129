"""Start a lab: boot a World and make the Pods, nodes and Services that the manifests describe.

hairpin up -f examples/seed.yaml
cat cluster.yaml | hairpin up -f -
"""

from __future__ import annotations

import argparse

from hairpin.cli import manifests, progress


def arguments(parser: argparse.ArgumentParser) -> None:
    manifests.arguments(parser)
    parser.add_argument(
        "--kernel",
        choices=("auto", "host", "guest"),
        default="auto",
        help="where the lab lives: this machine's kernel, the embedded one, or what fits (auto)",
    )


def run(arguments: argparse.Namespace) -> int:
    loaded = manifests.load(arguments)
    manifests.check(loaded)
    from hairpin.world import lifecycle

    with progress.Progress() as line:
        line.say("starting a kernel")
        client, owner = lifecycle.start(arguments.lab, arguments.kernel, line.say)
        try:
            line.say("building Pods and Services")
            answer = client.call("apply", objects=manifests.wire(loaded))
            owner.keep()
        finally:
            owner.close()
    manifests.report(answer)
    print(f"lab {arguments.lab} is up after {line.seconds:.1f} s")
    return 0
