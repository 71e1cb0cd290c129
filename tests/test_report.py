"""The plugin that names what a run could not do, tried on runs of pytest of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SKIPPED_GUEST = """
import pytest

@pytest.mark.guest
@pytest.mark.parametrize("n", [1, 2])
def test_boots(n):
    pytest.skip("no linux.uml")

def test_sums():
    assert 1 + 1 == 2
"""
PASSED_GUEST = """
import pytest

@pytest.mark.guest
def test_boots():
    pass

@pytest.mark.guest
def test_has_sctp():
    pytest.skip("no SCTP")
"""
SKIPPED_FILE = """
import pytest

pytest.skip("not on this machine", allow_module_level=True)
"""
EXPECTED_FAILURE = """
import pytest

@pytest.mark.xfail(reason="a known limit")
def test_limit():
    assert False
"""


def run(folder: Path, source: str, require_ipvs: bool) -> tuple[int, str]:
    """Exit status and output of a pytest run over one file with the plugin loaded."""
    (folder / "test_it.py").write_text(source)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = guest\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.report"],
        cwd=folder,
        env=os.environ
        | {
            "HAIRPIN_REQUIRE_IPVS": "1" if require_ipvs else "",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("source", "require_ipvs", "status", "line"),
    [
        (SKIPPED_GUEST, False, 0, "not run: 2 tests in test_it.py: no linux.uml"),
        (SKIPPED_GUEST, True, 1, "of 2 tests in the embedded kernel none passed"),
        (PASSED_GUEST, True, 0, "not run: test_it.py: no SCTP"),
        (SKIPPED_FILE + PASSED_GUEST, True, 5, "not run: test_it.py: not on this machine"),
    ],
)
def test_skips_are_named_and_ipvs_is_required(
    tmp_path: Path, source: str, require_ipvs: bool, status: int, line: str
) -> None:
    code, output = run(tmp_path, source, require_ipvs)
    assert line in output
    assert code == status


def test_an_expected_failure_did_run(tmp_path: Path) -> None:
    code, output = run(tmp_path, EXPECTED_FAILURE, require_ipvs=False)
    assert code == 0
    assert "not run" not in output
