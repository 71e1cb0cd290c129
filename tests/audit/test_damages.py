"""Each damage that a person can do is found and named; what is nobody's fault is not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.audit import damages_ipvs, damages_nft, damages_rules
from tests.audit.damage import Damage, judged, problems

DAMAGES = (*damages_ipvs.DAMAGES, *damages_nft.DAMAGES, *damages_rules.DAMAGES)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda one: f"{one.mode}-{one.name}")
def test_a_damage_is_found(damage: Damage, tmp_path: Path) -> None:
    assert problems(damage, judged(damage, tmp_path)) == []


def test_no_two_are_one() -> None:
    assert [one for one, count in Counter(map(str, map(_id, DAMAGES))).items() if count > 1] == []


def _id(damage: Damage) -> tuple[str, str]:
    return damage.mode, damage.name
