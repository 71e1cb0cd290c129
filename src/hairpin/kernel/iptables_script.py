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
from hairpin.kernel.iptables_dispatch import Dispatch, Line, Place
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
    Table,
)

BUILT_IN = frozenset(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"))
"""Chains that are a table's own."""
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPED = re.compile(r"\\(.)")
_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./!-]+")

_NEW = ("-m", "conntrack", "--ctstate", "NEW")
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

Spec = tuple[str, ...]
Policy = Literal["ACCEPT", "DROP"]


class Saved(msgspec.Struct, frozen=True):
    """What iptables-save printed for one family, in its order.

    ``lines`` are all chains there are with their rules, each without "-A CHAIN"; policies are of
    those that are built in.  Rules are taken apart into words only where somebody asks: there may
    be a hundred thousand.
    """

    family: Family
    lines: dict[Place, list[str]] = {}
    policies: dict[Place, Policy] = {}

    @property
    def chains(self) -> dict[Place, list[Spec]]:
        """All chains with their rules in words."""
        return {place: self.specs(place) for place in self.lines}

    def specs(self, place: Place) -> list[Spec]:
        """The rules of one chain in words; none where it does not exist."""
        return [tuple(split(line)) for line in self.lines.get(place, ())]

    def objects(self) -> list[Rule | ChainPolicy]:
        """Policies and rules, table by table."""
        found: list[Rule | ChainPolicy] = []
        chains = self.chains
        for table in dict.fromkeys(table for table, _ in chains):
            own = {chain: specs for (of, chain), specs in chains.items() if of == table}
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
    chains: dict[Place, list[str]] = {}
    policies: dict[Place, Policy] = {}
    table: Table = "filter"
    for line in text.split("\n"):
        if line.startswith("-A "):
            _, chain, rule = f"{line} ".split(" ", 2)
            chains.setdefault((table, chain), []).append(rule[:-1])
        elif line.startswith(":"):
            chain, target = line[1:].split()[:2]
            chains.setdefault((table, chain), [])
            if target != "-":
                policies[table, chain] = msgspec.convert(target, Policy)
        elif line.startswith("*"):
            table = msgspec.convert(line[1:], Table)
    return Saved(family=family, lines=chains, policies=policies)


def is_ours(chain: str) -> bool:
    """Whether a chain bears a name of kube-proxy's that the kubelet has no part in."""
    return chain.startswith(_OURS) and chain not in _OTHERS


def owned(
    saved: Saved,
    wanted: Iterable[Jump] = (),
    places: Collection[Place] | None = None,
    targets: Collection[str] | None = None,
) -> list[Chain | Jump]:
    """The chains of kube-proxy's names, and the jumps to them in built-in chains.

    ``places`` says which chains, and ``targets`` which jumps by where they lead, whatever they are
    called.  A jump is ``in_place`` when it stands there once, before all rules but other jumps to
    chains of Kubernetes.  Where those of ``wanted`` stand in another order, none of that chain is.
    """
    if places is None:
        places = {place for place in saved.lines if is_ours(place[1])}
    found: list[Chain | Jump] = [
        Chain(
            table=table, name=chain, rules=tuple(saved.specs((table, chain))), family=saved.family
        )
        for table, chain in saved.lines
        if (table, chain) in places
    ]
    orders: dict[Place, list[str]] = {}
    for jump in wanted:
        if jump.family == saved.family:
            orders.setdefault((jump.table, jump.chain), []).append(jump.to)
    if targets is None:
        targets = {name for _, name in saved.lines if is_ours(name)}
        targets |= {jump.to for jump in wanted}
    for place in saved.lines:
        if place[1] in BUILT_IN:
            specs = saved.specs(place)
            found += _jumps(place, specs, orders.get(place, []), saved.family, targets)
    return found


def _jumps(
    place: Place,
    specs: Sequence[Spec],
    order: Sequence[str],
    family: Family,
    ours: Collection[str],
) -> list[Jump]:
    targets = [_jump_of(spec) for spec in specs]
    head = 0
    while head < len(specs) and _is_of_kubernetes(specs[head]):
        head += 1
    told: dict[str, _Leads] = {}
    for ends in targets:
        if ends is not None and ends.to in ours:
            told.setdefault(ends.to, ends)
    names = [ends.to if ends is not None else "" for ends in targets]
    sorted_names = [name for name in names[:head] if name in order]
    in_order = sorted_names == [name for name in order if name in sorted_names]
    return [
        Jump(
            table=place[0],
            chain=place[1],
            to=to,
            comment=ends.comment,
            family=family,
            in_place=in_order and names.count(to) == 1 and names.index(to) < head,
            match=ends.match,
        )
        for to, ends in told.items()
    ]


class _Leads(msgspec.Struct, frozen=True):
    """A rule that leads elsewhere: its end, its comment, and which new packets it is for."""

    to: str
    comment: str = ""
    match: Spec = ()


def _jump_of(spec: Spec) -> _Leads | None:
    """Where a rule leads to that matches every packet, or every new one."""
    match = spec[: len(_NEW)] if spec[: len(_NEW)] == _NEW else ()
    rest = spec[len(match) :]
    if rest[:1] == ("-j",) and len(rest) == 2:
        return _Leads(rest[1], "", match)
    if rest[:3] == ("-m", "comment", "--comment") and rest[4:5] == ("-j",) and len(rest) == 6:
        return _Leads(rest[5], rest[3], match)
    return None


