"""Delete objects of the running lab, by name or by the manifests that made them.

hairpin delete pod foo
hairpin delete svc/web
hairpin delete -f web.yaml
"""

from __future__ import annotations

import argparse
import sys

from hairpin.cli import manifests
from hairpin.cli.kinds import api_kind
from hairpin.lab.session import LabError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="*", metavar="KIND NAME | KIND/NAME")
    parser.add_argument("-f", "--filename", dest="files", action="append", metavar="FILE|DIR|-")
    parser.add_argument("-n", "--namespace", default="default", help="of the objects named")


def run(arguments: argparse.Namespace) -> int:
    from hairpin.world import lifecycle

    refs = _named(arguments.what, arguments.namespace)
    if arguments.files:
        arguments.strict = False
        for one in manifests.load(arguments).objects:
            refs.append((one.ref.kind, one.ref.namespace, one.ref.name))
    if not refs:
        raise LabError(
            "nothing to delete was named", "hairpin delete pod NAME, or -f FILE", exit_code=2
        )
    client = lifecycle.connect(arguments.lab)
    answer = client.call(
        "delete", refs=[{"kind": kind, "namespace": ns, "name": name} for kind, ns, name in refs]
    )
    for ref in answer["deleted"]:
        print(f"{manifests.short(ref)} deleted")
    sys.stdout.flush()
    return 0


def _named(words: list[str], namespace: str) -> list[tuple[str, str, str]]:
    """``pod a b`` and ``pod/a svc/b`` to kinds, namespaces and names."""
    if not words:
        return []
    if "/" in words[0]:
        pairs = [word.partition("/")[::2] for word in words]
    else:
        pairs = [(words[0], name) for name in words[1:]]
        if not pairs:
            raise LabError(f"which {words[0]}?", f"hairpin delete {words[0]} NAME", exit_code=2)
    found = []
    for kind, name in pairs:
        known = api_kind(kind)
        found.append((known, "" if known == "Node" else namespace, name))
    return found
