"""What iptables-save prints, and what iptables-restore must be told.

Texts to values and back; the programs are run by ``kernel.iptables``.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

import msgspec

from hairpin.kernel.errors import KernelError
from hairpin.state.change import Change
from hairpin.state.netfilter import Chain, ChainPolicy, Family, Jump, Rule, Table

_BUILT_IN = frozenset(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"))
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPED = re.compile(r"\\(.)")
_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./!-]+")

_OURS = "KUBE-"
_OTHERS = frozenset(
    (
        # What shows kube-proxy and the kubelet that somebody flushed the tables.
        "KUBE-PROXY-CANARY",
        "KUBE-KUBELET-CANARY",
        # The kubelet's own (pkg/kubelet/kubelet_network_linux.go).
        "KUBE-FIREWALL",
        "KUBE-MARK-DROP",
        "KUBE-IPTABLES-HINT",
    )
)

Place = tuple[Table, str]
"""Table and chain."""
Spec = tuple[str, ...]
Policy = Literal["ACCEPT", "DROP"]


class Line(msgspec.Struct, frozen=True):
    """A line for iptables-restore, and the position of the Change that it is for."""

    text: str
    change: int | None = None


class Saved(msgspec.Struct, frozen=True):
    """What iptables-save printed for one family, in its order.

    ``chains`` are all there are with their rules; policies are of those that are built in.
    """

    family: Family
    chains: dict[Place, list[Spec]] = {}
    policies: dict[Place, Policy] = {}

    def objects(self) -> list[Rule | ChainPolicy]:
        """Policies and rules, table by table."""
        found: list[Rule | ChainPolicy] = []
        for table in dict.fromkeys(table for table, _ in self.chains):
            own = {chain: specs for (of, chain), specs in self.chains.items() if of == table}
            for chain in own:
                policy = self.policies.get((table, chain))
                if policy is not None:
                    one = ChainPolicy(table=table, chain=chain, target=policy, family=self.family)
                    found.append(one)
            found += [
                Rule(table=table, chain=chain, spec=spec, family=self.family)
                for chain, specs in own.items()
                for spec in specs
            ]
        return found


def parse_save(text: str, family: Family) -> Saved:
    """What iptables-save printed."""
    chains: dict[Place, list[Spec]] = {}
    policies: dict[Place, Policy] = {}
    table: Table = "filter"
    for line in text.splitlines():
        if line.startswith("*"):
            table = msgspec.convert(line[1:], Table)
        elif line.startswith(":"):
            chain, target = line[1:].split()[:2]
            chains.setdefault((table, chain), [])
            if target != "-":
                policies[table, chain] = msgspec.convert(target, Policy)
        elif line.startswith("-A "):
            _, chain, *spec = split(line)
            chains.setdefault((table, chain), []).append(tuple(spec))
    return Saved(family=family, chains=chains, policies=policies)


def is_ours(chain: str) -> bool:
    """Whether a chain bears a name of kube-proxy's that the kubelet has no part in."""
    return chain.startswith(_OURS) and chain not in _OTHERS


def owned(saved: Saved, wanted: Iterable[Jump] = ()) -> list[Chain | Jump]:
    """The chains of kube-proxy's names, and the jumps to them in built-in chains.

    A jump is ``in_place`` when it stands there once, before all rules but other jumps to chains
    of Kubernetes.  Where those of ``wanted`` stand in another order, none of that chain is.
    """
    found: list[Chain | Jump] = [
        Chain(table=table, name=chain, rules=tuple(specs), family=saved.family)
        for (table, chain), specs in saved.chains.items()
        if is_ours(chain)
    ]
    orders: dict[Place, list[str]] = {}
    for jump in wanted:
        if jump.family == saved.family:
            orders.setdefault((jump.table, jump.chain), []).append(jump.to)
    for place, specs in saved.chains.items():
        if place[1] in _BUILT_IN:
            found += _jumps(place, specs, orders.get(place, []), saved.family)
    return found


def _jumps(place: Place, specs: Sequence[Spec], order: Sequence[str], family: Family) -> list[Jump]:
    targets = [_jump_of(spec) for spec in specs]
    head = 0
    while head < len(specs) and _is_of_kubernetes(specs[head]):
        head += 1
    told: dict[str, str] = {}
    for ends in targets:
        if ends is not None and is_ours(ends[0]):
            told.setdefault(*ends)
    names = [ends[0] if ends is not None else "" for ends in targets]
    sorted_names = [name for name in names[:head] if name in order]
    in_order = sorted_names == [name for name in order if name in sorted_names]
    return [
        Jump(
            table=place[0],
            chain=place[1],
            to=to,
            comment=comment,
            family=family,
            in_place=in_order and names.count(to) == 1 and names.index(to) < head,
        )
        for to, comment in told.items()
    ]


def _jump_of(spec: Spec) -> tuple[str, str] | None:
    """Where a rule leads to that matches every packet, and its comment."""
    if spec[:1] == ("-j",) and len(spec) == 2:
        return spec[1], ""
    if spec[:3] == ("-m", "comment", "--comment") and spec[4:5] == ("-j",) and len(spec) == 6:
        return spec[5], spec[3]
    return None


def _is_of_kubernetes(spec: Spec) -> bool:
    return len(spec) > 1 and spec[-2] == "-j" and spec[-1].startswith(_OURS)


def restore_script(
    changes: Sequence[Change], saved: Saved, known: Collection[Place] = ()
) -> list[Line]:
    """What ``iptables-restore --noflush`` must be told so that the Changes are so.

    Empty when they are so already.  A chain among ``known`` that a rule leads to is made where it
    is not there yet.  Raises KernelError for a Change that iptables cannot do.
    """
    script = _Script(saved, known)
    for position, change in enumerate(changes):
        script.take(position, change)
    return script.lines()


