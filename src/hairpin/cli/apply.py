"""Create or change objects of the running lab, and say what became of each: created, configured
or unchanged.

Afterwards it waits until the lab's Pods are ready, 10 s at most, and names those that are not.

examples:
  hairpin apply -f web.yaml
  hairpin apply -f manifests/ --wait=1m
  hairpin get svc web -o yaml | sed s/8080/9090/ | hairpin apply -f -
"""

from __future__ import annotations

import argparse

from hairpin.cli import manifests, progress


def arguments(parser: argparse.ArgumentParser) -> None:
    manifests.arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from hairpin.world.client import connect

    seconds = manifests.patience(arguments)
    loaded = manifests.load(arguments)
    client = connect(arguments.lab)
    with progress.Progress() as line:
        answer = manifests.apply(client, loaded, seconds, line)
    return manifests.report(answer, arguments)
