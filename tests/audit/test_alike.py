"""A choice by a rule for each is the choice by one lookup, and no other row of rules is."""

from __future__ import annotations

from ipaddress import ip_address

from hairpin.audit.nftables_alike import merged, plain
from hairpin.state.nftables import (
    Chance,
    Dnat,
    Match,
    NftRule,
    RandomDnat,
    RandomVerdict,
    Target,
    Verdict,
)

TCP = Match(field="meta l4proto", value="TCP")
ENDS = [Target(ip_address(f"10.0.0.{number}"), 80) for number in (3, 1, 2)]


def _row(ofs: tuple[int, ...]) -> list[NftRule]:
    return [
        plain(NftRule((TCP, *([Chance(of=of)] if of > 1 else []), Dnat(ip=end.ip, port=end.port))))
        for of, end in zip(ofs, ENDS, strict=True)
    ]


def test_a_row_of_chances_is_one_choice() -> None:
    whole = plain(NftRule((TCP, RandomDnat(targets=tuple(ENDS)))))
    assert merged(_row((3, 2, 1))) == [whole]
    affinity = NftRule((Verdict("goto", "x"),))
    assert merged([affinity, *_row((3, 2, 1))]) == [affinity, whole]
    verdicts = [Verdict("goto", name) for name in "ba"]
    rules = [NftRule((Chance(of=2), verdicts[0])), NftRule((verdicts[1],))]
    assert merged(rules) == [plain(NftRule((RandomVerdict(verdicts=tuple(verdicts)),)))]


def test_other_shares_are_something_else() -> None:
    whole = plain(NftRule((TCP, RandomDnat(targets=tuple(ENDS)))))
    for ofs in ((3, 3, 1), (2, 2, 1), (3, 2, 2), (1, 2, 1)):
        assert merged(_row(ofs)) != [whole]
    other = [*_row((3, 2, 1))[:2], NftRule((RandomDnat(targets=(ENDS[2],)),))]
    assert merged(other) == other
