"""``hairpin VERB …``: finds the verb, imports its module alone, and turns errors into words.

The verbs and their one line of help are here, so that ``hairpin --help`` costs little more than
starting Python; a verb's module defines ``arguments(parser)`` and ``run(arguments) -> int``.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing is not imported for it: see above
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

VERBS: dict[str, tuple[str, str]] = {
    "tour": ("learn", "take the guided story: two Pods, IPVS, and the riddle of the hairpin"),
    "matrix": ("learn", "try every combination of the hairpin's ingredients"),
    "up": ("lab", "start a lab and apply manifests to it"),
    "apply": ("lab", "create or change objects of the lab"),
    "delete": ("lab", "delete objects of the lab"),
    "down": ("lab", "end the lab and everything in it"),
    "get": ("lab", "show nodes, pods, services, endpoints, virtualservers or ingredients"),
    "set": ("lab", "switch an ingredient: hairpin set masquerade=off"),
    "exec": ("inside", "run a command in a Pod or on a node"),
    "shell": ("inside", "open a shell in a Pod or on a node"),
    "logs": ("inside", "show what a Pod's container has printed"),
    "version": ("about", "print the version"),
}

_GROUPS = {
    "learn": "Learn",
    "lab": "A lab of your own",
    "inside": "Inside the lab",
    "about": "About",
}

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        if len(words) > 1 and words[1] in VERBS:
            words = [words[1], "--help"]
        else:
            print(usage())
            return 0
    if words[0] == "--version":
        words = ["version"]
    verb = words.pop(0)
    if verb not in VERBS:
        return _unknown(verb)
    try:
        return _run(verb, words)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (``| head``); say nothing, and let nothing be flushed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def usage() -> str:
    """The text of ``hairpin --help``."""
    lines = [
        "hairpin: Kubernetes Services on one Linux machine, running for real and explained",
        "",
        "usage: hairpin VERB [options]      hairpin VERB --help",
    ]
    for group, title in _GROUPS.items():
        lines += ["", f"{title}:"]
        for verb, (own, says) in VERBS.items():
            if own == group:
                lines.append(f"  {verb:<9} {says}")
    lines += ["", "New here? Try: hairpin tour"]
    return "\n".join(lines)


def _unknown(verb: str) -> int:
    from difflib import get_close_matches

    close = get_close_matches(verb, VERBS, n=1)
    hint = f"did you mean {close[0]}?" if close else "see: hairpin --help"
    print(f"hairpin: there is no verb {verb}; {hint}", file=sys.stderr)
    return EXIT_USAGE


def _run(verb: str, words: list[str]) -> int:
    import argparse
    from importlib import import_module

    module = import_module(f"hairpin.cli.{verb}")
    parser = argparse.ArgumentParser(
        prog=f"hairpin {verb}",
        description=(module.__doc__ or "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--lab", default=os.environ.get("HAIRPIN_LAB", "default"), help=argparse.SUPPRESS
    )
    command: list[str] | None = None
    if "--" in words:
        cut = words.index("--")
        words, command = words[:cut], words[cut + 1 :]
    module.arguments(parser)
    try:
        arguments = parser.parse_intermixed_args(words)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    if command is not None and not hasattr(arguments, "command"):
        print(f"hairpin {verb}: nothing can follow --", file=sys.stderr)
        return EXIT_USAGE
    if command is not None:
        arguments.command = [*(arguments.command or []), *command]
    return _guarded(module.run, arguments)


def _guarded(run: object, arguments: argparse.Namespace) -> int:
    from hairpin.lab.session import LabError
    from hairpin.model.errors import ManifestError

    assert callable(run)
    try:
        return int(run(arguments))
    except ManifestError as error:
        print(f"hairpin: {error}", file=sys.stderr)
        return EXIT_USAGE
    except LabError as error:
        print(f"hairpin: {error.message}", file=sys.stderr)
        if error.remedy:
            print(f"  {error.remedy}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