class _Script:
    """Changes taken one after the other, against what is there; then the lines, table by table."""

    def __init__(self, saved: Saved, known: Collection[Place]) -> None:
        self._rules = {place: list(specs) for place, specs in saved.chains.items()}
        self._policies = dict(saved.policies)
        self._known = known
        # ":CHAIN POLICY" lines must come before rules; for a chain that is there they empty it.
        self._heads: dict[Table, dict[str, Line]] = {}
        self._fills: dict[Place, list[Line]] = {}
        self._bodies: dict[Table, list[Line]] = {}
        self._tails: dict[Place, Line] = {}
        self._jumps: dict[Place, dict[str, tuple[int, Jump | None]]] = {}

    def take(self, position: int, change: Change) -> None:
        wanted = change.object
        match change.verb, wanted:
            case "set", ChainPolicy():
                if self._policies.get((wanted.table, wanted.chain)) != wanted.target:
                    self._policies[wanted.table, wanted.chain] = wanted.target
                    line = Line(f":{wanted.chain} {wanted.target} [0:0]", position)
                    self._heads.setdefault(wanted.table, {})[wanted.chain] = line
            case "add", Rule():
                self._add_rule(position, wanted)
            case "remove", Rule():
                specs = self._rules.get((wanted.table, wanted.chain), [])
                line = Line(join(["-D", wanted.chain, *wanted.spec]), position)
                self._bodies.setdefault(wanted.table, []).extend([line] * specs.count(wanted.spec))
                specs[:] = [spec for spec in specs if spec != wanted.spec]
            case "add" | "set", Chain():
                self._write_chain(position, wanted)
            case "remove", Chain():
                self._remove_chain(position, wanted)
            case verb, Jump():
                own = self._jumps.setdefault((wanted.table, wanted.chain), {})
                own[wanted.to] = (position, None if verb == "remove" else wanted)
            case _:
                raise KernelError(errno.EINVAL, f"{change.verb} {wanted} is nothing for iptables")

    def lines(self) -> list[Line]:
        for place, jumps in self._jumps.items():
            self._put_jumps(place, jumps)
        places = (*self._fills, *self._tails)
        tables = dict.fromkeys((*self._heads, *self._bodies, *(table for table, _ in places)))
        script: list[Line] = []
        for table in tables:
            lines = list(self._heads.get(table, {}).values())
            for (of, _), own in self._fills.items():
                lines += own if of == table else []
            lines += self._bodies.get(table, [])
            lines += [line for (of, _), line in self._tails.items() if of == table]
            if lines:
                script += [Line(f"*{table}"), *lines, Line("COMMIT")]
        return script

    def _add_rule(self, position: int, wanted: Rule) -> None:
        place = (wanted.table, wanted.chain)
        if wanted.spec in self._rules.get(place, []):
            return
        if wanted.chain not in _BUILT_IN and place not in self._rules:
            self._declare(place, position)
        self._rules.setdefault(place, []).append(wanted.spec)
        line = Line(join(["-A", wanted.chain, *wanted.spec]), position)
        self._bodies.setdefault(wanted.table, []).append(line)

    def _write_chain(self, position: int, wanted: Chain) -> None:
        place = (wanted.table, wanted.name)
        if self._rules.get(place) == list(wanted.rules):
            return
        self._rules[place] = list(wanted.rules)
        self._declare(place, position)
        self._tails.pop(place, None)
        self._fills[place] = [
            Line(join(["-A", wanted.name, *rule]), position) for rule in wanted.rules
        ]
        for rule in wanted.rules:
            if len(rule) > 1 and rule[-2] in ("-j", "-g"):
                self._declare_known((wanted.table, rule[-1]))

    def _remove_chain(self, position: int, wanted: Chain) -> None:
        place = (wanted.table, wanted.name)
        if self._rules.pop(place, None) is not None:
            self._declare(place, position)
            self._fills.pop(place, None)
            self._tails[place] = Line(f"-X {wanted.name}", position)

    def _put_jumps(self, place: Place, jumps: dict[str, tuple[int, Jump | None]]) -> None:
        """Puts those that are wanted at the head in their order, unless they stand so."""
        table, chain = place
        specs = self._rules.get(place, [])
        there = [ends[0] if (ends := _jump_of(spec)) is not None else "" for spec in specs]
        wanted = [jump for _, jump in jumps.values() if jump is not None]
        head = 0
        while head < len(specs) and _is_of_kubernetes(specs[head]):
            head += 1
        standing = [spec for spec in specs[:head] if spec in [jump.spec for jump in wanted]]
        if standing == [jump.spec for jump in wanted] and all(
            there.count(to) == (jump is not None) for to, (_, jump) in jumps.items()
        ):
            return
        body = self._bodies.setdefault(table, [])
        for to, spec in zip(there, specs, strict=True):
            if to in jumps:
                body.append(Line(join(["-D", chain, *spec]), jumps[to][0]))
        for number, jump in enumerate(wanted, 1):
            self._declare_known((table, jump.to))
            text = join(["-I", chain, str(number), *jump.spec])
            body.append(Line(text, jumps[jump.to][0]))

    def _declare(self, place: Place, position: int | None) -> None:
        line = Line(f":{place[1]} - [0:0]", position)
        self._heads.setdefault(place[0], {})[place[1]] = line

    def _declare_known(self, place: Place) -> None:
        if place in self._known and place not in self._rules:
            self._rules[place] = []
            self._declare(place, None)


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
