"""Rules that packets met, by what the kernel calls them, as rules that people know.

The kernel says which rule by its handle (nf_tables) or its place in the chain (legacy).  iptables'
rules become those of iptables-save; others are what nft(8) lists of the tables concerned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from hairpin.kernel import spawn
from hairpin.kernel.errors import KernelError
from hairpin.kernel.netlink_socket import NetlinkSocket
from hairpin.kernel.netns import Netns
from hairpin.netlink import message as wire
from hairpin.netlink import nftables_format as form
from hairpin.netlink import nftables_seen as seen
from hairpin.netlink import nftrace
from hairpin.netlink.conntrack import NETLINK_NETFILTER
from hairpin.netlink.message import Request
from hairpin.trace.passages import RuleKey
from hairpin.trace.rules import SavedRule, parse

_TABLES = ("raw", "mangle", "nat", "filter", "security")
_PROGRAMS = {"ip": "iptables", "ip6": "ip6tables"}
_HANDLE = re.compile(r"^\t\t(.*) # handle (\d+)$")
_LISTED = re.compile(r"^table (\S+) (\S+) \{")
_CHAIN = re.compile(r"^\tchain (\S+) \{")
_POLICY = re.compile(r"hook (\S+) .*policy (\w+);")
_NFT_POLICIES = {"accept": "ACCEPT", "drop": "DROP"}


class Texts:
    """Finds the rules of one namespace.

    ``saved`` are the texts of ``trace.observation.Rewriting`` right after the connection;
    ``usual`` is the variant that the plain iptables is, where they do not say.
    """

    def __init__(self, netns: Netns, saved: Mapping[str, str], usual: str) -> None:
        self._netns = netns
        self._saved = saved
        self._usual = usual
        self._parsed: dict[tuple[str, str], dict[tuple[str, str], list[SavedRule]]] = {}

    def find(self, keys: Iterable[RuleKey]) -> dict[RuleKey, SavedRule]:
        """The rules of those keys; one that is not found is told by its number."""
        found: dict[RuleKey, SavedRule] = {}
        native: list[RuleKey] = []
        handles: dict[tuple[str, str, str], list[int]] = {}
        for key in dict.fromkeys(keys):
            variant, family, table, chain, number = key
            if variant == "legacy":
                found[key] = self._at("legacy", family, table, chain, number) or _unknown(key)
                continue
            if family in _PROGRAMS and table in _TABLES:
                place = (family, table, chain)
                if number and place not in handles:
                    handles[place] = self._handles(*place)
                at = handles[place].index(number) + 1 if number in handles.get(place, ()) else 0
                count = len(handles[place]) if number else None
                rule = self._at("nft", family, table, chain, at, count)
                if rule is not None and (at or not number):
                    found[key] = rule
                    continue
            native.append(key)
        found |= self._listed(native)
        return found

    def _at(
        self,
        variant: str,
        family: str,
        table: str,
        chain: str,
        number: int,
        count: int | None = None,
    ) -> SavedRule | None:
        """The rule of that number in the chain, 0 for its policy.

        ``count`` is how many the kernel has there: where the text has others, it is not to be
        relied on (a rule that iptables cannot print).
        """
        rules = self._tables(variant, family).get((table, chain), [])
        policy = [one for one in rules if not one.spec]
        rules = [one for one in rules if one.spec]
        if count is not None and count != len(rules):
            return None
        if not number:
            return policy[0] if policy else None
        return rules[number - 1] if number <= len(rules) else None

    def _tables(self, variant: str, family: str) -> dict[tuple[str, str], list[SavedRule]]:
        """The rules by table and chain, of that variant's text."""
        known = self._parsed.get((variant, family))
        if known is not None:
            return known
        program = _PROGRAMS[family]
        own = self._saved.get("own-variant", self._usual) == variant
        text = self._saved.get(program if own else f"{program}-other", "")
        if not text:  # of a namespace whose rules nobody read, or with policies alone
            text = self._said([f"{program}-{variant}-save"], "-c")
        found: dict[tuple[str, str], list[SavedRule]] = {}
        for one in parse(text, family, "" if own else f"{program}-{variant}"):
            found.setdefault((one.table, one.chain), []).append(one)
        self._parsed[variant, family] = found
        return found

    def _handles(self, family: str, table: str, chain: str) -> list[int]:
        """The handles of a chain's rules in their order."""
        body = form.head(nftrace.family_number(family)) + wire.text(form.RULE_TABLE, table)
        body += wire.text(form.RULE_CHAIN, chain)
        with suppress(KernelError, OSError):
            socket = NetlinkSocket(NETLINK_NETFILTER, self._netns)
            try:
                frames = socket.dump(Request(form.kind(form.GETRULE), wire.NLM_F_DUMP, body))
            finally:
                socket.close()
            rules = [seen.parse_rule(one.body) for one in frames]
            return [one.handle for one in rules if one.chain == chain]
        return []

    def _listed(self, keys: Sequence[RuleKey]) -> dict[RuleKey, SavedRule]:
        """By what nft lists of their tables.

        nft reads a whole table for one chain of it, and nft 1.0.6 refuses a script with several
        chains: a table at a time is one reading of it.
        """
        tables = dict.fromkeys((family, table) for _, family, table, _, _ in keys)
        texts = (self._said(["nft"], "-s", "-a", "list", "table", *one) for one in tables)
        wanted = set(keys)
        known = {key: rule for text in texts for key, rule in _read(text) if key in wanted}
        return {key: known.get(key) or _unknown(key) for key in keys}

    def _said(self, programs: list[str], *words: str) -> str:
        """What a program prints; nothing where there is none, or it cannot."""
        with suppress(KernelError):
            ended = spawn.run(self._netns, [spawn.find(programs), *words])
            if ended.code == 0:
                return ended.out
        return ""


