"""Rules of iptables mode in one form, where several forms are the same to every packet.

The choice of an endpoint is a row of rules: of n the first takes one in n, the next one in n - 1 of
what is left, the last all of it.  In which order endpoints stand there no client can tell, nor
which of two sets of remembered clients is asked first.
"""

from __future__ import annotations

from collections.abc import Sequence

from hairpin.present.iptables_save import Spec

_ENDPOINT = "KUBE-SEP-"
_CHANCE = ("-m", "statistic", "--mode", "random", "--probability")
_REMEMBERED = "--rcheck"
_LOCALHOST = ("-d", "127.0.0.0/8")
_ALIKE = 1e-3
"""By what part of itself an endpoint's share may be another: iptables keeps a probability as one of
2^31 parts, and versions of it round and print that otherwise."""


def same_choice(seen: Sequence[Spec], wanted: Sequence[Spec]) -> bool:
    """Whether two chains lead to the same endpoints with the same chances; specs are plain."""
    left, right = _parts(seen), _parts(wanted)
    return left is not None and left == right


def without_localhost(spec: Spec) -> Spec:
    """A rule for a node port at 127.0.0.1 as the one for all addresses.

    kube-proxy 1.36 has both, and only counts by the first; 1.28 has the second alone.
    """
    return spec[2:] if spec[:2] == _LOCALHOST else spec


def probability(word: str) -> str:
    """As far as it means anything to traffic."""
    try:
        return f"{float(word):.6f}"
    except ValueError:
        return word


def _parts(rules: Sequence[Spec]) -> tuple[list[Spec], list[Spec], list[Spec]] | None:
    """What is before the choice, who is remembered, who is chosen from: each with the same
    chance, else None."""
    before: list[Spec] = []
    remembered: list[Spec] = []
    chosen: list[Spec] = []
    left = 1.0
    shares: list[float] = []
    for spec in rules:
        if not spec[-1:] or not spec[-1].startswith(_ENDPOINT):
            if remembered or chosen:
                return None
            before.append(spec)
        elif _REMEMBERED in spec:
            if chosen:
                return None
            remembered.append(spec)
        else:
            part = _chance(spec)
            if part is None or left <= 0:
                return None
            chosen.append(spec[-2:])
            shares.append(left * part)
            left -= left * part
    even = all(abs(share * len(shares) - 1) < _ALIKE for share in shares)
    return (before, sorted(remembered), sorted(chosen)) if even else None


def _chance(spec: Spec) -> float | None:
    """What part of the packets that come there it takes; None where that is not all it asks."""
    if len(spec) == 2:
        return 1.0
    if spec[:-3] != _CHANCE:
        return None
    try:
        return float(spec[-3])
    except ValueError:
        return None
