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
    from hairpin.model.configuration import KubeProxyConfiguration
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
        "-o",
        "--output",
        choices=("text", "json", "yaml"),
        default="text",
        help="for people or for programs",
    )
    parser.add_argument("--lang", choices=("en", "zh"), default="en", help="English or Chinese")


def run(arguments: argparse.Namespace) -> int:
    if arguments.before == arguments.after:
        raise LabError(
            f"from {arguments.before} to {arguments.after} is no move",
            f"the modes are {', '.join(MODES)}",
            exit_code=2,
        )
    from hairpin.claims import migration_words
    from hairpin.claims.catalogue import CLAIMS
    from hairpin.claims.migration import migration

    services, config = _of_files(arguments) if arguments.files else _of_lab(arguments)
    found = migration(arguments.before, arguments.after, services, CLAIMS, config)
    if arguments.output == "text":
        print(migration_words.text(found, arguments.lang))
        return 0
    shown = migration_words.structured(found, arguments.lang)
    if arguments.output == "json":
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        import yaml

        print(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True), end="")
    return 0


Basis = tuple[list["Service"], "KubeProxyConfiguration | None"]
"""Services, and what kube-proxy runs with where that is known."""


def _of_lab(arguments: argparse.Namespace) -> Basis:
    """What the running lab has, its proxies' configuration too.  Raises ManifestError, LabError."""
    from hairpin.lab.comparison import from_builtins
    from hairpin.model.decode import decode_objects
    from hairpin.model.snapshot import Snapshot
    from hairpin.world import lifecycle

    lab = lifecycle.connect(arguments.lab)
    shown = lab.call("get", kind="services")
    said = None if arguments.config else lab.call("proxy-config")["config"]
    config = _config(arguments) if said is None else from_builtins(said)
    return list(Snapshot(decode_objects(json.dumps(shown).encode())).services.values()), config


def _of_files(arguments: argparse.Namespace) -> Basis:
    """Raises ManifestError, LabError."""
    from hairpin.source.cluster import admit
    from hairpin.source.manifests import load
    from hairpin.source.settings import PLAN

    loaded = load(arguments.files, stdin=sys.stdin, strict=arguments.strict, whole=True)
    for warning in [*loaded.warnings, *(error.headline for error in loaded.problems)]:
        print(f"warning: {warning}", file=sys.stderr)
    snapshot = admit(loaded.objects, settings=PLAN, where=loaded.where)
    return list(snapshot.services.values()), _config(arguments)


def _config(arguments: argparse.Namespace) -> KubeProxyConfiguration | None:
    """Raises ManifestError."""
    if not arguments.config:
        return None
    from hairpin.source import configuration

    warnings: list[str] = []
    config = configuration.load(arguments.config, None, warnings=warnings, strict=arguments.strict)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return config