def _read(text: str) -> Iterable[tuple[RuleKey, SavedRule]]:
    """The rules and policies of what ``nft -a list chain`` prints."""
    family = table = chain = ""
    for line in text.splitlines():
        if match := _LISTED.match(line):
            family, table = match[1], match[2]
        elif match := _CHAIN.match(line):
            chain = match[1]
        elif (match := _POLICY.search(line)) and line.startswith("\t\ttype "):
            yield ("nft", family, table, chain, 0), _policy(family, table, chain, match[2])
        elif match := _HANDLE.match(line):
            yield (
                ("nft", family, table, chain, int(match[2])),
                _rule(family, table, chain, match[1], int(match[2])),
            )


def _rule(family: str, table: str, chain: str, text: str, handle: int) -> SavedRule:
    where = f"{family} {table} {chain}"
    return SavedRule(
        table=table,
        chain=chain,
        spec=text or f"handle {handle}",
        packets=0,
        family=family,
        said=f"nft add rule {where} {text}" if text else f"nft rule {where} handle {handle}",
        undone=f"nft delete rule {where} handle {handle}",
        does=does(text),
    )


def _policy(family: str, table: str, chain: str, policy: str) -> SavedRule:
    where = f"{family} {table} {chain}"
    return SavedRule(
        table=table,
        chain=chain,
        spec="",
        packets=0,
        family=family,
        policy=_NFT_POLICIES.get(policy, policy.upper()),
        said=f"nft chain {where} '{{ policy {policy} ; }}'",
        undone=f"nft chain {where} '{{ policy accept ; }}'",
        does=_NFT_POLICIES.get(policy, policy.upper()),
    )


def _unknown(key: RuleKey) -> SavedRule:
    variant, family, table, chain, number = key
    if variant == "nft":
        made = _rule(family, table, chain, "", number) if number else None
        return made or _policy(family, table, chain, "accept")
    what = f"rule {number} of chain {chain}, table {table}"
    return SavedRule(
        table=table, chain=chain, spec=f"rule {number}", packets=0, family=family, said=what
    )


_DOES = (
    # Which verdict a map gave is told with the packet.
    (re.compile(r"\b(?:jump|goto) (\S+)$"), ""), (re.compile(r"\bvmap()\b"), ""),
    (re.compile(r"\breject\b"), "REJECT"), (re.compile(r"\bdrop\b"), "DROP"),
    (re.compile(r"\bdnat\b"), "DNAT"), (re.compile(r"\bmasquerade\b"), "MASQUERADE"),
    (re.compile(r"\bsnat\b"), "SNAT"), (re.compile(r"\bredirect\b"), "REDIRECT"),
    (re.compile(r"\bnotrack\b"), "NOTRACK"), (re.compile(r"\baccept$"), "ACCEPT"),
    (re.compile(r"\bmark set\b"), "MARK"),
)  # fmt: skip
_QUOTED = re.compile(r'"[^"]*"')


def does(text: str) -> str:
    """What a rule of nft(8) does, in iptables' words: REJECT, DROP, DNAT …, or a chain's name."""
    bare = _QUOTED.sub('""', text)  # a comment may say anything
    bare = bare.partition(" comment ")[0].strip()
    for pattern, name in _DOES:
        match = pattern.search(bare)
        if match:
            return name or match[1]
    return ""
