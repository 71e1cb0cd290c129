"""Where the proxy seems to run with another configuration than the one that is judged by.

A kernel that was made with another clusterCIDR or another mark differs in each ServicePort, and
all those findings have one reason, which is not in the kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hairpin.audit.case import Case
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.plan import nft_names as names
from hairpin.present.iptables_save import Spec
from hairpin.present.nft_statement import rule_text
from hairpin.state.netfilter import Chain, ServiceChain
from hairpin.state.nftables import NftChain, SetMark

_LOCAL = re.compile(r"(?:ip6? saddr|iifname) != (\S+)")
_MARK = re.compile(r"(0x[0-9a-f]+)/")
_SHOWN = 2


def hints(case: Case) -> Iterator[str]:
    """One line for each setting that the kernel shows otherwise."""
    seen, wanted = _networks(case), _networks_wanted(case)
    if seen and not seen & wanted:
        yield _line("what is local", seen, wanted, "--cluster-cidr or --detect-local-mode")
    marks, mark = _marks(case), _mark(case.config)
    if marks and mark not in marks:
        yield _line("the mark to masquerade", marks, {mark}, "masqueradeBit in it")


def _line(what: str, seen: set[str], wanted: set[str], say: str) -> str:
    there, ours = (", ".join(sorted(some)[:_SHOWN]) or "nothing" for some in (seen, wanted))
    return (
        f"the proxy seems to run with another configuration than this one: {what} is {there} in "
        f"the kernel, {ours} here (say --config FILE, or {say})"
    )


def _networks(case: Case) -> set[str]:
    """How the kernel tells traffic of Pods of this node from other traffic to ClusterIPs."""
    if case.config.mode == "nftables":
        chains = [
            one
            for one in case.held.nftables
            if isinstance(one, NftChain) and one.name == names.SERVICES
        ]
        return _in_chains(chains)
    return {
        word
        for printed in case.held.tables.values()
        for (table, name), specs in printed.chains.items()
        if table == "nat" and name.startswith(("KUBE-SVC-", "KUBE-SERVICES"))
        for spec in specs
        if spec[-1:] == ("KUBE-MARK-MASQ",) and (word := _not_from(spec))
    }


def _networks_wanted(case: Case) -> set[str]:
    found: set[str] = set()
    for want in case.plan:
        one = want.object
        if isinstance(one, NftChain) and one.name == names.SERVICES:
            found |= _in_chains([one])
        elif isinstance(one, Chain | ServiceChain):
            for rule in one.rules:
                spec = tuple(rule.split()) if isinstance(rule, str) else tuple(rule)
                if spec[-1:] == ("KUBE-MARK-MASQ",) and (word := _not_from(spec)):
                    found.add(word)
    return found


def _in_chains(chains: list[NftChain]) -> set[str]:
    texts = [
        rule_text(rule)
        for chain in chains
        for rule in chain.rules
        if any(isinstance(each, SetMark) for each in rule.statements)
    ]
    return {found[1] for text in texts if (found := _LOCAL.search(text))}


def _not_from(spec: Spec) -> str:
    """``10.244.0.0/16`` of ``! -s 10.244.0.0/16``; "" for a rule that asks for no such thing."""
    for at, word in enumerate(spec[:-2]):
        if word == "!" and spec[at + 1] in ("-s", "-i", "-m"):
            return spec[at + 2] if spec[at + 1] != "-m" else ""
    return ""


def _marks(case: Case) -> set[str]:
    if case.config.mode == "nftables":
        return {
            f"{each.bits:#x}"
            for one in case.held.nftables
            if isinstance(one, NftChain) and one.name == names.MASQUERADING
            for rule in one.rules
            for each in rule.statements
            if isinstance(each, SetMark)
        }
    return {
        found[1]
        for printed in case.held.tables.values()
        for spec in printed.chains.get(("nat", "KUBE-MARK-MASQ"), [])
        if spec[-2:-1] == ("--set-xmark",) and (found := _MARK.match(spec[-1]))
    }


def _mark(config: KubeProxyConfiguration) -> str:
    own = config.nftables if config.mode == "nftables" else config.iptables
    return f"{1 << own.masquerade_bit:#x}"
