"""Switch ingredients of the running lab on or off, and show the commands that would do the same.

An ingredient is one condition that Service traffic needs; hairpin get ingredients lists them.

examples:
  hairpin set masquerade=off
  hairpin set hairpin=promisc br-netfilter=on
"""

from __future__ import annotations

import argparse

from hairpin.lab.session import LabError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("settings", nargs="+", metavar="INGREDIENT=on|off")


def run(arguments: argparse.Namespace) -> int:
    from hairpin.world.client import connect

    wanted = {}
    for word in arguments.settings:
        name, equals, value = word.partition("=")
        if not equals:
            raise LabError(f"{word}: say what to set it to", f"hairpin set {word}=on", exit_code=2)
        wanted[name] = value
    client = connect(arguments.lab)
    answer = client.call("set", ingredients=wanted)
    for line in answer["commands"]:
        print(f"  {line}")
    print(", ".join(f"{name} is {value}" for name, value in wanted.items()))
    return 0
