"""Send one real connection and show where its packets went, who rewrote them, and why it failed.

FROM is a Pod, node/NAME or outside; TO is a Service, a Pod, a node (with a port), or IP:PORT.  All
links are listened at while it is made, and nothing is changed for that.  FROM "here" is no lab, but
this machine as a node of a cluster, whatever proxy serves it.

examples:
  hairpin trace foo svc/web
  hairpin trace outside node/node:30080
  hairpin trace foo 10.96.0.10:53 --proto udp
  hairpin trace foo bar --proto icmp
  hairpin trace node/node svc/web:http -o json
  hairpin trace here svc/kube-dns -n kube-system --kubeconfig /etc/kubernetes/kubelet.conf
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hairpin.cli import trace_here
from hairpin.cli.progress import Progress
from hairpin.lab.session import LabError

if TYPE_CHECKING:
    from hairpin.claims.tracing import Question
    from hairpin.trace.observation import Observation
    from hairpin.trace.values import Trace

_LEAST, _LONGEST = 0.01, 60.0  # seconds of a connection
_MOST_STREAM, _MOST_DATAGRAM = 1_000_000, 65_000  # bytes; UDP takes 65 507 over IPv4


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FROM", help="foo, ns/foo, node/NAME, outside, here")
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
    trace_here.arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from hairpin.claims.tracing import Question

    here = arguments.source == trace_here.WORD
    _check(arguments, here)
    question = Question(
        source=arguments.source,
        to=arguments.to,
        protocol=(arguments.proto or "").upper(),
        port=arguments.port or "",
        source_port=arguments.source_port,
        size=arguments.size,
        ipv6=arguments.ipv6,
        namespace=arguments.namespace,
        timeout=_seconds(arguments.timeout),
    )
    found, trace = (trace_here.traced if here else _in_lab)(arguments, question)
    _write(arguments, found, trace)
    _print(arguments.output, trace)
    return 0 if trace.disposition == "delivered" else 1


def _check(arguments: argparse.Namespace, here: bool) -> None:
    """What argparse cannot say of the options.  Raises LabError."""
    most = _MOST_DATAGRAM if arguments.proto in ("udp", "sctp") else _MOST_STREAM
    for name, value, limit in (
        ("--source-port", arguments.source_port, 65535), ("--size", arguments.size, most),
    ):  # fmt: skip
        if not 0 <= value <= limit:
            raise LabError(f"{name} {value}", f"it takes 0 to {limit}", exit_code=2)
    said = [word for word, given in (
        ("-f", arguments.files), ("--kubeconfig", arguments.flag_kubeconfig),
        ("--config", arguments.config), ("--mode", arguments.mode),
        ("--hostname-override", getattr(arguments, "flag_hostname-override")),
    ) if given]  # fmt: skip
    if said and not here:
        words = f"{said[0]} is for FROM here: a lab has its own Services"
        raise LabError(words, f"hairpin trace here {arguments.to} {said[0]} ...", exit_code=2)
    if here and arguments.lab != os.environ.get("HAIRPIN_LAB", "default"):
        words = "--lab is for a lab's Pods and nodes, and FROM here is none of them"
        raise LabError(words, "leave --lab out", exit_code=2)
    for name in (arguments.pcap, arguments.html):
        if name:
            _can_write(Path(name))


def _can_write(path: Path) -> None:
    """That a file can be made there, before a connection is made in vain.  Raises LabError."""
    if path.is_dir():
        raise LabError(f"{path} is a folder", "name a file", exit_code=2)
    if not path.parent.is_dir():
        raise LabError(f"there is no folder {path.parent}", f"mkdir {path.parent}", exit_code=2)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise LabError(f"{path} cannot be written", "name another file", exit_code=2)


def _seconds(text: str) -> float:
    from hairpin.cli.terminal import duration

    found = duration(text)
    if not _LEAST <= found <= _LONGEST:
        raise LabError(f"--timeout {text}", "it takes 10ms to 1m", exit_code=2)
    return found


def _in_lab(arguments: argparse.Namespace, question: Question) -> tuple[Observation, Trace]:
    from hairpin.claims.tracing import observe, snapshot_of
    from hairpin.trace.reason import reason
    from hairpin.world.client import connect

    client = connect(arguments.lab)
    with Progress() as line:
        line.say(trace_here.DOING)
        found = observe(client, snapshot_of(client), question)
        # Readiness may have changed meanwhile: what counts is how it is now.
        trace = reason(found, snapshot_of(client), arguments.source, arguments.to)
    return found, for_lab(trace, arguments.lab)


def for_lab(trace: Trace, lab: str) -> Trace:
    """With commands that name the lab, where a person had to name it."""
    import re

    import msgspec

    cause = trace.cause
    if lab in ("default", os.environ.get("HAIRPIN_LAB")) or cause is None:
        return trace
    line = re.sub(r"(^|\| )hairpin ", rf"\1hairpin --lab {lab} ", cause.mend.hairpin)
    mend = msgspec.structs.replace(cause.mend, hairpin=line)
    return msgspec.structs.replace(trace, cause=msgspec.structs.replace(cause, mend=mend))


def _write(arguments: argparse.Namespace, found: Observation, trace: Trace) -> None:
    """The files that were asked for.  Raises LabError."""
    if arguments.pcap:
        from hairpin.present.pcapng import pcapng

        _into(arguments.pcap, pcapng(found, trace))
        print(f"the packets are in {arguments.pcap}", file=sys.stderr)
    if arguments.html:
        from hairpin.present.trace_html import page

        _into(arguments.html, page(trace).encode())
        print(f"the page is in {arguments.html}", file=sys.stderr)


def _into(file: str, data: bytes) -> None:
    try:
        Path(file).write_bytes(data)
    except OSError as error:
        raise LabError(f"{file} cannot be written: {error.strerror}") from None


def _print(output: str, trace: Trace) -> None:
    from hairpin.cli.terminal import colours, columns

    if output == "text":
        from hairpin.present.trace_text import text

        print(text(trace, colour=colours(), width=columns()))
        return
    from hairpin.present.trace_json import as_json, as_yaml

    print(as_json(trace) if output == "json" else as_yaml(trace), end="")
