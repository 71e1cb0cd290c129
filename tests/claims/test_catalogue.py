"""What every claim about Services has, and how they are chosen."""

import re
from collections import Counter

import pytest

from hairpin.claims.catalogue import CLAIMS
from hairpin.claims.check import chosen
from hairpin.claims.promises import Promise, Try
from hairpin.lab.session import LabError
from hairpin.model.names import dns_label

BY_SUBJECT = Counter(claim.subject for claim in CLAIMS)


def test_there_are_enough() -> None:
    packets = BY_SUBJECT["packets"]
    rows = [step for claim in CLAIMS for step in claim.steps if isinstance(step, Try)]
    assert len(CLAIMS) - packets >= 60
    assert packets == 4 * 3 * 3
    assert sum(len(claim.steps) - 1 for claim in CLAIMS if claim.subject == "packets") == 144
    assert len(rows) > 300


def test_each_has_a_name_of_its_own() -> None:
    assert max(Counter(claim.id for claim in CLAIMS).values()) == 1
    assert max(Counter(claim.namespace for claim in CLAIMS).values()) == 1


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_claim(claim: Promise) -> None:
    assert re.fullmatch(r"services(\.[a-z0-9-]+){2,}", claim.id)
    assert not dns_label(claim.namespace), claim.namespace
    assert claim.says.en.isascii() and claim.says.en
    assert claim.says.zh
    assert claim.source
    assert claim.steps
    for step in claim.steps:
        if not isinstance(step, Try):
            continue
        for difference in step.differs.values():
            assert difference.source and difference.reason.en and difference.reason.zh
            assert difference.expect != step.expect, "a difference that is none"


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ((), len(CLAIMS)),
        (("services",), len(CLAIMS)),
        (("nodeport",), BY_SUBJECT["nodeport"]),
        (("services.nodeport",), BY_SUBJECT["nodeport"]),
        (("nodeport.basic",), 1),
        (("services.nodeport.basic", "nodeport.basic"), 1),
        (("packets.*.none-local",), 12),
        (("packets.node-port",), 9),
    ],
)
def test_chosen(words: tuple[str, ...], count: int) -> None:
    assert len(chosen(CLAIMS, words)) == count


def test_a_word_that_names_none_is_refused() -> None:
    with pytest.raises(LabError, match="no claim nodeprot") as caught:
        chosen(CLAIMS, ["nodeport", "nodeprot"])
    assert caught.value.exit_code == 2
