"""iptables rules and chain policies, through iptables-save and iptables-restore.

The one part of the kernel that hairpin does not speak to itself: iptables has no netlink of its
own in the legacy variant, and its rules are what people compare.  A run of Changes costs one
save and one restore, whatever its length.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterable, Sequence

from hairpin.kernel import spawn
from hairpin.kernel.errors import KernelError
from hairpin.kernel.iptables_script import Place, Saved, owned, parse_save, restore_script
from hairpin.kernel.netns import Netns
from hairpin.state.change import Change
from hairpin.state.netfilter import Chain, ChainPolicy, Family, Jump, Rule

_MOST_TOLD = 3  # lines that an error quotes
_JUST_NOW = 2.0  # seconds
_LOCK_WAIT = "5"  # seconds for the xtables lock
_COMMANDS: dict[Family, str] = {"ip": "iptables", "ip6": "ip6tables"}
_FAILED_LINE = re.compile(r"line:? (\d+)")

# Another program holds the lock, or changed the table between reading and writing it.  The exit
# code says nothing: the nft variant has 4 for every refusal.
_BUSY = ("xtables lock", "Resource temporarily unavailable")


class Iptables:
    """The iptables programs; ``legacy`` prefers the variant that needs no nf_tables.

    The two variants are two sets of rules in the kernel, which do not see each other.
    """

    def __init__(self, legacy: bool = False) -> None:
        self._legacy = legacy
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
        saved = self._save(netns, family)
        self._last_saved[family] = (netns, time.monotonic(), saved)
        return owned(saved, wanted)

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
                if isinstance(change.object, Rule | ChainPolicy | Chain | Jump)
                and change.object.family == family
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
        known = {
            (change.object.table, change.object.name)
            for change in changes
            if isinstance(change.object, Chain) and change.verb != "remove"
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
            else:
                # The kernel refused a table as a whole and does not say why: one by one.
                for position in left:
                    errors[position] = self._try(netns, family, [changes[position]], known)[1]
                break
        return errors

    def _try(
        self, netns: Netns, family: Family, changes: Sequence[Change], known: set[Place]
    ) -> tuple[int | None, KernelError | None]:
        """Applies all; otherwise says why not, and which Change it was if that is known."""
        try:
            saved = self._just_saved(netns, family) or self._save(netns, family)
        except KernelError as unread:
            return None, unread
        script = restore_script(changes, saved, known)
        if not script:
            return None, None
        argv = [self._program(family, "restore"), "--noflush", "-w", _LOCK_WAIT]
        text = "".join(f"{line.text}\n" for line in script)
        ended = spawn.run(netns, argv, text)
        if ended.code == 0:
            return None, None
        found = _FAILED_LINE.search(ended.err)
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
        ended = spawn.run(netns, [self._program(family, "save")])
        if ended.code:
            raise _failure(f"{_COMMANDS[family]}-save", ended)
        return parse_save(ended.out, family)

    def _program(self, family: Family, part: str) -> str:
        name = f"{_COMMANDS[family]}-{part}"
        if name not in self._found:
            candidates = [f"{_COMMANDS[family]}-legacy-{part}"] if self._legacy else []
            self._found[name] = spawn.find([*candidates, name])
        return self._found[name]


def _failure(program: str, ended: spawn.Ended, line: str = "") -> KernelError:
    """EAGAIN when another program was at the tables, and trying again may do; else bad input."""
    said = [
        text for text in ended.err.splitlines() if text and not text.startswith(("Try ", "Error o"))
    ]
    where = f" (at: {line})" if line else ""
    text = f"{program}: {'; '.join(said) or f'exit code {ended.code}'}{where}"
    busy = any(words in ended.err for words in _BUSY)
    return KernelError(errno.EAGAIN if busy else errno.EINVAL, text)
