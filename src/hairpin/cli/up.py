"""Start a lab: boot a World and make the Pods, nodes and Services that the manifests describe.

The lab goes on after the command; hairpin down ends it.  It waits until the Pods are ready, 10 s at
most, and names those that are not.

Without a Node in the manifests there is one, called node, and IPv4; the options below make more of
them, and say what Nodes can say by their annotations (docs/annotations.md).

examples:
  hairpin up -f examples/seed.yaml
  hairpin up -f web.yaml --nodes 3 --ip-family dual
  hairpin up -f web.yaml --nodes 2 --overlay vxlan
  hairpin up -f manifests/ --wait=1m
  cat cluster.yaml | hairpin up -f -
  hairpin up --lab other --kernel guest -f web.yaml
  hairpin up -f web.yaml --mode nftables
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from hairpin.cli import manifests, progress
from hairpin.lab.session import LabError

if TYPE_CHECKING:
    from hairpin.source.manifests import Loaded


def arguments(parser: argparse.ArgumentParser) -> None:
    manifests.arguments(parser, required=False)
    parser.add_argument(
        "--nodes",
        type=int,
        metavar="N",
        help="so many nodes: node, node2 and on, beside those of -f",
    )
    parser.add_argument(
        "--ip-family",
        choices=("ipv4", "ipv6", "dual"),
        help="of Pods and Services (ipv4, or what the manifests need)",
    )
    parser.add_argument(
        "--overlay",
        choices=("host-gw", "vxlan"),
        help="how Pods reach other nodes' Pods: by routes (host-gw), or through a VXLAN",
    )
    parser.add_argument(
        "--proxy",
        choices=("ipvs", "none"),
        help="who serves Services on the nodes: hairpin (ipvs), or somebody else (none)",
    )
    parser.add_argument(
        "--mode",
        choices=("ipvs", "iptables", "nftables"),
        help="how the nodes' proxies carry Services (what --proxy-config says, else ipvs)",
    )
    parser.add_argument(
        "--iptables",
        choices=("legacy", "nft"),
        help="the variant of iptables (the one that works in this kernel)",
    )
    parser.add_argument(
        "--proxy-config",
        metavar="FILE",
        help="what the nodes' proxies run with (KubeProxyConfiguration)",
    )
    parser.add_argument(
        "--kernel",
        choices=("auto", "host", "guest"),
        default="auto",
        help="where the lab lives: this machine's kernel, the embedded one, or what fits (auto)",
    )


def run(arguments: argparse.Namespace) -> int:
    seconds = manifests.patience(arguments)
    loaded = _asked(arguments)
    config = _proxy_config(arguments.proxy_config, arguments.mode)
    mode = str(config["mode"]) if config is not None else "ipvs"
    manifests.check(loaded)
    from hairpin.world import lifecycle

    with progress.Progress() as line:
        line.say("starting a kernel")
        told: list[str] = []

        def tell(text: str) -> None:
            told.append(text)
            line.say(text)

        client, owner = lifecycle.start(
            arguments.lab, arguments.kernel, tell, mode=mode, iptables=arguments.iptables
        )
        try:
            line.say("building Pods and Services")
            answer = manifests.apply(client, loaded, seconds, line, config)
            owner.keep()
        finally:
            owner.close()
    code = manifests.report(answer, arguments)
    # What was told first: which kernel it is, and why that one.
    print(f"lab {arguments.lab} is up after {line.seconds:.1f} s: {told[0]}")
    return code


def _asked(arguments: argparse.Namespace) -> Loaded:
    """The manifests with what the options say.  Raises ManifestError, LabError."""
    import msgspec

    from hairpin.source.lab_options import LabOptions, with_options

    options = LabOptions(
        nodes=arguments.nodes,
        stack=arguments.ip_family,
        overlay=arguments.overlay,
        proxy=arguments.proxy,
    )
    if arguments.nodes is not None and arguments.nodes < 1:
        raise LabError(f"--nodes {arguments.nodes}: a lab has one at least", exit_code=2)
    if not arguments.files and options == LabOptions():
        raise LabError(
            "no manifests", "hairpin up -f FILE, or --nodes N for bare ones", exit_code=2
        )
    loaded = manifests.load(arguments)
    return msgspec.structs.replace(loaded, objects=with_options(loaded.objects, options))


def _proxy_config(path: str | None, mode: str | None) -> dict[str, Any] | None:
    """kube-proxy's configuration, in the protocol's shape; None where nothing is said of it.

    Raises ManifestError, LabError.
    """
    if path is None and mode is None:
        return None
    import msgspec

    from hairpin.source import configuration

    warnings: list[str] = []
    config = configuration.load(path, None, warnings=warnings)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    config = msgspec.structs.replace(config, mode=mode or config.mode or "ipvs")
    shape: dict[str, Any] = msgspec.to_builtins(config, enc_hook=float)  # Seconds
    return shape
