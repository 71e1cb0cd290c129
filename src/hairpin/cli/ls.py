"""List the labs that run, of the user who asks.

hairpin ls
hairpin ls -o json
hairpin get pods --lab NAME
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from hairpin.lab.session import LabError
from hairpin.present.table import age, table

_PATIENCE = 2.0  # seconds; a lab that is being built answers later


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("json", "name"), default="", help="another form")


def run(arguments: argparse.Namespace) -> int:
    from hairpin.world import lifecycle

    names = lifecycle.running()
    if arguments.output == "name":
        print("\n".join(names), end="\n" if names else "")
        return 0
    labs = [lab for name in names if (lab := look(name))]
    if arguments.output == "json":
        print(json.dumps({"labs": labs}, indent=2))
        return 0
    if not labs:
        print("no labs are running")
        return 0
    now = time.time()
    rows = [
        [
            lab["name"], lab["kernel"], lab["state"], *(_number(lab[one]) for one in _COUNTED),
            age(now - lab["started"]),
        ]
        for lab in labs
    ]  # fmt: skip
    print(table(["NAME", "KERNEL", "STATE", "NODES", "PODS", "AGE"], rows))
    return 0


_COUNTED = ("nodes", "pods")


def look(name: str) -> dict[str, Any] | None:
    """One lab; None when it ended meanwhile.  Counts are None where it does not answer."""
    from hairpin.world import lifecycle

    try:
        facts = lifecycle.facts(name)
        client = lifecycle.connect(name)
    except LabError:
        return None
    counts: dict[str, int | None] = {}
    state = "Running"
    for kind in _COUNTED:
        try:
            counts[kind] = len(client.call("get", limit=_PATIENCE, kind=kind))
        except TimeoutError:
            counts[kind], state = None, "Busy"
        except LabError:
            return None
    started = float(facts["started"])
    return {"name": name, "kernel": facts["kernel"], "state": state, "started": started, **counts}


def _number(count: int | None) -> str:
    return "?" if count is None else str(count)
