"""iptables rules and chain policies, through iptables-save and iptables-restore.

The one part of the kernel that hairpin does not speak to itself: iptables has no netlink of its
own in the legacy variant, and its rules are what people compare.  A run of Changes costs one
save and one restore, whatever its length.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Literal

from hairpin.kernel import spawn
from hairpin.kernel.errors import KernelError
from hairpin.kernel.iptables_dispatch import KINDS, Line, Place
from hairpin.kernel.iptables_script import BUILT_IN, Saved, owned, parse_save, restore_script
from hairpin.kernel.netns import Netns
from hairpin.state.change import Change
from hairpin.state.netfilter import (
    Chain,
    ChainPolicy,
    DispatchChain,
    DispatchRule,
    Family,
    Jump,
    Rule,
    ServiceChain,
)

Variant = Literal["legacy", "nft"]
OBJECTS = (Rule, ChainPolicy, Chain, Jump, ServiceChain, DispatchChain, DispatchRule)
"""What iptables has."""

_MANY_CHAINS = 100  # of one table in one script
_FEW = 200  # Changes of Services that are written without reading what is there
_SINGLY = 64  # Changes that are tried one by one when their table is refused as a whole
_LIMIT = 300.0  # seconds: the kernel takes tens for a hundred thousand rules
_MOST_TOLD = 3  # lines that an error quotes
_JUST_NOW = 2.0  # seconds
_LOCK_WAIT = "5"  # seconds for the xtables lock
_COMMANDS: dict[Family, str] = {"ip": "iptables", "ip6": "ip6tables"}
_FAILED_LINE = re.compile(r"line:? (\d+)")

# Another program holds the lock, or changed the table between reading and writing it.  The exit
# code says nothing: the nft variant has 4 for every refusal.
_BUSY = ("xtables lock", "Resource temporarily unavailable")


class Iptables:
    """The iptables programs.

    The two variants are two sets of rules in the kernel, which do not see each other.  ``variant``
    says which; None is the one that holds chains of Kubernetes in a namespace already, else the
    system's.  ``legacy`` prefers the variant that needs no nf_tables, where it is installed.
    """

    def __init__(self, legacy: bool = False, variant: Variant | None = None) -> None:
        self._legacy = legacy
        self._variant = variant
        self._chosen: dict[str, str] = {}  # by namespace: what stands before "-save"
        self._found: dict[str, str] = {}
        self._last_saved: dict[Family, tuple[Netns, float, Saved]] = {}

    def observe(self, netns: Netns, family: Family = "ip") -> list[Rule | ChainPolicy]:
        """Policies and rules in the order in which they stand.  Raises KernelError."""
        return self._save(netns, family).objects()

    def observe_owned(
        self, netns: Netns, family: Family, wanted: Iterable[Jump] = ()
    ) -> list[Chain | Jump]:
        """Chains of kube-proxy's names and the jumps to them; see ``iptables_script.owned``.

        Raises KernelError.
        """
        return owned(self.saved(netns, family), wanted)

    def saved(self, netns: Netns, family: Family) -> Saved:
        """All chains as lines.  Raises KernelError."""
        saved = self._save(netns, family)
        self._last_saved[family] = (netns, time.monotonic(), saved)
        return saved

    def apply(self, netns: Netns, changes: Sequence[Change]) -> list[KernelError | None]:
        """Applies consecutive Changes of one namespace; gives the verdict on each.

        A rule that is there is not added again; one that is absent counts as removed, all
        copies of one that is there go.  A chain that a rule needs is made.  A Chain is written
        whole unless it is equal; Jumps of one chain are put at its head in their order.
        """
        verdicts: list[KernelError | None] = [None] * len(changes)
        for family in _COMMANDS:
            members = [
                position
                for position, change in enumerate(changes)
                if isinstance(change.object, OBJECTS) and change.object.family == family
            ]
            if members:
                try:
                    errors = self._apply(netns, family, [changes[one] for one in members])
                except KernelError as error:
                    errors = [error] * len(members)
                for position, refusal in zip(members, errors, strict=True):
                    verdicts[position] = refusal
        return verdicts

    def _apply(
        self, netns: Netns, family: Family, changes: Sequence[Change]
    ) -> list[KernelError | None]:
        """Each failure costs one more save and restore: restore does all of a table or nothing."""
        errors: list[KernelError | None] = [None] * len(changes)
        if self._applied_unread(netns, family, changes):
            return errors
        known = {
            (change.object.table, change.object.name)
            for change in changes
            if isinstance(change.object, Chain | DispatchChain) and change.verb != "remove"
        }
        again = True  # the first failure may be somebody's change between our save and restore
        for _ in range(len(changes) + 1):
            left = [position for position, error in enumerate(errors) if error is None]
            some = [changes[position] for position in left]
            culprit, error = self._try(netns, family, some, known)
            if error is None:
                break
            if error.errno == errno.EAGAIN:  # the lock was waited for already
                return [error if one in left else errors[one] for one in range(len(changes))]
            if again:
                again = False
            elif culprit is not None:
                errors[left[culprit]] = error
            elif len(left) > _SINGLY:
                return [error if one in left else errors[one] for one in range(len(changes))]
            else:
                # The kernel refused a table as a whole and does not say why: one by one.
                for position in left:
                    errors[position] = self._try(netns, family, [changes[position]], known)[1]
                break
        return errors

    def _applied_unread(self, netns: Netns, family: Family, changes: Sequence[Change]) -> bool:
        """Writes a few Changes of Services without reading what is there, which takes seconds where
        there are many.  False: something is not as it was left, and nothing was written."""
        last = self._last_saved.get(family)
        if last is not None and last[0] is netns and time.monotonic() - last[1] <= _JUST_NOW:
            return False
        if len(changes) > _FEW or not all(isinstance(one.object, KINDS) for one in changes):
            return False
        if any(isinstance(one.object, DispatchChain) for one in changes):
            return False
        return self._restore(netns, family, restore_script(changes, None)).code == 0

    def _is_nft(self, netns: Netns, family: Family) -> bool:
        return "nft" in os.path.realpath(self._program(netns, family, "restore"))

    def _restore(self, netns: Netns, family: Family, script: Sequence[Line]) -> spawn.Ended:
        text = "".join(f"{line.text}\n" for line in script)
        argv = [self._program(netns, family, "restore"), "--noflush", "-w", _LOCK_WAIT]
        return spawn.run(netns, argv, text, _LIMIT)

    def _try(
        self,
        netns: Netns,
        family: Family,
        changes: Sequence[Change],
        known: set[Place],
        *,
        listing: bool = True,
    ) -> tuple[int | None, KernelError | None]:
        """Applies all; otherwise says why not, and which Change it was if that is known.

        ``listing`` may make iptables-nft-restore list tables that it writes.
        """
        try:
            saved = self._just_saved(netns, family) or self._save(netns, family)
        except KernelError as unread:
            return None, unread
        script = restore_script(changes, saved, known)
        if not script:
            return None, None
        if listing and self._is_nft(netns, family):
            widened = _listing(script, saved)
            if widened != script:
                if self._restore(netns, family, widened).code == 0:
                    return None, None
                # Tables before the one that was refused are written: what is there is read anew.
                return self._try(netns, family, changes, known, listing=False)
        ended = self._restore(netns, family, script)
        if ended.code == 0:
            return None, None
        found = _FAILED_LINE.search(ended.err)
        script = [Line(text, line.change) for line in script for text in line.text.split("\n")]
        number = int(found[1]) - 1 if found else len(script)
        culprits = [line for line in script[number : number + 1] if line.change is not None]
        # What the kernel refuses is blamed on COMMIT.
        told = culprits or [line for line in script if line.change is not None]
        where = "; ".join(one.text for one in told[:_MOST_TOLD])
        more = f"; and {len(told) - _MOST_TOLD} more lines" if len(told) > _MOST_TOLD else ""
        error = _failure(f"{_COMMANDS[family]}-restore", ended, where + more)
        return (culprits[0].change if culprits else None), error

    def _just_saved(self, netns: Netns, family: Family) -> Saved | None:
        """What was observed a moment ago, once: who compares and then applies reads it once.

        The program takes 0.1 s and more in the embedded kernel.
        """
        last = self._last_saved.pop(family, None)
        if last is None or last[0] is not netns or time.monotonic() - last[1] > _JUST_NOW:
            return None
        return last[2]

    def _save(self, netns: Netns, family: Family) -> Saved:
        ended = spawn.run(netns, [self._program(netns, family, "save")], limit=_LIMIT)
        if ended.code:
            raise _failure(f"{_COMMANDS[family]}-save", ended)
        return parse_save(ended.out, family)

    def _program(self, netns: Netns, family: Family, part: str) -> str:
        """Raises KernelError (ENOENT)."""
        if netns.name not in self._chosen:
            self._chosen[netns.name] = self._choose(netns)
        return self._named(family, self._chosen[netns.name], part)

    def _choose(self, netns: Netns) -> str:
        """``-legacy``, ``-nft`` or "" for the system's."""
        if self._variant is not None:
            return f"-{self._variant}"
        if self._legacy:
            try:
                self._named("ip", "-legacy", "save")
            except KernelError:
                return ""
            return "-legacy"
        system = os.path.realpath(self._named("ip", "", "save"))
        other = "-nft" if "legacy" in system else "-legacy"
        if self._holds(netns, other) and not self._holds(netns, ""):
            return other
        return ""

    def _holds(self, netns: Netns, variant: str) -> bool:
        """Whether a variant has chains of Kubernetes."""
        if variant == "-legacy":
            tables = ""
            with netns.entered(), suppress(OSError):  # saving would load its modules
                tables = _read("/proc/thread-self/net/ip_tables_names")
            if "nat" not in tables:
                return False
        try:
            program = self._named("ip", variant, "save")
        except KernelError:
            return False
        return "\n:KUBE-" in spawn.run(netns, [program], limit=_LIMIT).out

    def _named(self, family: Family, variant: str, part: str) -> str:
        name = f"{_COMMANDS[family]}{variant}-{part}"
        if name not in self._found:
            self._found[name] = spawn.find([name])
        return self._found[name]


