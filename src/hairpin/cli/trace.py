"""Send one real connection and show where its packets went, who rewrote them, and why it failed.

FROM is a Pod, node/NAME or outside; TO is a Service, a Pod, a node (with a port), or IP:PORT.  All
links are listened at while it is made, and nothing is changed for that.

examples:
  hairpin trace foo svc/web
  hairpin trace outside node/node:30080
  hairpin trace foo 10.96.0.10:53 --proto udp
  hairpin trace foo bar --proto icmp
  hairpin trace node/node svc/web:http -o json
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hairpin.trace.observation import Observation
    from hairpin.trace.values import Trace


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FROM", help="foo, ns/foo, node/NAME, outside")
    parser.add_argument("to", metavar="TO", help="svc/web, svc/web:http, foo, node/NAME, IP:PORT")
    parser.add_argument("--proto", choices=("tcp", "udp", "sctp", "icmp"), help="default: tcp, or "
                        "that of the Service's port")  # fmt: skip
    parser.add_argument("--port", help="number, or the name of a Service's port")
    parser.add_argument("--source-port", type=int, default=0, help="of the client, else any")
    parser.add_argument("--timeout", default="1s", help="for the whole connection (default 1s)")
    parser.add_argument("--size", type=int, default=0, help="bytes that the request has at least")
    parser.add_argument("-6", "--ipv6", action="store_true", help="by the target's IPv6 address")
    parser.add_argument("-n", "--namespace", default="default", help="of Pods and Services")
    parser.add_argument("-o", "--output", choices=("text", "json", "yaml"), default="text",
                        help="for people or programs")  # fmt: skip
    parser.add_argument("--pcap", metavar="FILE", help="write the packets there, for Wireshark")
    parser.add_argument("--html", metavar="FILE", help="write a page there that draws the way")


def run(arguments: argparse.Namespace) -> int:
    from hairpin.claims.tracing import Question, observe, snapshot_of
    from hairpin.cli.terminal import duration
    from hairpin.trace.reason import reason
    from hairpin.world.client import connect

    client = connect(arguments.lab)
    question = Question(
        source=arguments.source,
        to=arguments.to,
        protocol=(arguments.proto or "").upper(),
        port=arguments.port or "",
        source_port=arguments.source_port,
        size=arguments.size,
        ipv6=arguments.ipv6,
        namespace=arguments.namespace,
        timeout=duration(arguments.timeout),
    )
    found = observe(client, snapshot_of(client), question)
    # Readiness may have changed meanwhile: what counts is how it is now.
    trace = reason(found, snapshot_of(client), arguments.source, arguments.to)
    trace = _for_lab(trace, arguments.lab)
    _write(arguments, found, trace)
    _print(arguments.output, trace)
    return 0 if trace.disposition == "delivered" else 1


def _for_lab(trace: Trace, lab: str) -> Trace:
    """With commands that name the lab, where a person had to name it."""
    import os
    import re

    import msgspec

    cause = trace.cause
    if lab in ("default", os.environ.get("HAIRPIN_LAB")) or cause is None:
        return trace
    line = re.sub(r"(^|\| )hairpin ", rf"\1hairpin --lab {lab} ", cause.mend.hairpin)
    mend = msgspec.structs.replace(cause.mend, hairpin=line)
    return msgspec.structs.replace(trace, cause=msgspec.structs.replace(cause, mend=mend))


def _write(arguments: argparse.Namespace, found: Observation, trace: Trace) -> None:
    """The files that were asked for."""
    from pathlib import Path

    if arguments.pcap:
        from hairpin.present.pcapng import pcapng

        Path(arguments.pcap).write_bytes(pcapng(found, trace))
        print(f"the packets are in {arguments.pcap}", file=sys.stderr)
    if arguments.html:
        from hairpin.present.trace_html import page

        Path(arguments.html).write_text(page(trace), encoding="utf-8")
        print(f"the page is in {arguments.html}", file=sys.stderr)


def _print(output: str, trace: Trace) -> None:
    from hairpin.cli.terminal import colours

    if output == "text":
        from hairpin.present.trace_text import text

        print(text(trace, colour=colours()))
        return
    from hairpin.present.trace_json import as_json, as_yaml

    print(as_json(trace) if output == "json" else as_yaml(trace), end="")
