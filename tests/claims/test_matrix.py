"""The matrix of ingredients on a real kernel, against what was measured before it was written.

The rules are kube-proxy's: a Pod's own address stays but where it reaches itself, and the node,
whose source would be the ClusterIP, is masqueraded.
"""

import json
import subprocess
import sys
from itertools import product
from typing import Any

import pytest

pytestmark = pytest.mark.guest


@pytest.fixture(scope="module")
def cells() -> dict[tuple[Any, ...], dict[str, Any]]:
    command = [sys.executable, "-m", "hairpin", "matrix", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    names = ("br_netfilter", "hairpin", "conntrack", "masquerade", "from")
    return {tuple(cell[name] for name in names): cell for cell in json.loads(done.stdout)}


def _expected(
    bridged: bool, hairpin: str, tracked: bool, masqueraded: bool, source: str
) -> str | None:
    """The client's address that the server sees, None for no answer."""
    both = tracked and masqueraded
    match source:
        case "node":
            # What conntrack has not seen is new when it comes back to the ClusterIP, and rejected
            # there (KUBE-IPVS-FILTER).
            if not tracked:
                return None
            return "172.22.0.1" if masqueraded else "172.23.0.1"
        case "other":
            # Without br_netfilter the answer goes straight over the bridge and is not rewritten.
            return "172.22.0.3" if bridged else None
        case _:
            return "172.22.0.1" if both and (not bridged or hairpin != "off") else None


@pytest.mark.parametrize(
    "key",
    list(
        product(
            (False, True),
            ("off", "promisc", "port"),
            (False, True),
            (False, True),
            ("node", "other", "self"),
        )
    ),
)
def test_cell(
    cells: dict[tuple[Any, ...], dict[str, Any]], key: tuple[bool, str, bool, bool, str]
) -> None:
    expected = _expected(*key)
    cell = cells[key]
    assert (cell["works"], cell["server_saw"]) == (expected is not None, expected)
