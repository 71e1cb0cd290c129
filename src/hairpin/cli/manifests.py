"""What the verbs that take ``-f`` share."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from hairpin.model.decode import encode
from hairpin.source.cluster import admit
from hairpin.source.manifests import Loaded
from hairpin.source.manifests import load as load_files


def arguments(parser: argparse.ArgumentParser) -> None:
    """``-f`` and ``--strict``."""
    parser.add_argument(
        "-f",
        "--filename",
        dest="files",
        metavar="FILE|DIR|-",
        action="append",
        required=True,
        help="manifests: a file, a folder, or - for standard input; may be repeated",
    )
    parser.add_argument(
        "--strict", action="store_true", help="a kind that means nothing here is an error"
    )


def load(arguments: argparse.Namespace) -> Loaded:
    """Reads the manifests and says what was passed over.  Raises ManifestError."""
    loaded = load_files(arguments.files, stdin=sys.stdin, strict=arguments.strict)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return loaded


def check(loaded: Loaded) -> None:
    """Finds what a new lab would refuse, before anything is started.  Raises ManifestError."""
    admit(loaded.objects, where=loaded.where)


def wire(loaded: Loaded) -> list[Any]:
    """The objects as the lab's protocol carries them."""
    shapes: list[Any] = json.loads(encode(loaded.objects))
    return shapes


def report(answer: dict[str, Any]) -> None:
    """Prints what became of each object, as kubectl does."""
    for one in answer["objects"]:
        print(f"{short(one['ref'])} {one['outcome']}")
    for warning in answer["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)


def short(ref: str) -> str:
    """``Pod default/foo`` as ``pod/foo``; the namespace shows when it is another."""
    kind, _, name = ref.partition(" ")
    return f"{kind.lower()}/{name.removeprefix('default/')}"
