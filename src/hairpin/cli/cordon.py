"""Let a node take no new Pods; those that it has stay.

A Pod that names its node goes there all the same, as in Kubernetes.  The other way: uncordon.

examples:
  hairpin cordon n2
  hairpin uncordon n2
"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("nodes", nargs="+", metavar="NODE")


def run(arguments: argparse.Namespace) -> int:
    return change(arguments, unschedulable=True)


def change(arguments: argparse.Namespace, *, unschedulable: bool) -> int:
    """Asks the lab, and says what is so now."""
    from hairpin.world.client import connect

    names = [name.removeprefix("node/") for name in arguments.nodes]
    answer = connect(arguments.lab).call("cordon", names=names, unschedulable=unschedulable)
    word = "cordoned" if unschedulable else "uncordoned"
    for one in answer:
        print(f"node/{one['name']} {'' if one['changed'] else 'already '}{word}")
    return 0
