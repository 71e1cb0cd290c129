"""Check what Kubernetes promises about Services, with real packets on a cluster of its own.

Three nodes in two zones, Pods, a client outside; each claim makes its own Services, connects, and
says who answered and whom the server saw.  Where a proxy mode is known to differ, the claim says
how, and fails if that difference is not seen.  Exit code 0 if every claim held or differed as
documented, 1 if not.

Several modes are several clusters: what one kernel cannot do another one does, and what is on the
embedded kernel runs beside what is on this machine's.

CLAIM is a name (nodeport.basic), a subject (nodeport), or a pattern ('packets.*.none-local').

examples:
  hairpin check
  hairpin check nodeport affinity
  hairpin check --mode ipvs,iptables,nftables      the matrix, and in what the modes differ
  hairpin check --mode iptables --kernel guest
  hairpin check --list 'packets.*'
  hairpin check -o json --junit check.xml
  hairpin check --cluster --kubeconfig kubeconfig   on a node of a real cluster, reading only
  hairpin check --proxy external --lab mine   on a running lab, whose nodes another proxy serves
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from hairpin.claims.topics import MODES, Mode
from hairpin.cli import check_cluster
from hairpin.cli.progress import Progress
from hairpin.lab.session import LabError

if TYPE_CHECKING:
    from hairpin.claims.promises import Promise, Verdict
    from hairpin.claims.runner import Caller
    from hairpin.claims.side_by_side import Run

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
    parser.add_argument(
        "--mode",
        metavar="MODE[,MODE]",
        default="ipvs",
        help=f"proxy modes: {', '.join(MODES)}, or all (ipvs)",
    )
    parser.add_argument(
        "--kernel",
        choices=("auto", "host", "guest"),
        default="auto",
        help="this machine's kernel, the embedded one, or for each mode what fits (auto)",
    )
    parser.add_argument(
        "--proxy",
        choices=("own", "external"),
        default="own",
        help="external: use the running lab --lab, whose nodes something else has programmed",
    )
    parser.add_argument("--lang", choices=("en", "zh"), default="en", help="English or Chinese")
    check_cluster.arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.cluster:
        return check_cluster.run(arguments)
    check_cluster.refuse(arguments)
    from hairpin.claims import check, outcome
    from hairpin.claims.catalogue import CLAIMS

    claims = check.chosen(CLAIMS, arguments.claims)
    if arguments.list:
        print(outcome.listing(claims, arguments.lang))
        return 0
    modes = _modes(arguments)
    if arguments.junit:
        _write(arguments.junit, "")  # what cannot be written is to be known before, not after
    with Progress() as line:
        if arguments.proxy == "external":
            runs = _external(arguments, modes[0], claims, line)
        else:
            runs = _own(arguments, modes, claims, line)
    if arguments.junit:
        _write(arguments.junit, outcome.xml([one for run in runs for one in run.verdicts]))
    _print(arguments, runs, line.seconds)
    return 0 if all(run.good for run in runs) else 1


def _modes(arguments: argparse.Namespace) -> list[Mode]:
    """In the order that was said.  Raises LabError for what is none."""
    words = [word.strip() for word in arguments.mode.split(",") if word.strip()]
    known: dict[str, Mode] = {mode: mode for mode in get_args(Mode)}
    if words == ["all"]:
        return list(MODES)
    for word in words:
        if word not in known:
            raise LabError(
                f"--mode {word}: there is no such proxy mode",
                f"they are {', '.join(known)}, and all for all of them",
                exit_code=2,
            )
    if not words:
        raise LabError("--mode: no proxy mode", f"they are {', '.join(known)}", exit_code=2)
    if arguments.proxy == "external" and len(words) > 1:
        raise LabError(
            "--proxy external: a lab has one mode at a time",
            "say it alone: --mode MODE",
            exit_code=2,
        )
    return list(dict.fromkeys(known[word] for word in words))


def _write(path: str, text: str) -> None:
    """Raises LabError."""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise LabError(f"--junit {path}: {error.strerror}", exit_code=2) from None


def _external(
    arguments: argparse.Namespace, mode: Mode, claims: list[Promise], line: Progress
) -> list[Run]:
    """On the running lab.  Raises LabError."""
    from hairpin.claims import check
    from hairpin.world import lifecycle

    lab = lifecycle.connect(arguments.lab)
    line.say("building the cluster")
    cast = check.build_on(lab)
    runner = check.Check(lab, cast, mode, _ASYNC)
    told = _Told(line, len(claims))
    return [_run(lambda: runner.run(claims, told.verdict), mode, check.kernel_of(lab))]


def _own(
    arguments: argparse.Namespace, modes: list[Mode], claims: list[Promise], line: Progress
) -> list[Run]:
    """Each mode on a lab of its own: those on one kernel one after the other, two kernels side by
    side.  Raises LabError."""
    from concurrent.futures import ThreadPoolExecutor

    told = _Told(line, len(claims) * len(modes))
    with ExitStack() as stack:
        # Started here: a process of several threads should not fork.
        labs = {}
        for mode in modes:
            line.say(f"starting a kernel for {mode}")
            labs[mode] = stack.enter_context(_lab(arguments.kernel, mode))
        lanes: dict[str, list[Mode]] = {}
        for mode, (_, kernel) in labs.items():
            lanes.setdefault(kernel, []).append(mode)
        pool = ThreadPoolExecutor(len(lanes))
        try:
            done = [
                pool.submit(_in_turn, [(mode, labs[mode][0]) for mode in lane], claims, told)
                for lane in lanes.values()
            ]
            found = {one.mode: one for some in done for one in some.result()}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return [found[mode] for mode in modes]


@contextmanager
def _lab(kernel: str, mode: Mode) -> Iterator[tuple[Caller, str]]:
    """A lab for that mode, and which kernel it is on: "host" or "guest"."""
    from hairpin.world import lifecycle

    with lifecycle.ephemeral("check", kernel, mode=mode) as lab:
        yield lab, str(lifecycle.facts(lab.path.name)["kernel"])


def _in_turn(labs: Sequence[tuple[Mode, Caller]], claims: list[Promise], told: _Told) -> list[Run]:
    return [_checked(lab, mode, claims, told) for mode, lab in labs]


def _checked(lab: Caller, mode: Mode, claims: list[Promise], told: _Told) -> Run:
    from hairpin.claims import check

    told.building(mode)
    cast = check.build(lab, mode)
    runner = check.Check(lab, cast, mode)
    return _run(lambda: runner.run(claims, told.verdict), mode, check.kernel_of(lab))


def _run(call: Callable[[], Sequence[Verdict]], mode: Mode, kernel: str) -> Run:
    from hairpin.claims.side_by_side import Run

    started = time.monotonic()
    verdicts = tuple(call())
    seconds = time.monotonic() - started
    return Run(mode=mode, kernel=kernel, seconds=seconds, verdicts=verdicts)


class _Told:
    """How far it is, on the line; threads may tell it side by side."""

    def __init__(self, line: Progress, total: int) -> None:
        self._line = line
        self._total = total
        self._done: list[bool] = []

    def building(self, mode: Mode) -> None:
        """What takes the first seconds."""
        if not self._done:
            self._line.say(f"building the cluster for {mode}")

    def verdict(self, verdict: Verdict) -> None:
        self._done.append(verdict.good)
        bad = self._done.count(False)
        self._line.say(
            f"{len(self._done)} of {self._total} claims" + (f", {bad} failed" if bad else "")
        )


def _print(arguments: argparse.Namespace, runs: list[Run], seconds: float) -> None:
    from hairpin.claims import outcome, side_by_side
    from hairpin.claims.document import markdown
    from hairpin.cli.terminal import colours

    first = runs[0]
    if arguments.output == "markdown":
        print(markdown(runs), end="")
    elif arguments.output == "json":
        shown = side_by_side.structured(runs, arguments.lang, seconds)
        if len(runs) == 1:
            shown = outcome.structured(
                first.verdicts,
                arguments.lang,
                mode=first.mode,
                kernel=first.kernel,
                seconds=seconds,
            )
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    elif len(runs) == 1:
        print(outcome.text(first.verdicts, arguments.lang, colour=colours()))
        print(f"\n{outcome.summary(first.verdicts, seconds)} ({first.mode}, {first.kernel})")
    else:
        print(side_by_side.text(runs, arguments.lang, colour=colours()))
        print(f"\n{side_by_side.summary(runs, seconds)}")
