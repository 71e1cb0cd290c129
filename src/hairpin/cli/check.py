"""Check what Kubernetes promises about Services, with real packets on a cluster of its own.

Three nodes in two zones, Pods, a client outside; each claim makes its own Services, connects, and
says who answered and whom the server saw.  Where a proxy mode is known to differ, the claim says
how, and fails if that difference is not seen.  Exit code 0 if every claim held or differed as
documented, 1 if not.

CLAIM is a name (nodeport.basic), a subject (nodeport), or a pattern ('packets.*.none-local').

examples:
  hairpin check
  hairpin check nodeport affinity
  hairpin check --list 'packets.*'
  hairpin check -o json --junit check.xml
  hairpin check --proxy external --lab mine   on a running lab, whose nodes another proxy serves
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hairpin.cli.progress import Progress
from hairpin.lab.session import LabError

if TYPE_CHECKING:
    from hairpin.claims.check import Check
    from hairpin.claims.promises import Promise, Verdict
    from hairpin.claims.runner import Caller

_ASYNC = 15.0  # seconds that somebody else's proxy may take to follow a change


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help="all, if none is named")
    parser.add_argument("--list", action="store_true", help="name the claims and run none")
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json", "markdown"),
        default="text",
        help="for people, for programs, or docs/behaviours.md",
    )
    parser.add_argument("--junit", metavar="FILE", help="write JUnit XML there too")
    parser.add_argument("--mode", choices=("ipvs",), default="ipvs", help="the proxy mode")
    parser.add_argument(
        "--proxy",
        choices=("own", "external"),
        default="own",
        help="external: use the running lab --lab, whose nodes something else has programmed",
    )
    parser.add_argument("--lang", choices=("en", "zh"), default="en", help="English or Chinese")


def run(arguments: argparse.Namespace) -> int:
    from hairpin.claims import check, outcome
    from hairpin.claims.catalogue import CLAIMS

    claims = check.chosen(CLAIMS, arguments.claims)
    if arguments.list:
        print(outcome.listing(claims, arguments.lang))
        return 0
    if arguments.junit:
        _write(arguments.junit, "")  # what cannot be written is to be known before, not after
    with Progress() as line:
        line.say("starting a kernel")
        with _lab(arguments) as lab:
            line.say("building the cluster")
            external = arguments.proxy == "external"
            cast = check.build_on(lab) if external else check.build(lab)
            kernel = check.kernel_of(lab)
            patience = _ASYNC if external else 0.0
            runner = check.Check(lab, cast, arguments.mode, patience)
            verdicts = _run(runner, claims, line)
    if arguments.junit:
        _write(arguments.junit, outcome.xml(verdicts))
    _print(arguments, verdicts, kernel, line.seconds)
    return 0 if all(one.good for one in verdicts) else 1


def _write(path: str, text: str) -> None:
    """Raises LabError."""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise LabError(f"--junit {path}: {error.strerror}", exit_code=2) from None


@contextmanager
def _lab(arguments: argparse.Namespace) -> Iterator[Caller]:
    from hairpin.world import lifecycle

    if arguments.proxy == "external":
        yield lifecycle.connect(arguments.lab)
        return
    with lifecycle.ephemeral("check") as lab:
        yield lab


def _run(runner: Check, claims: list[Promise], line: Progress) -> list[Verdict]:
    done: list[Verdict] = []

    def tell(verdict: Verdict) -> None:
        done.append(verdict)
        bad = sum(not one.good for one in done)
        line.say(f"{len(done)} of {len(claims)} claims" + (f", {bad} failed" if bad else ""))

    return runner.run(claims, tell)


def _print(
    arguments: argparse.Namespace, verdicts: list[Verdict], kernel: str, seconds: float
) -> None:
    from hairpin.claims import outcome
    from hairpin.cli.terminal import colours

    if arguments.output == "json":
        shown = outcome.structured(
            verdicts, arguments.lang, mode=arguments.mode, kernel=kernel, seconds=seconds
        )
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    elif arguments.output == "markdown":
        print(outcome.markdown(verdicts, mode=arguments.mode, kernel=kernel), end="")
    else:
        print(outcome.text(verdicts, arguments.lang, colour=colours()))
        print()
        print(f"{outcome.summary(verdicts, seconds)} ({arguments.mode}, {kernel})")
