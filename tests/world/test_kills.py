"""A few rounds of bench/kills.py; the hundreds are run by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.world.watching import LONG

BENCH = Path(__file__).parents[2] / "bench" / "kills.py"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kernel", "kills"),
    [
        pytest.param("host", 200 if LONG else 8, marks=pytest.mark.host),
        pytest.param("guest", 200 if LONG else 4, marks=pytest.mark.guest),
    ],
)
def test_kill_9_leaves_nothing_and_the_next_up_works(kernel: str, kills: int) -> None:
    done = subprocess.run(
        [sys.executable, BENCH, str(kills), "--kernel", kernel, "--seed", "5"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kernel}: {kills} kills" in done.stdout
