"""``hairpin check --cluster``: the story's claims on a node of a real cluster.

Read-only, but for ``--connect``, which connects to Services from this node.
"""

from __future__ import annotations

import argparse
import json
import socket
from typing import TYPE_CHECKING

from hairpin.lab.session import LabError

if TYPE_CHECKING:
    from hairpin.claims.cluster import ClusterVerdict

_MOST = 20  # Services that are connected to
_PATIENCE = 2.0  # seconds for one connection
_WORDS = {"held": "held", "differs": "differs", "failed": "not so", "skipped": "skipped"}
_COLOURS = {"held": "32", "differs": "36", "failed": "31", "skipped": "90"}


def arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("on a node of a real cluster")
    group.add_argument(
        "--cluster",
        action="store_true",
        help="no lab: see whether this node of a cluster bears the story's claims out",
    )
    group.add_argument("--kubeconfig", metavar="FILE", help="how to reach the API server")
    group.add_argument("--config", metavar="FILE", help="kube-proxy's configuration")
    group.add_argument("--hostname-override", metavar="NODE", help="the Node, if not the host name")
    group.add_argument("--state", metavar="DIR", help="what was collected of the node instead")
    group.add_argument(
        "--connect", action="store_true", help="connect to some Services' ClusterIPs as well"
    )


def refuse(arguments: argparse.Namespace) -> None:
    """Raises LabError for what only a real cluster's check takes, where that is not asked for."""
    said = [word for word, given in (
        ("--kubeconfig", arguments.kubeconfig), ("--config", arguments.config),
        ("--hostname-override", arguments.hostname_override), ("--state", arguments.state),
        ("--connect", arguments.connect),
    ) if given]  # fmt: skip
    if said:
        words = f"{said[0]} is for a node of a real cluster"
        raise LabError(words, f"hairpin check --cluster {said[0]} ...", exit_code=2)


def run(arguments: argparse.Namespace) -> int:
    from hairpin.audit.judge import report
    from hairpin.claims.cluster import judged, structured, tries
    from hairpin.cli import audit

    if arguments.claims:
        raise LabError("--cluster runs the story's claims, all of them", exit_code=2)
    if arguments.connect and arguments.state:
        raise LabError("--connect is for this node, --state for another", exit_code=2)
    case, snapshot, problems = audit.case_for(_as_audit(arguments))
    found = report(case, problems)
    verdicts = judged(case, found)
    if arguments.connect:
        verdicts += [_connected(*one) for one in tries(snapshot, case, _MOST)]
    if arguments.output == "json":
        shown = structured(verdicts, found, arguments.lang)
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        _print(verdicts, arguments.lang)
        counts = ", ".join(
            f"{count} {word}"
            for result, word in _WORDS.items()
            if (count := sum(one.result == result for one in verdicts))
        )
        print(f"{found.node}, {found.mode} mode: {counts}; hairpin audit says more")
    return 1 if any(one.result == "failed" for one in verdicts) else 0


def _as_audit(arguments: argparse.Namespace) -> argparse.Namespace:
    from hairpin.source import configuration

    flags = {f"flag_{name}": None for name in configuration.FLAGS}
    given = {
        "flag_kubeconfig": arguments.kubeconfig,
        "flag_hostname-override": arguments.hostname_override,
    }
    return argparse.Namespace(
        files=None,
        strict=False,
        config=arguments.config,
        state=arguments.state,
        mode=None,
        **(flags | given),
    )


def _connected(name: str, ip: object, port: int) -> ClusterVerdict:
    from hairpin.claims.base import Text
    from hairpin.claims.cluster import ClusterVerdict

    says = Text(f"the node reaches {name}", f"节点可以访问 {name}")
    where = f"[{ip}]:{port}" if ":" in str(ip) else f"{ip}:{port}"
    try:
        socket.create_connection((str(ip), port), _PATIENCE).close()
    except OSError as error:
        said = error.strerror or str(error)
        text = f"{where}: {said}"
        return ClusterVerdict(id=f"connect.{name}", says=says, result="failed", seen=text)
    return ClusterVerdict(id=f"connect.{name}", says=says, result="held", seen=f"{where} answers")


def _print(verdicts: list[ClusterVerdict], language: str) -> None:
    from hairpin.cli.terminal import colours

    colour = colours()
    wide = max(20, *(len(one.id) for one in verdicts))
    for one in verdicts:
        word = _WORDS[one.result]
        shown = f"\033[{_COLOURS[one.result]}m{word}\033[0m" if colour else word
        says = one.says.zh if language == "zh" else one.says.en
        print(f"{shown}{' ' * (8 - len(word))} {one.id:<{wide}} {says}")
        print(f"{'':<{wide + 9}} {one.seen}")
