"""Delete objects of the lab, by name, by label, or by the manifests that made them.

A Pod has time to end, as in Kubernetes: its endpoints stop being ready, then preStop is done and
its processes get SIGTERM, and after terminationGracePeriodSeconds (30) SIGKILL.  The built-in
server ends when nobody is connected.

What a Deployment made comes back, under another name; what follows from an object goes with it.
If one of the names is nobody's, nothing is deleted.

examples:
  hairpin delete pod foo bar
  hairpin delete svc/web pod/foo
  hairpin delete -f web.yaml
  hairpin delete pods,svc -l app=web
  hairpin delete pods --all
  hairpin delete pod foo --grace-period 5
  hairpin delete pod foo --force       at once
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from hairpin.cli import select
from hairpin.cli.kinds import NAMESPACED, api_kind
from hairpin.cli.select import Asked, Scope
from hairpin.lab.session import LabError

Refs = list[dict[str, str]]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="*", metavar="KIND NAME... | KIND/NAME...")
    parser.add_argument(
        "-f",
        "--filename",
        dest="files",
        action="append",
        metavar="FILE|DIR|-",
        help="what these manifests name; may be repeated",
    )
    select.arguments(parser)
    parser.add_argument("--all", action="store_true", help="all of that kind in the namespace")
    parser.add_argument(
        "--ignore-not-found", action="store_true", help="a name that is nobody's is no error"
    )
    parser.add_argument(
        "--grace-period",
        type=int,
        metavar="SECONDS",
        help="time for Pods to end, instead of what they say; 0: none",
    )
    parser.add_argument("--now", action="store_true", help="one second for Pods to end")
    parser.add_argument("--force", action="store_true", help="end Pods at once")
    parser.add_argument(
        "--wait",
        choices=("true", "false"),
        default="true",
        help="whether to wait until Pods have ended (default: true)",
    )


def run(arguments: argparse.Namespace) -> int:
    from hairpin.cli.manifests import load, short
    from hairpin.world.client import connect

    wanted = select.asked(arguments.what)
    scope = Scope.of(arguments)
    scope.check(wanted)
    _check(wanted, arguments)
    grace = _grace(arguments)
    refs: Refs = []
    if arguments.files:
        arguments.strict = False
        for one in load(arguments).objects:
            refs.append(_ref(one.ref.kind, one.ref.namespace, one.ref.name))
    client = connect(arguments.lab)

    def fetch(kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = client.call("get", kind=kind)
        return found

    for asked in wanted:
        refs += _named(asked, scope) if asked.names else _found(fetch, asked, scope)
    if arguments.ignore_not_found:
        there = client.call("names")
        refs = [
            ref for ref in refs if [ref["namespace"], ref["name"]] in there.get(ref["kind"], [])
        ]
    if not refs:
        print("nothing to delete", file=sys.stderr)
        return 0
    wait = arguments.wait == "true"
    for ref in client.call("delete", refs=refs, grace=grace, wait=wait)["deleted"]:
        print(f"{short(ref)} deleted")
    return 0


def _check(wanted: list[Asked], arguments: argparse.Namespace) -> None:
    """Raises LabError unless it is clear what is to be deleted."""
    for kind, _ in wanted:
        api_kind(kind)
    chosen = arguments.all or arguments.selector
    if not wanted and (chosen or not arguments.files):
        raise LabError(
            "nothing to delete was named", "hairpin delete pod NAME, or -f FILE", exit_code=2
        )
    for kind, names in wanted:
        if not names and not chosen:
            raise LabError(
                f"which {kind}?", f"hairpin delete {kind} NAME, -l LABELS or --all", exit_code=2
            )
        if names and arguments.all:
            raise LabError("names and --all do not go together", "leave one out", exit_code=2)


def _grace(arguments: argparse.Namespace) -> int | None:
    """Seconds that Pods get; None: as they say themselves.  Raises LabError."""
    given: int | None = arguments.grace_period
    if given is not None and given < 0:
        given = None  # kubectl's -1
    if arguments.now and (arguments.force or given is not None):
        raise LabError("--now is a grace period of its own", "leave one out", exit_code=2)
    if arguments.force and given:
        raise LabError("--force is a grace period of 0", "leave one out", exit_code=2)
    if arguments.now:
        return 1
    return 0 if arguments.force else given


def _named(asked: Asked, scope: Scope) -> Refs:
    namespace = scope.namespace if asked.kind in NAMESPACED else ""
    return [_ref(api_kind(asked.kind), namespace, name) for name in asked.names]


def _found(fetch: select.Fetch, asked: Asked, scope: Scope) -> Refs:
    return [
        _ref(one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"])
        for one in select.chosen(fetch, asked, scope)
    ]


def _ref(kind: str, namespace: str, name: str) -> dict[str, str]:
    return {"kind": kind, "namespace": namespace, "name": name}
