"""Show what each kernel can do for labs: this machine's own, and the embedded one (guest).

Each ability is tried in namespaces to throw away, for the user who asks; the embedded kernel is
started for it.  Nothing of the machine changes, but a kernel may load modules that are asked for.

hairpin kernel
hairpin kernel -o json
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from hairpin.cli import terminal
from hairpin.cli.progress import Progress
from hairpin.lab.session import LabError
from hairpin.present.table import table

if TYPE_CHECKING:
    from hairpin.kernel.probe import Result

Report = dict[str, Any]
_GREEN, _RED, _PLAIN = "\033[32m", "\033[31m", "\033[0m"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=("json", "wide"), default="", help="another form")


def run(arguments: argparse.Namespace) -> int:
    with Progress() as line:
        line.say("trying this machine's kernel")
        host, host_error = _of_host()
        line.say("trying the embedded kernel")
        guest, guest_error = _of_guest()
    shown = report(host, host_error, guest, guest_error)
    if arguments.output == "json":
        print(json.dumps(shown, indent=2))
    else:
        print(text(shown, wide=arguments.output == "wide", colour=terminal.colours()))
    return 0


def _of_host() -> tuple[Report | None, str]:
    from hairpin.kernel import probe

    try:
        return probe.report(probe.attempt()), ""
    except OSError as error:
        return None, str(error)


def _of_guest() -> tuple[Report | None, str]:
    from hairpin.world import lifecycle

    try:
        with lifecycle.ephemeral("kernel", "guest") as client:
            found: Report = client.call("abilities", load=True)
            return found, ""
    except LabError as error:
        return None, str(error).replace("\n", ": ")


def report(
    host: Report | None, host_error: str, guest: Report | None, guest_error: str
) -> dict[str, Any]:
    """What ``-o json`` prints; None for an ability where its kernel could not be tried."""
    from hairpin.kernel.probe import ABILITIES

    results = {
        name: {one["name"]: one for one in found["results"]} if found else {}
        for name, found in (("host", host), ("guest", guest))
    }

    def of(kernel: str, ability: str) -> dict[str, Any] | None:
        one = results[kernel].get(ability)
        return {"able": one["able"], "why": one["why"]} if one else None

    return {
        "host": {"release": host["kernel"] if host else None, "error": host_error or None},
        "guest": {"release": guest["kernel"] if guest else None, "error": guest_error or None},
        "auto": _auto(host),
        "abilities": [
            {
                "name": row.name,
                "purpose": row.purpose,
                "host": of("host", row.name),
                "guest": of("guest", row.name),
                "remedy": row.remedy,
                "partOf": row.needs or None,
            }
            for row in ABILITIES
        ],
    }


def _auto(host: Report | None) -> dict[str, Any]:
    """Which kernel ``hairpin up`` takes by itself, and why."""
    from hairpin.kernel import probe
    from hairpin.world.choice import host_lacks

    if host is None:
        return {"kernel": "guest", "reason": "this machine's refuses namespaces"}
    results: list[Result] = [
        probe.Result(one["name"], one["able"], one["why"]) for one in host["results"]
    ]
    for_labs = [one for one in results if one.name in probe.FOR_LABS]
    lacking = host_lacks(probe.abilities(for_labs))
    if lacking:
        return {"kernel": "guest", "reason": lacking}
    return {"kernel": "host", "reason": "it has all that Services need"}


def text(shown: dict[str, Any], *, wide: bool, colour: bool) -> str:
    """The same for people; ``wide`` also says why each is missing."""
    lines = [
        f"host   Linux {shown['host']['release'] or 'not tried: ' + shown['host']['error']}",
        f"guest  Linux {shown['guest']['release'] or 'not tried: ' + shown['guest']['error']}",
        f"hairpin up takes the {shown['auto']['kernel']}: {shown['auto']['reason']}",
        "",
    ]
    header = ["ABILITY", "HOST", "GUEST", "FOR", *(["WHY NOT"] if wide else [])]
    rows = [
        [
            one["name"], _mark(one["host"]), _mark(one["guest"]), one["purpose"],
            *([_why(one)] if wide else []),
        ]
        for one in shown["abilities"]
    ]  # fmt: skip
    lines.append(table(header, rows, paint=_paint if colour else None))
    absent = {one["name"] for one in shown["abilities"] if one["host"] and not one["host"]["able"]}
    remedies = [
        (one["name"], one["remedy"])
        for one in shown["abilities"]
        if one["name"] in absent and one["partOf"] not in absent
    ]
    if remedies:
        lines += ["", "What this machine's kernel lacks, and what brings it:"]
        room = max(len(name) for name, _ in remedies)
        lines += [f"  {name:<{room}}  {remedy}" for name, remedy in remedies]
    return "\n".join(lines)


def _mark(found: dict[str, Any] | None) -> str:
    return "n/a" if found is None else "yes" if found["able"] else "no"


def _why(one: dict[str, Any]) -> str:
    said = [
        f"{kernel}: {one[kernel]['why']}"
        for kernel in ("host", "guest")
        if one[kernel] and not one[kernel]["able"]
    ]
    return "; ".join(said)


def _paint(column: str, cell: str) -> str:
    if column not in ("HOST", "GUEST") or cell not in ("yes", "no"):
        return cell
    return f"{_GREEN if cell == 'yes' else _RED}{cell}{_PLAIN}"
