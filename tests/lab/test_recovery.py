"""Whatever call of the system fails in a lab's turn: the next turn goes on from there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.host
_STEP = 1 if os.environ.get("HAIRPIN_LONG") else 4


@pytest.mark.timeout(300)
def test_a_failing_call_leaves_a_lab_that_recovers() -> None:
    own = ("--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc")
    command = ["unshare", *own, sys.executable, "-m", "tests.lab.faulty_lab", "1", str(_STEP)]
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert ended.stdout, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["wrong"] == []
    assert found["failed"] * _STEP >= found["calls"] > 50