def _listing(script: Sequence[Line], saved: Saved) -> list[Line]:
    """The script, with a listing of each table that many chains are written of.

    iptables-nft-restore keeps the names of the chains that a script speaks of in a sorted list
    that it goes through for each line, and asks the kernel for each by itself: the square of the
    size, minutes for 25 000 chains (1.8.9, iptables/nft-cache.c, nft_cache_level_set).  A command
    for a whole table makes it read the table once instead, which is as fast as where it may flush.
    It then takes the built-in chains to be there, so that those that are not are made before.
    """
    widened: list[Line] = []
    chains = 0
    built_in: set[str] = set()
    for line in reversed(script):
        chains += line.text.startswith(":")
        if line.text.startswith(("-A ", "-I ")):
            built_in.add(line.text.split(" ", 2)[1])
        if line.text.startswith("*"):
            if chains > _MANY_CHAINS:
                table = line.text[1:]
                new = [
                    one for one in sorted(built_in & BUILT_IN) if (table, one) not in saved.lines
                ]
                widened += [Line("-S"), *(Line(f":{one} ACCEPT [0:0]") for one in new)]
            chains = 0
            built_in.clear()
        widened.append(line)
    widened.reverse()
    return widened


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def _failure(program: str, ended: spawn.Ended, line: str = "") -> KernelError:
    """EAGAIN when another program was at the tables, and trying again may do; else bad input."""
    said = [
        text for text in ended.err.splitlines() if text and not text.startswith(("Try ", "Error o"))
    ]
    where = f" (at: {line})" if line else ""
    text = f"{program}: {'; '.join(said) or f'exit code {ended.code}'}{where}"
    busy = any(words in ended.err for words in _BUSY)
    return KernelError(errno.EAGAIN if busy else errno.EINVAL, text)
