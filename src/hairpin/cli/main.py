"""``hairpin VERB …``: finds the verb, imports its module alone, and turns errors into words.

The verbs and their one line of help are here, so that ``hairpin --help`` costs little more than
starting Python; a verb's module defines ``arguments(parser)`` and ``run(arguments) -> int``.
"""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False  # typing is not imported for it: see above
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

VERBS: dict[str, tuple[str, str]] = {
    "tour": ("learn", "take the guided story: two Pods, IPVS, and the riddle of the hairpin"),
    "matrix": ("learn", "try every combination of the hairpin's ingredients"),
    "check": ("learn", "check what Kubernetes promises about Services, with real packets"),
    "migrate": ("learn", "tell what a move to another proxy mode changes for Services"),
    "trace": ("learn", "send a connection and see where its packets went, and why it failed"),
    "break": ("learn", "break one thing in a lab, for you to find"),
    "quiz": ("learn", "break something at random, then show what it was"),
    "up": ("lab", "start a lab and apply manifests to it"),
    "apply": ("lab", "create or change objects of the lab"),
    "delete": ("lab", "delete objects of the lab"),
    "down": ("lab", "end the lab and everything in it"),
    "ls": ("lab", "list the labs that run"),
    "get": ("lab", "show nodes, pods, services, endpoints, virtualservers, proxies …"),
    "describe": ("lab", "tell everything about an object, and why the kernel has what it has"),
    "scale": ("lab", "change how many Pods a Deployment has"),
    "rollout": ("lab", "restart a Deployment's Pods one by one, or wait for the end of it"),
    "cordon": ("lab", "let a node take no new Pods"),
    "uncordon": ("lab", "let it take them again"),
    "set": ("lab", "switch an ingredient: hairpin set masquerade=off"),
    "exec": ("inside", "run a command in a Pod or on a node"),
    "shell": ("inside", "open a shell in a Pod or on a node"),
    "logs": ("inside", "show what a Pod's container has printed"),
    "plan": ("node", "print what a node's kernel should hold for Services, and why"),
    "diff": ("node", "compare that with this machine's kernel, or with a lab's node"),
    "audit": ("node", "judge this machine's kernel, whoever programmed it, and say what mends it"),
    "proxy": ("node", "be this node's proxy for a cluster; or take away what one made: cleanup"),
    "completion": ("about", "print the completion script for bash, zsh or fish"),
    "kernel": ("about", "show what this machine's kernel and the embedded one can do"),
    "version": ("about", "print the version, and what a report of a bug needs"),
}

_GROUPS = {
    "learn": "Learn",
    "lab": "A lab of your own",
    "inside": "Inside the lab",
    "node": "A node's kernel",
    "about": "About",
}

COMPLETE = "__complete"
"""What the scripts of ``hairpin completion`` call with the words on the line."""

GLOBAL = ("--lab", "-n", "--namespace")
"""Options that may stand before the verb, as kubectl takes them there."""

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns its exit code."""
    _any_character()
    words = _verb_first(list(sys.argv[1:] if argv is None else argv))
    if not words or words[0] in ("-h", "--help", "help"):
        strict = words[:1] == ["help"]
        return _help([word for word in words[1:] if strict or word in VERBS])
    if words[0] == "--version":
        words = ["version"]
    verb = words.pop(0)
    if verb not in VERBS and verb != COMPLETE:
        return _unknown(verb)
    try:
        if verb == COMPLETE:
            from hairpin.cli.complete import complete

            code = complete(words)
        else:
            code = _run(verb, words)
        return _flushed() or code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # its reader went away (``| head``): nothing is to be said
        return 0


def _any_character() -> None:
    """A terminal or locale that lacks a character gets "?" for it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")


def _flushed() -> int:
    """Writes out what was printed; the exit code."""
    try:
        if sys.stdout:  # None where it was closed before the start
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"hairpin: standard output: {error.strerror}", file=sys.stderr)
        _drop_output()
        return 1
    return 0


def _drop_output() -> None:
    """Lets nothing be flushed when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _verb_first(words: list[str]) -> list[str]:
    """``-n other get pods`` as ``get -n other pods``."""
    moved: list[str] = []
    while words and words[0].startswith(GLOBAL):
        whole = "=" in words[0] or (words[0] not in GLOBAL)
        moved += [words.pop(0)] if whole else words[:2]
        words = words if whole else words[2:]
    return [*words[:1], *moved, *words[1:]] if words else moved


def _help(words: list[str]) -> int:
    """``hairpin help``, and ``hairpin help VERB``."""
    verbs = [word for word in words if not word.startswith("-")]
    if not verbs:
        print(usage())
        return 0
    return _run(verbs[0], ["--help"]) if verbs[0] in VERBS else _unknown(verbs[0])


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
                lines.append(f"  {verb:<10} {says}")
    lines += ["", "Every verb takes --lab NAME.  New here? Try: hairpin tour"]
    return "\n".join(lines)


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _unknown(verb: str) -> int:
    from difflib import get_close_matches

    close = get_close_matches(verb, VERBS, n=1)
    hint = f"did you mean {close[0]}?" if close else "see: hairpin --help"
    print(f"hairpin: there is no verb {_printable(verb)}; {hint}", file=sys.stderr)
    return EXIT_USAGE


def _run(verb: str, words: list[str]) -> int:
    from hairpin.cli.parser import parser_of

    parser, module = parser_of(verb)
    command: list[str] | None = None
    if "--" in words:
        cut = words.index("--")
        words, command = words[:cut], words[cut + 1 :]
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
        # What was typed is repeated there: it must not make lines or move the cursor.
        shown = _printable if error.exit_code == EXIT_USAGE else str
        print(f"hairpin: {shown(error.message)}", file=sys.stderr)
        if error.remedy:
            print(f"  {shown(error.remedy)}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"hairpin: {where}{error.strerror or error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
