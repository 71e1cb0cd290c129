"""What concerns the proxy of this machine's own kernel.

cleanup takes away what a proxy of hairpin made in the network namespace that hairpin is started
in: virtual servers, sets, chains, jumps and kube-ipvs0, told from the kernel alone.  What others
made there stays, and so do settings.  Needs root.

examples:
  hairpin proxy cleanup
  hairpin proxy cleanup --config kube-proxy.yaml
"""

from __future__ import annotations

import argparse
import sys

from hairpin.lab.session import LabError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("cleanup",), help="what is to be done")
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="kube-proxy's configuration: virtual servers in its excludeCIDRs stay",
    )


def run(arguments: argparse.Namespace) -> int:
    from hairpin.cli.terminal import colours
    from hairpin.cli.this_kernel import HERE, this_kernel
    from hairpin.mode.ipvs import IpvsMode
    from hairpin.present.diff_text import diff_lines
    from hairpin.source.configuration import load

    config = load(arguments.config)
    with this_kernel("taking away what is in the kernel") as kernel:
        tried, failed = IpvsMode(kernel, HERE, config).clean_up()
    refused = {id(one.change) for one in failed}
    done = [(change, "") for change in tried if id(change) not in refused]
    for line in diff_lines(done, colour=colours()):
        print(line)
    if not tried:
        print("nothing of hairpin's is in this network namespace")
    print(end="", flush=True)
    for one in failed:
        print(f"hairpin: {one.change.verb} {one.change.object}: {one.error}", file=sys.stderr)
    if failed:
        raise LabError(f"{len(failed)} of {len(tried)} could not be removed", "try again")
    return 0
