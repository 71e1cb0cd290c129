"""``hairpin get rules svc/NAME``: what serves one Service in the kernel, line by line."""

from __future__ import annotations

import argparse
from typing import Any

from hairpin.lab.session import LabError

WORDS = ("rules", "rule")
_SERVICE = ("svc", "service", "services")


def run(arguments: argparse.Namespace) -> int:
    """Raises LabError."""
    import msgspec

    from hairpin.model.address import from_builtin
    from hairpin.present import rules
    from hairpin.world.client import connect

    name = _service(arguments.what[1:])
    if arguments.output not in ("", "json", "yaml"):
        raise LabError(f"-o {arguments.output}: rules are text, json or yaml", exit_code=2)
    answer: dict[str, Any] = connect(arguments.lab).call(
        "rules", namespace=arguments.namespace, name=name, mode=arguments.mode
    )
    shown = []
    for node in answer["nodes"]:
        objects = msgspec.convert(node["objects"], list[rules.Held], dec_hook=from_builtin)
        shown.append((node["node"], rules.lines(objects)))
    if arguments.output:
        from hairpin.cli.get import structured

        print(structured([_json(arguments, name, answer, shown)], arguments.output, alone=True))
        return 0
    runs = answer["mode"] == answer["running"]
    says = "" if runs else f" (not running: {answer['running']} does; this is what it would make)"
    for number, (node, found) in enumerate(shown):
        if number:
            print()
        print(f"Service {arguments.namespace}/{name} on {node}, {answer['mode']} mode{says}")
        if not found:
            print("nothing: it has no address to serve")
        for line in rules.text(found):
            print(line)
    return 0


def _service(words: list[str]) -> str:
    """``svc/web`` or ``svc web``.  Raises LabError."""
    kind, slash, name = words[0].partition("/") if words else ("", "", "")
    if not slash and len(words) == 2:
        name = words[1]
    elif len(words) != 1:
        name = ""
    if kind.lower() not in _SERVICE or not name:
        raise LabError("rules of which Service?", "hairpin get rules svc/NAME", exit_code=2)
    return name


def _json(
    arguments: argparse.Namespace,
    name: str,
    answer: dict[str, Any],
    shown: list[tuple[str, Any]],
) -> dict[str, Any]:
    return {
        "apiVersion": "hairpin.dev/v1",
        "kind": "Rules",
        "service": f"{arguments.namespace}/{name}",
        "mode": answer["mode"],
        "running": answer["running"],
        "nodes": [
            {
                "node": node,
                "lines": [
                    {"tool": one.tool, "line": one.text, "why": one.why, "absent": one.absent}
                    for one in found
                ],
            }
            for node, found in shown
        ],
    }
