"""Tell everything about an object: a Pod, Service, node or Deployment.

Below what kubectl describe says stands what the kernel holds for the object on each node, why, and
whether it is there now.

examples:
  hairpin describe svc web
  hairpin describe pod/foo node/node
  hairpin describe pods -l app=web
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from hairpin.cli import select
from hairpin.cli.kinds import DESCRIBED
from hairpin.cli.select import Scope
from hairpin.lab.session import LabError
from hairpin.present import describe
from hairpin.world.client import Client


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="*", metavar="KIND [NAME...] | KIND/NAME...")
    select.arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from hairpin.world.client import connect

    wanted = select.asked(arguments.what)
    if not wanted:
        raise LabError("describe what?", f"hairpin describe {'|'.join(DESCRIBED)}", exit_code=2)
    for kind, _ in wanted:
        if kind not in DESCRIBED:
            raise LabError(
                f"there is no more to say of {kind}",
                f"hairpin get {kind} -o yaml; describe knows {', '.join(DESCRIBED)}",
                exit_code=2,
            )
    scope = Scope.of(arguments)
    scope.check(wanted)
    known = _Known(connect(arguments.lab))
    found = [
        known.text(asked.kind, one)
        for asked in wanted
        for one in select.chosen(known.all, asked, scope)
    ]
    if not found:
        print(f"no {wanted[0].kind}{scope.place(wanted[0].kind)}", file=sys.stderr)
        return 0
    print("\n\n\n".join(found))
    return 0


class _Known:
    """A lab's objects, each kind asked for once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._found: dict[str, list[dict[str, Any]]] = {}

    def all(self, kind: str) -> list[dict[str, Any]]:
        if kind not in self._found:
            self._found[kind] = self._client.call("get", kind=kind)
        return self._found[kind]

    def text(self, kind: str, one: dict[str, Any]) -> str:
        match kind:
            case "services":
                return describe.service(one, self.all("endpoints"), self._owned("service", one))
            case "pods":
                return describe.pod(one, self.all("endpoints"), self._owned("pod", one))
            case "nodes":
                return describe.node(one, self.all("pods"), self._owned("node", one))
        return describe.deployment(one, self.all("pods"))

    def _owned(self, kind: str, one: dict[str, Any]) -> list[dict[str, Any]]:
        metadata = one["metadata"]
        name = metadata["name"] if kind == "node" else f"{metadata['namespace']}/{metadata['name']}"
        owned: list[dict[str, Any]] = self._client.call("owned", owner=f"{kind} {name}")
        return owned
