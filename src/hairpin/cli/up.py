"""Start a lab: boot a World and make the Pods, nodes and Services that the manifests describe.

The lab goes on after the command; hairpin down ends it.  It waits until the Pods are ready, 10 s at
most, and names those that are not.

examples:
  hairpin up -f examples/seed.yaml
  hairpin up -f manifests/ --wait=1m
  cat cluster.yaml | hairpin up -f -
  hairpin up --lab other --kernel guest -f web.yaml
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
    seconds = manifests.patience(arguments)
    loaded = manifests.load(arguments)
    manifests.check(loaded)
    from hairpin.world import lifecycle

    with progress.Progress() as line:
        line.say("starting a kernel")
        told: list[str] = []

        def tell(text: str) -> None:
            told.append(text)
            line.say(text)

        client, owner = lifecycle.start(arguments.lab, arguments.kernel, tell)
        try:
            line.say("building Pods and Services")
            answer = manifests.apply(client, loaded, seconds, line)
            owner.keep()
        finally:
            owner.close()
    code = manifests.report(answer, arguments)
    # What was told first: which kernel it is, and why that one.
    print(f"lab {arguments.lab} is up after {line.seconds:.1f} s: {told[0]}")
    return code
