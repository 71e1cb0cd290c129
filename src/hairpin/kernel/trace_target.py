"""Rules of iptables' legacy variant that have the kernel tell of a connection's packets.

For kernels without nf_tables for IP.  Unlike a table of nf_tables these rules belong to nobody and
outlive who made them: each has a comment by which the next trace takes them away.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from itertools import count

from hairpin.kernel import spawn
from hairpin.kernel.errors import KernelError
from hairpin.kernel.netns import Netns
from hairpin.state.nftrace import Looked

COMMENT = "hairpin trace"
CHAINS = ("PREROUTING", "OUTPUT")
_PROGRAMS = {4: "iptables-legacy", 6: "ip6tables-legacy"}
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp"}
_MOST_PORTS = 15  # of xt_multiport
_RATE = 100  # opening packets of others a second, see ``specs``
_LOCK_WAIT = "5"  # seconds for the xtables lock
_NUMBERS = count(1)
_here: dict[tuple[str, int], int] = {}  # rules of this process in each chain: namespace, version


class TraceRules:
    """Has the kernel tell of packets, until ``close``.  Raises KernelError."""

    def __init__(self, netns: Netns, looked: Looked) -> None:
        self._netns = netns
        self._version = looked.version
        self._comment = f"{COMMENT} {os.getpid()}-{next(_NUMBERS)}"
        self._specs = list(specs(looked, self._comment))
        self._key = (netns.name, looked.version)
        lines = [f"-I {chain} 1 {spec}" for chain in CHAINS for spec in reversed(self._specs)]
        _restore(netns, looked.version, lines)
        _here[self._key] = _here.get(self._key, 0) + len(self._specs)
        self.shift = _here[self._key]
        """How many rules of ours each of the chains begins with."""
        self._open = True

    def close(self) -> None:
        """Takes the rules away; absent ones are fine.  May be called again."""
        if not self._open:
            return
        self._open = False
        _here[self._key] -= len(self._specs)
        lines = [f"-D {chain} {spec}" for chain in CHAINS for spec in self._specs]
        try:
            _restore(self._netns, self._version, lines)
        except KernelError:  # somebody took some of them away
            sweep(self._netns, self._version, self._comment)


def specs(looked: Looked, comment: str) -> Iterator[str]:
    """The rules, as ``netlink.nftrace.statements`` says them of nf_tables."""
    protocol = _PROTOCOLS.get(looked.protocol, str(looked.protocol))
    head = f"-p {protocol}"
    tail = f'-m comment --comment "{comment}" -j TRACE'
    client = looked.source
    if looked.protocol in (1, 58):
        for one, other in (("-s", "-d"), ("-d", "-s")):
            own = f" {one} {client}" if client is not None else ""
            yield f"{head}{own} {other} {looked.target} {tail}"
        return
    if looked.source_port:
        for flag, port in (("-s", "--sport"), ("-d", "--dport")):
            own = f" {flag} {client}" if client is not None else ""
            yield f"{head}{own} -m {protocol} {port} {looked.source_port} {tail}"
    if looked.ports:
        several = ",".join(str(one) for one in looked.ports[:_MOST_PORTS])
        opening = " -m tcp --tcp-flags SYN SYN" if looked.protocol == 6 else ""
        limit = f"-m limit --limit {_RATE}/sec --limit-burst {_RATE}"
        yield f"{head}{opening} -m multiport --ports {several} {limit} {tail}"


def sweep(netns: Netns, version: int, comment: str = COMMENT) -> int:
    """Takes away the rules whose comment begins so; gives how many there were.

    Raises KernelError.
    """
    ended = spawn.run(netns, [spawn.find([f"{_PROGRAMS[version]}-save"]), "-t", "raw"])
    lines = [
        line.replace("-A ", "-D ", 1)
        for line in ended.out.splitlines()
        if line.startswith("-A ") and f'--comment "{comment}' in line
    ]
    if lines:
        _restore(netns, version, lines)
    return len(lines)


def left(netns: Netns, version: int, text: str) -> bool:
    """Whether rules of an interrupted trace are in the text of iptables-save."""
    return not _here.get((netns.name, version)) and f'--comment "{COMMENT} ' in text


def _restore(netns: Netns, version: int, lines: Sequence[str]) -> None:
    script = "\n".join(("*raw", *lines, "COMMIT", ""))
    argv = [spawn.find([f"{_PROGRAMS[version]}-restore"]), "-w", _LOCK_WAIT, "--noflush"]
    ended = spawn.run(netns, argv, script)
    if ended.code:
        said = ended.err.strip().splitlines() or ["it said nothing"]
        raise KernelError(errno.EINVAL, f"{argv[0]}: {said[0]}")
