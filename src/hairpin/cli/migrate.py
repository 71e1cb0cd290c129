"""Tell which Services will behave differently in another proxy mode, how, and what to do about it.

Of the Services in manifests (kubectl get svc -A -o yaml), or of the running lab where none are
given.  All that is told of Services is what hairpin check --mode all shows by packets, and each
line names the claims that show it; what changes on the node is told below.  Modes are ipvs,
iptables and nftables, in any pair.

examples:
  hairpin migrate ipvs nftables -f web.yaml
  kubectl get svc -A -o yaml | hairpin migrate ipvs nftables -f -
  hairpin migrate iptables nftables --lab mine
  hairpin migrate ipvs nftables -f web.yaml --config kube-proxy.yaml -o json
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from hairpin.claims.topics import MODES
from hairpin.lab.session import LabError

if TYPE_CHECKING:
    from hairpin.model.service import Service


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", choices=MODES, metavar="FROM", help="the mode of today")
    parser.add_argument("after", choices=MODES, metavar="TO", help="the mode of tomorrow")
    parser.add_argument(
        "-f",
        "--filename",
        dest="files",
        metavar="FILE|DIR|-",
        action="append",
        default=[],
        help="manifests: a file, a folder, or - for standard input; may be repeated",
    )
    parser.add_argument(
        "--strict", action="store_true", help="what would be passed over is an error"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="kube-proxy's configuration (KubeProxyConfiguration)"
    )
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="for people or programs"
    )
    parser.add_argument("--lang", choices=("en", "zh"), default="en", help="English or Chinese")


def run(arguments: argparse.Namespace) -> int:
    if arguments.before == arguments.after:
        raise LabError(
            f"from {arguments.before} to {arguments.after} is no move",
            f"the modes are {', '.join(MODES)}",
            exit_code=2,
        )
    from hairpin.claims import migration
    from hairpin.claims.catalogue import CLAIMS

    found = migration.migration(
        arguments.before,
        arguments.after,
        _services(arguments),
        CLAIMS,
        node_port_addresses=_says_addresses(arguments),
    )
    if arguments.output == "json":
        shown = migration.structured(found, arguments.lang)
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        print(migration.text(found, arguments.lang))
    return 0


def _services(arguments: argparse.Namespace) -> list[Service]:
    """Raises ManifestError, LabError."""
    from hairpin.model.snapshot import Snapshot

    if not arguments.files:
        from hairpin.model.decode import decode_objects
        from hairpin.world import lifecycle

        shown = lifecycle.connect(arguments.lab).call("get", kind="services")
        return list(Snapshot(decode_objects(json.dumps(shown).encode())).services.values())
    from hairpin.source.cluster import admit
    from hairpin.source.manifests import load
    from hairpin.source.settings import PLAN

    loaded = load(arguments.files, stdin=sys.stdin, strict=arguments.strict, whole=True)
    for warning in [*loaded.warnings, *(error.headline for error in loaded.problems)]:
        print(f"warning: {warning}", file=sys.stderr)
    return list(admit(loaded.objects, settings=PLAN, where=loaded.where).services.values())


def _says_addresses(arguments: argparse.Namespace) -> bool:
    """Whether the configuration sets nodePortAddresses.  Raises ManifestError."""
    if not arguments.config:
        return False
    from hairpin.source import configuration

    warnings: list[str] = []
    config = configuration.load(arguments.config, None, warnings=warnings, strict=arguments.strict)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return bool(config.node_port_addresses)
