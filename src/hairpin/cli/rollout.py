"""Restart the Pods of a Deployment one after the other, or wait until that has come to its end.

A new Pod is ready before an old one goes, as maxSurge and maxUnavailable allow (25% each, if the
Deployment says nothing).  The same happens when apply brings another Pod template.

examples:
  hairpin rollout restart deployment/web
  hairpin rollout status deployment/web
  hairpin rollout status deployment/web --timeout 30
"""

from __future__ import annotations

import argparse
from typing import Any

from hairpin.cli import select
from hairpin.lab.session import LabError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("restart", "status"), metavar="restart|status")
    naming(parser)
    parser.add_argument(
        "--watch",
        choices=("true", "false"),
        default="true",
        help="status: whether to wait for the end (default: true)",
    )
    parser.add_argument(
        "--timeout", type=float, default=0.0, metavar="SECONDS", help="status: wait no longer"
    )


def naming(parser: argparse.ArgumentParser) -> None:
    """What names Deployments."""
    parser.add_argument("what", nargs="*", metavar="deployment NAME... | deployment/NAME...")
    parser.add_argument(
        "-n", "--namespace", default="default", help="of this namespace (default: default)"
    )


def deployments(arguments: argparse.Namespace, example: str) -> list[str]:
    """The names of the Deployments meant.  Raises LabError."""
    names: list[str] = []
    for kind, some in select.asked(arguments.what):
        if kind != "deployments":
            raise LabError(f"{kind}: only Deployments have replicas", example, exit_code=2)
        names += some
    if not names:
        raise LabError("which deployment?", example, exit_code=2)
    return names


def run(arguments: argparse.Namespace) -> int:
    from hairpin.world.client import connect

    names = deployments(arguments, f"hairpin rollout {arguments.action} deployment/NAME")
    client = connect(arguments.lab)
    if arguments.action == "restart":
        client.call("restart", namespace=arguments.namespace, names=names)
        for name in names:
            print(f"deployment.apps/{name} restarted")
        return 0
    for name in names:
        _wait(client, name, arguments)
    return 0


def _wait(client: Any, name: str, arguments: argparse.Namespace) -> None:
    def told(event: dict[str, Any]) -> None:
        print(_waiting(name, event["waits_for"]), flush=True)

    try:
        answer = client.call(
            "rollout-status",
            on_event=told,
            limit=arguments.timeout or None,
            namespace=arguments.namespace,
            names=[name],
            watch=arguments.watch == "true",
        )
    except TimeoutError:
        said = f'deployment "{name}" is not rolled out after {arguments.timeout:g} seconds'
        raise LabError(said, "hairpin get pods shows what is not ready") from None
    if answer["waits_for"] is None:
        print(f'deployment "{name}" successfully rolled out')
    else:
        print(_waiting(name, answer["waits_for"]))


def _waiting(name: str, what: str) -> str:
    return f'Waiting for deployment "{name}" rollout to finish: {what}...'
