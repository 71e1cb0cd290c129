"""Try every combination of the hairpin's ingredients, each from the node, another Pod and the Pod
itself: 72 real connections to one Service with one endpoint.

Which of br_netfilter, hairpin, IPVS conntrack and masquerading does a Service need?  A green cell
was answered, and shows the client's address that the server saw; a red one timed out.

examples:
  hairpin matrix
  hairpin matrix -o json
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import msgspec

from hairpin.claims import matrix
from hairpin.claims.matrix import Cell
from hairpin.cli.progress import Progress

if TYPE_CHECKING:
    from rich.table import Table


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="for people or programs"
    )


def run(arguments: argparse.Namespace) -> int:
    from hairpin.model.decode import decode_object, encode
    from hairpin.world import lifecycle

    objects = json.loads(encode([decode_object(one) for one in matrix.OBJECTS]))
    with Progress() as line:
        line.say("starting a kernel")
        with lifecycle.ephemeral("matrix") as lab:
            lab.call("apply", objects=objects)
            done: list[Cell] = []

            def row(cells: list[Cell]) -> None:
                done.extend(cells)
                line.say(f"{len(done)} of 72 connections")

            cells = matrix.run(lab, row)
    if arguments.output == "json":
        print(json.dumps(msgspec.to_builtins(cells), indent=2))
        return 0
    from rich.console import Console

    console = Console()
    console.print(grid(cells))
    console.print(f"{len(cells)} connections in {line.seconds:.0f} s", style="dim")
    return 0


def grid(cells: list[Cell]) -> Table:
    """A row for each combination, a column for each place that a connection came from."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Eighty columns must do: a grid with its last column cut off says nothing.
    table = Table(
        title="Who reaches a Service whose only endpoint is foo?",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for name in ("br_net\nfilter", "\nhairpin", "IPVS\nconntrack", "masque-\nrade"):
        table.add_column(name, no_wrap=True)
    for name in ("from\nnode", "from\nbar", "from\nfoo itself"):
        table.add_column(name, no_wrap=True)
    words = {True: "on", False: "off"}
    for start in range(0, len(cells), 3):
        row = cells[start : start + 3]
        first = row[0]
        shown = [
            Text(f"✓ {cell.server_saw}", "green") if cell.works else Text("✗ timeout", "red")
            for cell in row
        ]
        settings = (
            words[first.br_netfilter],
            first.hairpin,
            words[first.conntrack],
            words[first.masquerade],
        )
        table.add_row(
            *(Text(word, "dim" if word == "off" else "bold") for word in settings),
            *shown,
            end_section=start + 3 == len(cells) // 2,
        )
    return table
