"""Show what the lab has, and what its kernel has.

Kinds, with kubectl's short names: nodes (no), namespaces (ns), deployments (deploy), pods (po),
services (svc), endpoints (ep, eps: EndpointSlices), all; and of the kernel: virtualservers (vs),
connections (conn), ingredients (ing), proxies (proxy); and rules of one Service, in any proxy mode.
What -o json prints is described in docs/json.md.

examples:
  hairpin get pods -o wide
  hairpin get pods,svc -A
  hairpin get pods -l 'app=web,tier!=db' --show-labels
  hairpin get svc/web pod/foo -o yaml
  hairpin get pods -w                  a row when a Pod changes, until Ctrl-C
  hairpin get vs -o wide               IPVS's table, and which Service each line is for
  hairpin get connections              what IPVS remembers of each connection
  hairpin get rules svc/web            what serves a Service in the kernel, and why
  hairpin get rules svc/web -o wide    and how packets come to it, and what follows
  hairpin get rules svc/web --mode nftables
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from hairpin.cli import rules, select
from hairpin.cli.kinds import KINDS, singular
from hairpin.cli.select import Asked, Scope
from hairpin.cli.terminal import paint
from hairpin.lab.session import LabError
from hairpin.present import objects
from hairpin.present.table import table

_FORMS = ("wide", "json", "yaml", "name")

Found = list[tuple[Asked, list[dict[str, Any]]]]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="*", metavar="KIND [NAME...] | KIND/NAME...")
    parser.add_argument("-o", "--output", choices=_FORMS, default="", help="another form")
    select.arguments(parser)
    parser.add_argument(
        "-w", "--watch", action="store_true", help="go on and show what changes, until Ctrl-C"
    )
    parser.add_argument(
        "--watch-only", action="store_true", help="show only what changes from now on"
    )
    parser.add_argument(
        "--output-watch-events", action="store_true", help="say what happened to each object"
    )
    parser.add_argument("--no-headers", action="store_true", help="leave the headings out")
    parser.add_argument(
        "--mode",
        choices=("ipvs", "iptables", "nftables", "all"),
        help="rules: what this mode makes or would make (the one that runs), or each of them",
    )
    parser.add_argument("--show-labels", action="store_true", help="labels as the last column")
    parser.add_argument(
        "--ignore-not-found", action="store_true", help="a name that is nobody's is no error"
    )


def run(arguments: argparse.Namespace) -> int:
    from hairpin.world.client import connect

    if arguments.what and arguments.what[0] in rules.WORDS:
        return rules.run(arguments)
    if arguments.mode is not None:
        raise LabError("--mode is for rules", "hairpin get rules svc/NAME --mode M", exit_code=2)
    wanted = select.asked(arguments.what)
    if not wanted:
        raise LabError("get what?", f"hairpin get {'|'.join(KINDS)}", exit_code=2)
    scope = Scope.of(arguments)
    scope.check(wanted)
    if arguments.watch or arguments.watch_only:
        from hairpin.cli.watch import watch

        if len(wanted) > 1:
            raise LabError("-w watches one kind", f"hairpin get {wanted[0].kind} -w", exit_code=2)
        return watch(connect(arguments.lab), wanted[0], scope, arguments)
    client = connect(arguments.lab)

    def fetch(kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = client.call("get", kind=kind)
        return found

    lenient = arguments.ignore_not_found
    found = [(one, select.chosen(fetch, one, scope, lenient=lenient)) for one in wanted]
    _print(found, scope, arguments)
    return 0


def _print(found: Found, scope: Scope, arguments: argparse.Namespace) -> None:
    every = [each for _, some in found for each in some]
    if arguments.output in ("json", "yaml"):
        named = sum(len(one.names) for one, _ in found) == 1
        if every or not arguments.ignore_not_found:
            print(structured(every, arguments.output, alone=named and len(every) == 1))
    elif arguments.output == "name":
        for one, some in found:
            for each in some:
                print(f"{singular(one.kind)}/{objects.name_of(one.kind, each)}")
    elif every:
        print("\n\n".join(_tables(found, scope, arguments)))
    elif not arguments.ignore_not_found:
        kinds = " or ".join(one.kind for one, _ in found)
        place = scope.place(found[0][0].kind)
        chosen = f" with {scope.selector}" if scope.selector else ""
        print(f"no {kinds}{place}{chosen}", file=sys.stderr)


def _tables(found: Found, scope: Scope, arguments: argparse.Namespace) -> list[str]:
    made = []
    for one, some in found:
        if not some:
            continue
        header, rows = columns(one.kind, some, scope, arguments, several=len(found) > 1)
        headed = not arguments.no_headers
        made.append(table(header, rows, paint=paint(), headed=headed))
    return made


def columns(
    kind: str,
    some: list[dict[str, Any]],
    scope: Scope,
    arguments: argparse.Namespace,
    *,
    several: bool = False,
) -> tuple[list[str], list[list[str]]]:
    """Header and rows as the options ask for them; ``several`` kinds are told apart by name."""
    return objects.columns(
        kind,
        some,
        now=time.time(),
        wide=arguments.output == "wide",
        namespace=scope.everywhere,
        labels=arguments.show_labels,
        prefix=f"{singular(kind)}/" if several else "",
    )


def structured(found: list[dict[str, Any]], form: str, *, alone: bool) -> str:
    """Objects as JSON or YAML: one by itself, or a List."""
    shown: Any = found[0] if alone else {"apiVersion": "v1", "kind": "List", "items": found}
    if form == "json":
        return json.dumps(shown, indent=2, ensure_ascii=False)
    return _yaml(shown)


def _yaml(value: Any) -> str:
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes what kubectl would read as a truth value: a name may be "n"."""

    def text(dumper: yaml.SafeDumper, said: str) -> yaml.ScalarNode:
        style = "'" if said.lower() in ("y", "n") else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", said, style=style)

    Dumper.add_representer(str, text)
    dumped: str = yaml.dump(
        value, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    return dumped.rstrip("\n")
