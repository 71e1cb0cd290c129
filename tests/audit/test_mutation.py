"""A single change to a healthy kernel is found, and whose it is is said; a healthy one is clean."""

from __future__ import annotations

import os
from collections import Counter

import msgspec
import pytest

from hairpin.audit.judge import report
from tests.audit.mutate import mutant
from tests.audit.play import ANY, MODES, Play, recorded

CHANGES = {"ipvs": 400, "iptables": 300, "nftables": 500}  # 10 s for all
LONG = 20 if os.environ.get("HAIRPIN_LONG") else 1


@pytest.mark.parametrize("mode", MODES)
def test_what_kube_proxy_made_is_clean(mode: str) -> None:
    found = report(recorded(mode))
    assert (found.findings, found.exit_code, found.problems) == ((), 0, ())
    assert [one.part for one in found.not_judged if one.needed] == []


@pytest.mark.parametrize("mode", MODES)
def test_each_change_is_found_and_its_owner_named(mode: str) -> None:
    case = recorded(mode)
    play = Play(case, seed=1)
    made: Counter[str] = Counter()
    for _ in range(CHANGES[mode] * LONG):
        one = mutant(play)
        made[one.kind] += 1
        found = report(msgspec.structs.replace(case, held=one.held))
        said = f"{one.kind} {one.verb} {one.text}"
        assert found.exit_code == 1, said
        named = {name for each in found.findings for name in (each.owner, *each.shared)}
        assert ANY in one.owners or named & one.owners, f"{said}: {named}, not {one.owners}"
        for each in found.findings:
            assert each.consequence.endswith(".") and each.subject and each.mend, said
    assert len(made) >= 5, made
