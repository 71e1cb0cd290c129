"""Break something at random, let you find it, then show the trace that says what it was.

The lab lasts as long as the quiz.  Look around in it from another terminal (the command is shown),
mend it there, and come back.

examples:
  hairpin quiz
  hairpin quiz --mode nftables
  hairpin quiz --seed 7
"""

from __future__ import annotations

import argparse
import random
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hairpin.claims.faults_base import Fault
    from hairpin.trace.values import Trace
    from hairpin.world.client import Client

_HELP = "t: try it again   h: a hint   a: the answer   q: quit"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, help="the same number breaks the same thing")
    parser.add_argument(
        "--mode", choices=("ipvs", "iptables", "nftables"), default="ipvs", help="the proxy mode"
    )


def run(arguments: argparse.Namespace) -> int:
    from hairpin.claims import faults, faults_runner
    from hairpin.cli.progress import Progress
    from hairpin.world import lifecycle

    able = [one for one in faults.FAULTS if one.acts and arguments.mode in one.modes]
    fault = random.Random(arguments.seed).choice(able)
    with Progress() as line:
        line.say("starting a kernel")
        with lifecycle.ephemeral("quiz", "auto", line.say, mode=arguments.mode) as client:
            line.say("breaking something")
            faults_runner.build(client, arguments.mode)
            for act in fault.acts:
                faults_runner.do(client, act)
            line.say("")
            return _ask(client, fault)


def _ask(client: Client, fault: Fault) -> int:
    import importlib

    from hairpin.claims.tracing import traced
    from hairpin.cli.terminal import colours, columns
    from hairpin.cli.trace import for_lab
    from hairpin.present.trace_text import text

    said = importlib.import_module("hairpin.cli.break").said  # its name is a word of Python's
    trace = for_lab(traced(client, fault.ask), client.name)
    print(f"Something is broken.  {fault.ask.source} asks {fault.ask.to}: {trace.outcome}.")
    print(f"Look around from another terminal:  hairpin --lab {client.name} shell node/n1")
    print(f"What the answer will be made of:    hairpin --lab {client.name} trace {said(fault)}")
    print(_HELP)
    while True:
        print("> ", end="", flush=True)
        word = sys.stdin.readline()
        match word.strip()[:1] if word else "a":
            case "t":
                again = traced(client, fault.ask)
                print(f"{again.outcome}")
                if again.cause is None:
                    print("It works: you have mended it.")
                    print(f"It was: {fault.says.en}")
                    return 0
            case "h":
                print(_hint(trace))
            case "q":
                return 1
            case "a":
                print()
                print(text(trace, colour=colours(), width=columns()))
                print(f"\nIt was: {fault.says.en}")
                return 0
            case _:
                print(_HELP)


def _hint(trace: Trace) -> str:
    """Where it ended, and not why."""
    return f"{trace.disposition.replace('-', ' ')}: {trace.ended.says}"
