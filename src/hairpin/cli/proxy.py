"""Be this node's proxy: follow a cluster's Services and make them true in this kernel.

run is a node agent in kube-proxy's place: it takes kube-proxy's configuration file, or kube-proxy's
flags, reads the API server, and serves health on 10256 and metrics on 10249.  It works in the
network namespace that it is started in and ends with SIGTERM; what is in the kernel stays then.
Without --kubeconfig it uses the service account of its Pod.

cleanup takes away what a proxy of hairpin made in this network namespace, whichever mode made it:
told from the kernel alone.  What others made there stays, and so do settings.  Both need root.

examples:
  hairpin proxy run --config kube-proxy.yaml
  hairpin proxy run --kubeconfig node.kubeconfig --hostname-override node1 --proxy-mode nftables
  hairpin proxy cleanup
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from hairpin.lab.session import LabError

if TYPE_CHECKING:
    from hairpin.kernel.apply import Failed, Kernel
    from hairpin.kernel.iptables import Variant
    from hairpin.model.configuration import KubeProxyConfiguration

_FORMATS = ("text", "json")


def arguments(parser: argparse.ArgumentParser) -> None:
    from hairpin.cli import planning

    parser.add_argument(
        "what",
        choices=("run", "cleanup"),
        nargs="?",
        default="run",
        metavar="run|cleanup",
        help="be the proxy (the default), or take away what one made",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="kube-proxy's configuration (KubeProxyConfiguration)"
    )
    parser.add_argument(
        "--strict", action="store_true", help="an unknown field of the configuration is an error"
    )
    parser.add_argument(
        "-v",
        "--v",
        dest="verbosity",
        metavar="N",
        type=int,
        help="how much is logged: 2 each sync that changed something, 4 each object (default 0)",
    )
    parser.add_argument("--logging-format", choices=_FORMATS, help="text (the default) or json")
    parser.add_argument(
        "--master", metavar="URL", default="", help="the API server, whatever the kubeconfig says"
    )
    parser.add_argument(
        "--iptables",
        choices=("legacy", "nft"),
        help="the variant to use (the one with rules of Kubernetes, else the system's)",
    )
    parser.add_argument(
        "--init-only",
        action="store_true",
        help="only make the settings that need more than CAP_NET_ADMIN, and end",
    )
    parser.add_argument(
        "--keep-capabilities",
        action="store_true",
        help="keep all rights, not only CAP_NET_ADMIN and CAP_NET_RAW",
    )
    planning.add_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    from hairpin.cli import planning

    config = planning.configured(arguments)
    if arguments.what == "cleanup":
        return _clean_up(config, arguments.iptables)
    return _run(arguments, config)


def _run(arguments: argparse.Namespace, config: KubeProxyConfiguration) -> int:
    from hairpin import __version__
    from hairpin.cli import agent
    from hairpin.cli.agent_log import AgentLog

    said = config.logging
    verbosity = arguments.verbosity
    if verbosity is None:
        verbosity = said.get("verbosity", 0)
        verbosity = verbosity if isinstance(verbosity, int) else 0
    form = arguments.logging_format or said.get("format") or "text"
    if form not in _FORMATS:
        raise LabError(f"logging.format: {form} is neither text nor json", exit_code=2)
    log = AgentLog(verbosity, as_json=form == "json")
    if arguments.init_only:
        return agent.prepare(config, log, arguments.iptables)
    options = agent.Options(
        kept=arguments.keep_capabilities,
        master=arguments.master,
        iptables=arguments.iptables,
        flags=_flags(arguments),
    )
    return agent.run(config, log, __version__, options)


def _flags(arguments: argparse.Namespace) -> dict[str, str]:
    """Those that were given, by their names on the command line."""
    from hairpin.cli import planning

    own = {
        "config": arguments.config,
        "v": arguments.verbosity,
        "logging-format": arguments.logging_format,
        "master": arguments.master,
        "iptables": arguments.iptables,
        "keep-capabilities": arguments.keep_capabilities,
        "strict": arguments.strict,
    }
    said = {name: str(value) for name, value in own.items() if value not in (None, "", False)}
    return planning.flags_of(arguments) | said


def _clean_up(config: KubeProxyConfiguration, variant: Variant | None) -> int:
    from hairpin.cli.this_kernel import any_kernel

    with any_kernel("taking away what is in the kernel", variant) as kernel:
        count, wrong = _taken_away(kernel, config)
        if wrong:  # what one mode's chains led to may go once another mode's are gone
            more, wrong = _taken_away(kernel, config)
            count += more
    if not count:
        print("nothing of hairpin's is in this network namespace")
    print(end="", flush=True)
    for each in wrong:
        print(f"hairpin: {each.change.verb} {each.change.object}: {each.error}", file=sys.stderr)
    if wrong:
        raise LabError(f"{len(wrong)} of {count + len(wrong)} could not be removed", "try again")
    return 0


def _taken_away(kernel: Kernel, config: KubeProxyConfiguration) -> tuple[int, list[Failed]]:
    """How much of all modes is gone now, and what would not go."""
    import msgspec

    from hairpin.cli.terminal import colours
    from hairpin.cli.this_kernel import HERE
    from hairpin.mode.base import mode_of
    from hairpin.model.configuration import Mode
    from hairpin.present.diff_text import diff_lines

    modes: tuple[Mode, ...] = ("ipvs", "nftables", "iptables")
    count, wrong = 0, []
    for one in modes:
        mode = mode_of(kernel, HERE, msgspec.structs.replace(config, mode=one))
        try:
            tried, failed = mode.clean_up()
        except OSError as error:
            print(f"hairpin: {one}: {error}", file=sys.stderr)
            continue
        refused = {id(each.change) for each in failed}
        done = [(change, "") for change in tried if id(change) not in refused]
        for line in diff_lines(done, colour=colours()):
            print(line)
        count += len(done)
        wrong += failed
    return count, wrong
