"""iptables rules and chain policies, through iptables-save and iptables-restore.

The one part of the kernel that hairpin does not speak to itself: iptables has no netlink of its
own in the legacy variant, and its rules are what people compare.  A run of Changes costs one
save and one restore, whatever its length.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from hairpin.kernel import spawn
from hairpin.kernel.errors import KernelError
from hairpin.kernel.netns import Netns
from hairpin.state.change import Change
from hairpin.state.netfilter import ChainPolicy, Family, Rule, Table

_LOCK_WAIT = "5"  # seconds for the xtables lock
_COMMANDS: dict[Family, str] = {"ip": "iptables", "ip6": "ip6tables"}
_BUILT_IN = frozenset(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"))
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPED = re.compile(r"\\(.)")
_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./!-]+")
_FAILED_LINE = re.compile(r"line:? (\d+)")

Chain = tuple[str, str]
"""Table and chain."""
Policy = Literal["ACCEPT", "DROP"]


class Iptables:
    """The iptables programs; ``legacy`` prefers the variant that needs no nf_tables.

    The two variants are two sets of rules in the kernel, which do not see each other.
    """

    def __init__(self, legacy: bool = False) -> None:
        self._legacy = legacy
        self._found: dict[str, str] = {}

    def observe(self, netns: Netns, family: Family = "ip") -> list[Rule | ChainPolicy]:
        """Policies and rules in the order in which they stand.  Raises KernelError."""
        ended = spawn.run(netns, [self._program(family, "save")])
        if ended.code:
            raise _failure(f"{_COMMANDS[family]}-save", ended)
        return parse_save(ended.out, family)[0]

    def apply(self, netns: Netns, changes: Sequence[Change]) -> list[KernelError | None]:
        """Applies consecutive Changes of one namespace; gives the verdict on each.

        A rule that is there is not added again; one that is absent counts as removed, all
        copies of one that is there go.  A chain that a rule needs is made.
        """
        verdicts: list[KernelError | None] = [None] * len(changes)
        for family in _COMMANDS:
            members = [
                position
                for position, change in enumerate(changes)
                if isinstance(change.object, Rule | ChainPolicy) and change.object.family == family
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
        for _ in changes:
            left = [position for position, error in enumerate(errors) if error is None]
            culprit, error = self._try(netns, family, [changes[position] for position in left])
            if error is None:
                break
            if culprit is not None:
                errors[left[culprit]] = error
                continue
            # The kernel refused a table as a whole and does not say why: try them one by one.
            for position in left:
                errors[position] = self._try(netns, family, [changes[position]])[1]
            break
        return errors

    def _try(
        self, netns: Netns, family: Family, changes: Sequence[Change]
    ) -> tuple[int | None, KernelError | None]:
        """Applies all; otherwise says why not, and which Change it was if that is known."""
        saved = spawn.run(netns, [self._program(family, "save")])
        if saved.code:
            return None, _failure(f"{_COMMANDS[family]}-save", saved)
        seen, chains = parse_save(saved.out, family)
        script = restore_script(changes, seen, chains)
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
        error = _failure(f"{_COMMANDS[family]}-restore", ended, "; ".join(one.text for one in told))
        return (culprits[0].change if culprits else None), error

    def _program(self, family: Family, part: str) -> str:
        name = f"{_COMMANDS[family]}-{part}"
        if name not in self._found:
            candidates = [f"{_COMMANDS[family]}-legacy-{part}"] if self._legacy else []
            self._found[name] = spawn.find([*candidates, name])
        return self._found[name]


class Line(msgspec.Struct, frozen=True):
    """A line for iptables-restore, and the position of the Change that it is for."""

    text: str
    change: int | None = None


def parse_save(text: str, family: Family) -> tuple[list[Rule | ChainPolicy], set[Chain]]:
    """What iptables-save printed: policies, rules, and every chain there is."""
    found: list[Rule | ChainPolicy] = []
    chains: set[Chain] = set()
    table: Table = "filter"
    for line in text.splitlines():
        if line.startswith("*"):
            table = msgspec.convert(line[1:], Table)
        elif line.startswith(":"):
            chain, target = line[1:].split()[:2]
            chains.add((table, chain))
            if target != "-":
                policy = msgspec.convert(target, Policy)
                found.append(ChainPolicy(table=table, chain=chain, target=policy, family=family))
        elif line.startswith("-A "):
            _, chain, *spec = split(line)
            found.append(Rule(table=table, chain=chain, spec=tuple(spec), family=family))
    return found, chains


def restore_script(
    changes: Sequence[Change], seen: Iterable[Rule | ChainPolicy], chains: set[Chain]
) -> list[Line]:
    """What ``iptables-restore --noflush`` must be told so that the Changes are so.

    Empty when they are so already.  Raises KernelError for a Change that iptables cannot do.
    """
    now = list(seen)
    heads: dict[str, dict[str, Line]] = {}  # ":CHAIN POLICY" lines must come before rules
    bodies: dict[str, list[Line]] = {}
    for position, change in enumerate(changes):
        wanted = change.object
        match change.verb, wanted:
            case "set", ChainPolicy():
                if wanted not in now:
                    now = [one for one in now if one.key != wanted.key] + [wanted]
                    line = Line(f":{wanted.chain} {wanted.target} [0:0]", position)
                    heads.setdefault(wanted.table, {})[wanted.chain] = line
            case "add", Rule():
                if wanted not in now:
                    now.append(wanted)
                    if wanted.chain not in _BUILT_IN and (wanted.table, wanted.chain) not in chains:
                        line = Line(f":{wanted.chain} - [0:0]", position)
                        heads.setdefault(wanted.table, {}).setdefault(wanted.chain, line)
                    line = Line(join(["-A", wanted.chain, *wanted.spec]), position)
                    bodies.setdefault(wanted.table, []).append(line)
            case "remove", Rule():
                line = Line(join(["-D", wanted.chain, *wanted.spec]), position)
                bodies.setdefault(wanted.table, []).extend([line] * now.count(wanted))
                now = [one for one in now if one != wanted]
            case _:
                raise KernelError(errno.EINVAL, f"{change.verb} {wanted} is nothing for iptables")
    script = []
    for table in dict.fromkeys((*heads, *bodies)):
        lines = [*heads.get(table, {}).values(), *bodies.get(table, [])]
        if lines:
            script += [Line(f"*{table}"), *lines, Line("COMMIT")]
    return script


def split(line: str) -> list[str]:
    """The words of a line of iptables-save; quotes and backslashes as xtables writes them."""
    return [
        _ESCAPED.sub(r"\1", found[1]) if found[1] is not None else found[2]
        for found in _TOKEN.finditer(line)
    ]


def join(words: Iterable[str]) -> str:
    """The line that ``split`` takes apart again."""
    return " ".join(word if _SAFE.fullmatch(word) else _quoted(word) for word in words)


def _quoted(word: str) -> str:
    if "\n" in word or "\0" in word:
        raise KernelError(errno.EINVAL, f"iptables takes no {word!r}")
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


def _failure(program: str, ended: spawn.Ended, line: str = "") -> KernelError:
    """EAGAIN when another program held the lock for too long; the rest is bad input."""
    said = [
        text for text in ended.err.splitlines() if text and not text.startswith(("Try ", "Error o"))
    ]
    where = f" (at: {line})" if line else ""
    text = f"{program}: {'; '.join(said) or f'exit code {ended.code}'}{where}"
    return KernelError(errno.EAGAIN if "xtables lock" in ended.err else errno.EINVAL, text)
