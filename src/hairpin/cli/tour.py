"""Take the guided story: two Pods, a bridge, an IPVS virtual server, and the riddle of the hairpin.

Every step does something to a real kernel, tries real connections, and says what it expected and
what it saw.  Exit code 0 only if every claim held.

examples:
  hairpin tour                 step by step
  hairpin tour --auto          all of it, without stopping
  hairpin tour --step 8        begin at step 8 (with --auto: that step alone)
  hairpin tour -o json         all of it, as JSON
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import ExitStack

from hairpin.claims.base import Language, Text, Verdict
from hairpin.claims.runner import Caller
from hairpin.claims.seed import NODE, STEPS
from hairpin.cli.progress import Progress
from hairpin.cli.terminal import is_terminal
from hairpin.lab.session import LabError
from hairpin.tour.run import Tour, outcome
from hairpin.tour.tell import Teller


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--auto", action="store_true", help="do not stop between the steps")
    parser.add_argument(
        "--step", type=int, metavar="N", help=f"begin at this step, 1 to {len(STEPS)}"
    )
    parser.add_argument(
        "--lang", choices=("en", "zh"), help="English or Chinese; default: as the locale says"
    )
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="for people or programs"
    )
    parser.add_argument(
        "--by-hand",
        action="store_true",
        help="make every change by the shell commands that are shown, instead of over netlink",
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.step is not None and not 1 <= arguments.step <= len(STEPS):
        raise LabError(f"there is no step {arguments.step}: 1 to {len(STEPS)}", exit_code=2)
    language: Language = arguments.lang or _from_locale()
    asked = arguments.output == "text" and not arguments.auto
    if asked and not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise LabError(
            "the tour asks after each step, and this is no terminal",
            "hairpin tour --auto runs it through",
            exit_code=2,
        )
    first = (arguments.step or 1) - 1
    with _Worlds() as worlds:
        tour = Tour(worlds.new, by_hand=arguments.by_hand)
        if arguments.output == "json":
            done = {number: tour.do(number, None) for number in _range(arguments, first)}
            print(json.dumps(outcome(done, language), indent=2, ensure_ascii=False))
        else:
            done = _tell(tour, worlds, arguments, first, language)
    return 0 if all(one.held for verdicts in done.values() for one in verdicts) else 1


def _range(arguments: argparse.Namespace, first: int) -> range:
    alone = arguments.step is not None and not _asks(arguments)
    return range(first, first + 1 if alone else len(STEPS))


def _asks(arguments: argparse.Namespace) -> bool:
    return not arguments.auto and arguments.output == "text"


def _tell(
    tour: Tour, worlds: _Worlds, arguments: argparse.Namespace, first: int, language: Language
) -> dict[int, list[Verdict]]:
    from rich.console import Console

    started = time.monotonic()
    teller = Teller(Console(), language)
    done: dict[int, list[Verdict]] = {}
    with Progress() as line:
        line.say(teller.label("starting" if first == 0 else "rebuilding"))
        tour.stand_before(first)
    teller.introduce(worlds.kernel.said(language))
    if _asks(arguments):
        _interactive(tour, teller, done, first, language)
    else:
        for number in _range(arguments, first):
            done[number] = tour.do(number, teller)
    verdicts = [one for each in done.values() for one in each]
    failed = sum(1 for one in verdicts if not one.held)
    seconds = time.monotonic() - started
    teller.close(len(verdicts) - failed, failed, seconds, whole=len(done) == len(STEPS))
    return done


def _interactive(
    tour: Tour, teller: Teller, done: dict[int, list[Verdict]], first: int, language: Language
) -> None:
    number = first
    while number < len(STEPS):
        with Progress() as line:
            line.say(teller.label("rebuilding"))
            tour.stand_before(number)
        done[number] = tour.do(number, teller)
        match _ask(tour, teller):
            case "quit":
                return
            case "back":
                number = max(0, number - 1)
            case _:
                number += 1


def _ask(tour: Tour, teller: Teller) -> str:
    """What to do next, after any number of shells."""
    while True:
        teller.console.print()
        teller.console.print(teller.label("prompt"), style="reverse", end=" ")
        try:
            answer = input().strip().lower()
        except EOFError:
            return "quit"
        match answer:
            case "" | "n":
                return "next"
            case "b":
                return "back"
            case "q":
                return "quit"
            case "s":
                _shell(tour.lab)


def _shell(lab: Caller | None) -> None:
    from hairpin.cli.shell import request_for
    from hairpin.cli.streams import attach
    from hairpin.world.client import Client

    assert isinstance(lab, Client)
    attach(lab, request_for({"netns": NODE}, "node"), tty=True)


def _from_locale() -> Language:
    """As LC_ALL, LC_MESSAGES and LANG say, in that order (locale(7))."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


class _Worlds:
    """One World at a time, for as long as this command runs."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.kernel = Text("", "")

    def new(self) -> Caller:
        from hairpin.world import lifecycle

        self._stack.close()
        client = self._stack.enter_context(lifecycle.ephemeral("tour"))
        facts = client.call("ping")
        self.kernel = Text(
            f"Linux {facts['kernel']}, the embedded kernel", f"Linux {facts['kernel']}, 内嵌的内核"
        )
        return client

    def __enter__(self) -> _Worlds:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
