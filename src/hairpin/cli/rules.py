"""``hairpin get rules svc/NAME``: what serves one Service in the kernel, line by line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hairpin.lab.session import LabError

if TYPE_CHECKING:
    from hairpin.present.rules import Line
    from hairpin.world.client import Client

    Shown = list[tuple[str, list[Line]]]

WORDS = ("rules", "rule")
_MODES = ("ipvs", "iptables", "nftables")
_SERVICE = ("svc", "service", "services")


def run(arguments: argparse.Namespace) -> int:
    """Raises LabError."""
    from hairpin.world.client import connect

    name = _service(arguments.what[1:])
    _refuse(arguments)
    client = connect(arguments.lab)
    modes = _MODES if arguments.mode == "all" else (arguments.mode,)
    found = [_found(client, arguments, name, mode) for mode in modes]
    if arguments.output in ("json", "yaml"):
        from hairpin.cli.get import structured

        items = [_json(arguments, name, *one) for one in found]
        print(structured(items, arguments.output, alone=len(items) == 1))
        return 0
    print("\n".join(line for one in found for line in _text(arguments, name, *one)).strip())
    return 0


def _found(
    client: Client, arguments: argparse.Namespace, name: str, mode: str | None
) -> tuple[dict[str, Any], Shown]:
    """The lab's answer, and of it each node's lines.  Raises LabError."""
    import msgspec

    from hairpin.model.address import from_builtin
    from hairpin.present import rules
    from hairpin.present.rules_way import way

    answer: dict[str, Any] = client.call(
        "rules", namespace=arguments.namespace, name=name, mode=mode
    )
    shown: Shown = []
    for node in answer["nodes"]:
        objects, frame = (
            msgspec.convert(node[part], list[rules.Held], dec_hook=from_builtin)
            for part in ("objects", "frame")
        )
        if arguments.output == "wide" and objects:
            objects += way(objects, frame)
        shown.append((node["node"], rules.lines(objects)))
    return answer, shown


def _text(
    arguments: argparse.Namespace, name: str, answer: dict[str, Any], shown: Shown
) -> Iterator[str]:
    from hairpin.present import rules

    runs = answer["mode"] == answer["running"]
    says = "" if runs else f" (not running: {answer['running']} does; this is what it would make)"
    for node, found in shown:
        yield f"\nService {arguments.namespace}/{name} on {node}, {answer['mode']} mode{says}"
        if not found:
            yield "nothing: it has no address to serve"
        yield from rules.text(found)


def _refuse(arguments: argparse.Namespace) -> None:
    """Raises LabError for what ``get`` takes and rules have no use for."""
    if arguments.output == "name":
        raise LabError("-o name: rules are text, wide, json or yaml", exit_code=2)
    said = [word for word, given in (
        ("-w", arguments.watch), ("--watch-only", arguments.watch_only),
        ("--output-watch-events", arguments.output_watch_events),
        ("-A", arguments.all_namespaces), ("-l", arguments.selector),
        ("--show-labels", arguments.show_labels), ("--no-headers", arguments.no_headers),
    ) if given]  # fmt: skip
    if said:
        raise LabError(f"{said[0]}: rules are of one Service, as they are now",
                       "hairpin get rules svc/NAME [-n NAMESPACE] [--mode M]",
                       exit_code=2)  # fmt: skip


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
    shown: Shown,
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
