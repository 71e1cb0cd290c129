"""What the verbs that take ``-f`` share.  What reads manifests is imported when it is needed."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from hairpin.cli.terminal import duration

if TYPE_CHECKING:
    from hairpin.cli.progress import Progress
    from hairpin.source.manifests import Loaded
    from hairpin.world.client import Client

_DEFAULT_WAIT = 10.0  # seconds; what is not ready then is said
_ASKED_WAIT = 30.0  # seconds of --wait, as kubectl wait has it; what is not ready then has failed
_SHOWN = 10  # Pods that are named when they are late; the rest are counted


def arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """``-f`` and ``--strict``, ``--wait`` and ``--timeout``."""
    parser.add_argument(
        "-f",
        "--filename",
        dest="files",
        metavar="FILE|DIR|-",
        action="append",
        default=None if required else [],
        required=required,
        help="manifests: a file, a folder, or - for standard input; may be repeated",
    )
    parser.add_argument(
        "--strict", action="store_true", help="a kind that means nothing here is an error"
    )
    parser.add_argument(
        "--wait",
        nargs="?",
        const="",
        metavar="TIME",
        help="exit code 1 if a Pod is not ready in time (30s if not said); without it, it is said",
    )
    parser.add_argument(
        "--timeout", metavar="TIME", help="how long to wait for Pods: 45s, 2m (10s if not said)"
    )


def patience(arguments: argparse.Namespace) -> float:
    """Seconds that Pods get to become ready.  Raises LabError for what is no time."""
    for said in (arguments.timeout, arguments.wait):
        if said:
            return duration(said)
    return _DEFAULT_WAIT if arguments.wait is None else _ASKED_WAIT


def load(arguments: argparse.Namespace) -> Loaded:
    """Reads the manifests and says what was passed over.  Raises ManifestError."""
    from hairpin.source.manifests import load as load_files

    loaded = load_files(arguments.files, stdin=sys.stdin, strict=arguments.strict)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return loaded


def check(loaded: Loaded) -> None:
    """Finds what a new lab would refuse, before anything is started.  Raises ManifestError."""
    from hairpin.source.cluster import admit
    from hairpin.source.settings import LAB

    admit(loaded.objects, settings=LAB, where=loaded.where)


def apply(
    client: Client,
    loaded: Loaded,
    seconds: float,
    line: Progress,
    config: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Gives the objects to the lab, which waits so long for its Pods; its answer.

    ``config`` is for its proxies (KubeProxyConfiguration); ``line`` shows each stage.
    Raises LabError.
    """
    from hairpin.model.decode import encode

    def stage(event: Any) -> None:
        if "stage" in event:
            total = f" {event['done']}/{event['total']}" if event.get("total") else ""
            line.say(f"{event['stage']}{total}")

    shapes: list[Any] = json.loads(encode(loaded.objects))
    answer: dict[str, Any] = client.call(
        "apply", stage, objects=shapes, wait=seconds, config=config
    )
    return answer


def report(answer: dict[str, Any], arguments: argparse.Namespace) -> int:
    """Prints what became of each object, as kubectl does, and who is not ready; the exit code."""
    for one in answer["objects"]:
        print(f"{short(one['ref'])} {one['outcome']}")
    if reason := answer["unserved"]:
        print(end="", flush=True)
        print(f"warning: Services are not served: {reason}", file=sys.stderr)
    for problem in answer["problems"]:
        print(end="", flush=True)
        print(f"warning: {problem}", file=sys.stderr)
    if warning := answer["queue"]:
        print(f"warning: {warning}", file=sys.stderr)
    late = answer["warnings"]
    said = "warning" if arguments.wait is None else "not ready in time"
    print(end="", flush=True)  # what comes first is to be seen first
    for each in late[:_SHOWN]:
        print(f"{said}: {each}", file=sys.stderr)
    if len(late) > _SHOWN:
        print(f"{said}: and {len(late) - _SHOWN} more", file=sys.stderr)
    return 1 if late and arguments.wait is not None else 0


def short(ref: str) -> str:
    """``Pod default/foo`` as ``pod/foo``; the namespace shows when it is another."""
    kind, _, name = ref.partition(" ")
    return f"{kind.lower()}/{name.removeprefix('default/')}"
