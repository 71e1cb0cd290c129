"""A Proxy in the embedded kernel: boots it and runs the checks there.

HAIRPIN_LONG is the number of steps of the random walk (``make walk``); usually it is short.  With
it faults are at every call to the kernel, without at some.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.kernel.test_guest import boot

HERE = Path(__file__).parent
STEPS = int(os.environ.get("HAIRPIN_LONG", "150"))
SEED = os.environ.get("HAIRPIN_SEED", "1")
# Seconds; a step takes 0.1 on a quiet machine.
LIMITS = {
    "guest_agent_check": 180.0,
    "guest_recorded_check": 120.0,
    "guest_sync_check": 300.0,
    "guest_traffic_check": 300.0,
    "walk": 120 + STEPS * 1.5,
}


@pytest.mark.guest
@pytest.mark.timeout(max(LIMITS.values()) + 10)
@pytest.mark.parametrize("checks", LIMITS)
def test_proxy_in_the_guest(checks: str) -> None:
    modules = next(Path("/usr/lib/uml/modules").glob("*"), None)
    if modules is None or shutil.which("linux.uml") is None:
        pytest.skip("user-mode-linux is not installed")
    long = os.environ.get("HAIRPIN_LONG", "0")
    words = (f"HAIRPIN_WALK={STEPS}", f"HAIRPIN_SEED={SEED}", f"HAIRPIN_LONG={long}")
    with tempfile.TemporaryDirectory() as folder:
        said = boot(modules, f"tests.proxy.{checks}", folder, limit=LIMITS[checks], words=words)
    notes = re.findall(r"^note (?!E)(.*)", said, re.MULTILINE)
    print("\n".join(notes))
    source = (HERE / f"{checks}.py").read_text()
    wanted = set(re.findall(r"^def (check_\w+)", source, re.MULTILINE))
    assert set(re.findall(r"^ok (\w+)", said, re.MULTILINE)) == wanted, said
    assert "END" in said.split(), said
