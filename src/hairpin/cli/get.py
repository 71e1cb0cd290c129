"""Show what the lab has: nodes, pods, services, endpoints, virtualservers, ingredients.

hairpin get pods -o wide
hairpin get svc web -o yaml
hairpin get virtualservers
hairpin get ingredients
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from hairpin.cli.kinds import KINDS, shown_kind
from hairpin.lab.session import LabError
from hairpin.present import objects
from hairpin.present.table import table

_NAMESPACED = ("pods", "services", "endpoints")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", metavar="KIND")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("-o", "--output", choices=("wide", "json", "yaml"), default="")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("-A", "--all-namespaces", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    from hairpin.world import lifecycle

    if arguments.kind is None:
        raise LabError("get what?", f"hairpin get {'|'.join(KINDS)}", exit_code=2)
    word, slash, name = arguments.kind.partition("/")
    kind = shown_kind(word)
    names = [name] if slash else arguments.names
    everywhere = arguments.all_namespaces or kind not in _NAMESPACED
    client = lifecycle.connect(arguments.lab)
    found: list[dict[str, Any]] = client.call("get", kind=kind)
    if not everywhere:
        found = [one for one in found if one["metadata"]["namespace"] == arguments.namespace]
    found = _named(found, kind, names)
    if arguments.output in ("json", "yaml"):
        print(_structured(found, arguments.output, alone=bool(len(names) == 1)))
        return 0
    if not found:
        where = "" if everywhere else f" in namespace {arguments.namespace}"
        print(f"no {kind}{where}")
        return 0
    header, rows = objects.columns(
        kind,
        found,
        now=time.time(),
        wide=arguments.output == "wide",
        namespace=arguments.all_namespaces,
    )
    print(table(header, rows))
    return 0


def _named(found: list[dict[str, Any]], kind: str, names: list[str]) -> list[dict[str, Any]]:
    """Those with the names asked for, in that order; all where none is.  Raises LabError."""
    if not names:
        return found
    by_name = {objects.name_of(kind, one): one for one in found}
    for name in names:
        if name not in by_name:
            known = ", ".join(by_name)
            raise LabError(
                f"there is no {name} among the {kind}",
                f"there are: {known}" if known else None,
                exit_code=2,
            )
    return [by_name[name] for name in names]


def _structured(found: list[dict[str, Any]], form: str, *, alone: bool) -> str:
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
