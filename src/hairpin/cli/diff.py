"""Print the changes that would bring a kernel to what hairpin plan says, making none of them.

The kernel is this one, in the network namespace that hairpin is started in (as root: reading IPVS
needs it), or with --node that of a lab's node; without -f it is held against the lab's own objects
then, and without --config and flags against what the lab's proxies run with.  + is to be made, - is
to go, ~ is to become otherwise.  Exit code 0 for no difference, 1 for some, 2 for an error.

examples:
  hairpin diff -f cluster.yaml --config kube-proxy.yaml
  hairpin diff --kubeconfig node.kubeconfig --config kube-proxy.yaml
  hairpin diff --node node
  hairpin diff -f web.yaml --node node -o shell
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import msgspec

from hairpin.cli import planning
from hairpin.cli.planning import Basis
from hairpin.cli.this_kernel import HERE
from hairpin.lab.session import LabError
from hairpin.mode.compare import Compared
from hairpin.state.change import Change
from hairpin.state.netfilter import Jump
from hairpin.state.nftables import NftObject

_DIFFERENT, _FAILED = 1, 2
_CHAIN = re.compile(r"ip6?tables (?:-t \w+ )?-([NX]) ")


def arguments(parser: argparse.ArgumentParser) -> None:
    planning.arguments(
        parser,
        required=False,
        mode_help="how Services are carried (what --config says; without a file ipvs, with "
        "--kubeconfig iptables, with --node what the lab runs)",
    )
    parser.add_argument("--node", metavar="NAME", help="a node of the lab instead of this kernel")
    parser.add_argument(
        "--iptables",
        choices=("legacy", "nft"),
        help="the variant to read here (the one with rules of Kubernetes, else the system's)",
    )
    parser.add_argument(
        "-o",
        "--output",
        choices=("text", "json", "shell"),
        default="text",
        help="for people, for programs, or as the commands that a person would type",
    )


def run(arguments: argparse.Namespace) -> int:
    try:
        return _run(arguments)
    except LabError as error:
        raise LabError(error.message, error.remedy, exit_code=_FAILED) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise LabError(f"{where}{error.strerror or error}", exit_code=_FAILED) from None


def _run(arguments: argparse.Namespace) -> int:
    given = _basis(arguments)
    found = _here(arguments, given) if not arguments.node and given else _in_lab(arguments, given)
    name = given.node.name if given else arguments.node
    problems = [*(given.problems if given else ()), *found.problems]
    match arguments.output:
        case "json":
            from hairpin.present.plan_json import diff_json

            shown = diff_json(found.changes, found.owners, name, problems, found.mode)
            print(json.dumps(shown, indent=2, ensure_ascii=False))
        case "shell":
            for line in _typed(found.changes):
                print(line)
        case _:
            from hairpin.cli.terminal import colours
            from hairpin.present.diff_text import diff_lines

            for line in diff_lines(zip(found.changes, found.owners, strict=True), colour=colours()):
                print(line)
    if arguments.output != "json":
        print(end="", flush=True)
        for problem in problems:
            print(f"problem: {problem}", file=sys.stderr)
    return _DIFFERENT if found.changes else 0


def _typed(changes: Sequence[Change]) -> Iterator[str]:
    """What a person would type, in an order that works."""
    from hairpin.present.nft_shell import transaction
    from hairpin.present.shell import commands

    tables = transaction(changes)
    others = [one for one in changes if not isinstance(one.object, get_args(NftObject))]
    # Each jump is put at the head of its chain, so that the last is the first there.
    jumps = [one for one in others if isinstance(one.object, Jump)]
    others = [one for one in others if not isinstance(one.object, Jump)]
    lines = [line for one in (*others, *reversed(jumps)) for line in commands(one, one.netns)]
    yield from sorted(lines, key=_turn)
    if tables:
        yield from ("nft -f - <<'END'", *tables, "END")


def _basis(arguments: argparse.Namespace) -> Basis | None:
    """What a person gave; None for a lab's own objects.

    Raises ManifestError, LabError, OSError.
    """
    if arguments.files:
        return planning.basis(arguments, arguments.node or "")
    if arguments.node:
        return None
    if arguments.flag_kubeconfig:
        return planning.basis_of_cluster(arguments, arguments.flag_kubeconfig)
    raise LabError(
        "which Services?",
        "say -f FILE, --kubeconfig FILE for a cluster's, or --node NAME for a lab's own",
    )


def _turn(line: str) -> int:
    """Rules of one chain lead to others, so that all of them are made first and removed last."""
    found = _CHAIN.match(line)
    return 1 if found is None else 0 if found[1] == "N" else 2


def _here(arguments: argparse.Namespace, given: Basis) -> Compared:
    """This kernel's differences.  Raises LabError, OSError."""
    from hairpin.cli.this_kernel import this_kernel
    from hairpin.mode.compare import compare

    addresses = given.node.addresses if arguments.state else None
    with this_kernel(
        "reading the kernel's tables", given.config.mode, arguments.iptables
    ) as kernel:
        return compare(
            kernel,
            HERE,
            given.config,
            given.node.name,
            given.snapshot,
            addresses,
            given.node.service_cidrs,
        )


def _in_lab(arguments: argparse.Namespace, given: Basis | None) -> Compared:
    """Those of a lab's node, which the lab finds by itself.  Raises LabError."""
    from hairpin.model.address import from_builtin
    from hairpin.model.decode import encode
    from hairpin.state.change import Change
    from hairpin.world.client import connect

    request: dict[str, Any] = {"node": arguments.node}
    if given is not None:
        request["objects"] = json.loads(encode(given.snapshot))
        said = set(planning.flags_of(arguments)) - {"hostname-override"}
        if arguments.config or arguments.mode or said:
            request["config"] = msgspec.to_builtins(given.config, enc_hook=float)  # Seconds
    answer: dict[str, Any] = connect(arguments.lab).call("compare", **request)
    changes = msgspec.convert(answer["changes"], list[Change], dec_hook=from_builtin)
    owners, problems = list(answer["owners"]), list(answer["problems"])
    return Compared(changes, owners, problems, str(answer["mode"]))