def _is_of_kubernetes(spec: Spec) -> bool:
    return len(spec) > 1 and spec[-2] == "-j" and spec[-1].startswith(_OURS)


def restore_script(
    changes: Sequence[Change], saved: Saved | None, known: Collection[Place] = ()
) -> list[Line]:
    """What ``iptables-restore --noflush`` must be told so that the Changes are so.

    Empty when they are so already.  ``saved`` None is for what is not known, where all Changes are
    of ``iptables_dispatch.KINDS``.  A chain among ``known`` that a rule leads to is made where it
    is not there yet.  Raises KernelError for a Change that iptables cannot do.
    """
    script = _Script(saved, known)
    for position, change in enumerate(changes):
        script.take(position, change)
    return script.lines()


class _Script:
    """Changes taken one after the other, against what is there; then the lines, table by table."""

    def __init__(self, saved: Saved | None, known: Collection[Place]) -> None:
        self._saved = saved if saved is not None else Saved(family="ip")
        self._rules = _Standing(self._saved)
        self._policies = dict(self._saved.policies)
        self._known = known
        self._dispatch = Dispatch(None if saved is None else saved.lines)
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
                specs = self._rules.rules((wanted.table, wanted.chain))
                line = Line(join(["-D", wanted.chain, *wanted.spec]), position)
                self._bodies.setdefault(wanted.table, []).extend([line] * specs.count(wanted.spec))
                specs[:] = [spec for spec in specs if spec != wanted.spec]
            case "add" | "set", Chain():
                self._write_chain(position, wanted)
            case "remove", Chain():
                self._remove_chain(position, wanted)
            case _, ServiceChain() | DispatchChain() | DispatchRule():
                self._dispatch.take(position, change)
            case verb, Jump():
                own = self._jumps.setdefault((wanted.table, wanted.chain), {})
                own[wanted.to] = (position, None if verb == "remove" else wanted)
            case _:
                raise KernelError(errno.EINVAL, f"{change.verb} {wanted} is nothing for iptables")

    def lines(self) -> list[Line]:
        more = self._dispatch
        more.resolve()
        for (table, chain), line in more.heads.items():
            self._heads.setdefault(table, {})[chain] = line
        self._fills |= more.fills
        for place, jumps in self._jumps.items():
            self._put_jumps(place, jumps)
        for table, body in more.bodies.items():
            self._bodies.setdefault(table, []).extend(body)
        tails = self._tails | more.tails
        places = (*self._fills, *tails)
        tables = dict.fromkeys((*self._heads, *self._bodies, *(table for table, _ in places)))
        # Sorted: the legacy variant keeps chains so, and looks for a place for each new one.
        filled = sorted(self._fills)
        script: list[Line] = []
        for table in tables:
            heads = self._heads.get(table, {})
            lines = [heads[name] for name in sorted(heads)]
            for place in filled:
                lines += self._fills[place] if place[0] == table else []
            lines += self._bodies.get(table, [])
            lines += [line for (of, _), line in tails.items() if of == table]
            if lines:
                script += [Line(f"*{table}"), *lines, Line("COMMIT")]
        return script

    def _add_rule(self, position: int, wanted: Rule) -> None:
        place = (wanted.table, wanted.chain)
        if wanted.spec in self._rules.rules(place):
            return
        if wanted.chain not in BUILT_IN and not self._rules.has(place):
            self._declare(place, position)
        self._rules.put(place, [*self._rules.rules(place), wanted.spec])
        line = Line(join(["-A", wanted.chain, *wanted.spec]), position)
        self._bodies.setdefault(wanted.table, []).append(line)

    def _write_chain(self, position: int, wanted: Chain) -> None:
        place = (wanted.table, wanted.name)
        if self._rules.has(place) and self._rules.rules(place) == list(wanted.rules):
            return
        self._rules.put(place, list(wanted.rules))
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
        if self._rules.has(place):
            self._rules.put(place, None)
            self._declare(place, position)
            self._fills.pop(place, None)
            self._tails[place] = Line(f"-X {wanted.name}", position)

    def _put_jumps(self, place: Place, jumps: dict[str, tuple[int, Jump | None]]) -> None:
        """Puts those that are wanted at the head in their order, unless they stand so."""
        table, chain = place
        specs = self._rules.rules(place)
        there = [ends.to if (ends := _jump_of(spec)) is not None else "" for spec in specs]
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
        if place in self._known and not self._rules.has(place):
            self._rules.put(place, [])
            self._declare(place, None)


class _Standing:
    """What each chain holds while Changes are taken; taken apart when first asked for."""

    def __init__(self, saved: Saved) -> None:
        self._saved = saved
        self._known: dict[Place, list[Spec] | None] = {}

    def has(self, place: Place) -> bool:
        if place in self._known:
            return self._known[place] is not None
        return place in self._saved.lines

    def rules(self, place: Place) -> list[Spec]:
        """To be changed in place; none where there is no such chain."""
        if place not in self._known and place in self._saved.lines:
            self._known[place] = self._saved.specs(place)
        return self._known.get(place) or []

    def put(self, place: Place, rules: list[Spec] | None) -> None:
        """``rules`` None: there is no such chain any more."""
        self._known[place] = rules


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
