"""docs/json.md: its examples are what the command prints, and its tables have every field."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import ROOT, Hairpin

pytestmark = pytest.mark.guest

PAGE = ROOT / "docs" / "json.md"
_EXAMPLE = re.compile(r"<!-- example: ([^\n]*) -->\n(?:\n```json\n(.*?)```\n)?", re.DOTALL)
_COUNTED = ("counters", "rates", "active", "inactive", "persistent", "client_port", "expires")
_TIMED = ("syncs", "full_syncs", "last_sync", "last_full_sync", "last_duration", "last_changes")


def _same_each_time(value: Any, key: str = "") -> Any:
    """Without what another run has otherwise: times, counts, a connection's turn."""
    if isinstance(value, dict):
        kept = {name: _same_each_time(inner, name) for name, inner in value.items()}
        if key in ("counters", "rates"):
            return dict.fromkeys(kept, 0)
        if kept.get("kind") == "Connection":
            kept |= {"server": "10.244.0.3", "state": "TIME_WAIT", "client_port": 40000}
        if "real_servers" in kept:  # in the order of the kernel's table, which is none
            kept["real_servers"].sort(key=lambda one: str(one["server"]["ip"]))
        return kept
    if isinstance(value, list):
        return [_same_each_time(inner) for inner in value]
    if key in (*_TIMED, "next_sync", "flows_deleted", "seconds"):
        return 0
    if isinstance(value, str):
        value = re.sub(r"^Linux \d.*", "Linux 6.1", value)
        value = re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", "2026-01-01T00:00:00Z", value)
    return 0 if key in _COUNTED else value


def _printed(shared: Hairpin, line: str) -> Any:
    words = line.split()
    if "-w" in words:
        watching = shared.start(*words)
        assert watching.stdout is not None
        text = b""
        while not text.endswith(b"\n}\n"):
            text += watching.stdout.readline()
        watching.kill()
        watching.communicate()
        return _same_each_time(json.loads(text))
    return _same_each_time(json.loads(shared.ok(*words)))


def _examples() -> dict[str, str | None]:
    return {found[1]: found[2] for found in _EXAMPLE.finditer(PAGE.read_text())}


@pytest.fixture(scope="module")
def one_connection(shared: Hairpin) -> Hairpin:
    shared.ok("exec", "client", "--", "curl", "-s", "10.96.7.7")
    return shared


def test_the_examples_are_true(one_connection: Hairpin) -> None:
    examples = _examples()
    assert len(examples) == 12
    printed = {line: _printed(one_connection, line) for line in examples}
    printed["get connections -o json"]["items"] = [
        one for one in printed["get connections -o json"]["items"] if one["vip"] == "10.96.7.7"
    ][:1]
    # Other tests of this lab take something away for the proxy to put right.
    printed["get proxy node -o json"]["drift"] = {}
    if os.environ.get("HAIRPIN_WRITE_DOCS"):
        write(printed)
        examples = _examples()
    for line, text in examples.items():
        assert text is not None, f"{line}: no example yet: HAIRPIN_WRITE_DOCS=1 writes it"
        assert json.loads(text) == printed[line], line


@pytest.mark.parametrize("kind", ["VirtualServer", "Connection", "Ingredient", "Proxy"])
def test_every_field_of_our_own_kinds_is_in_its_table(one_connection: Hairpin, kind: str) -> None:
    section = PAGE.read_text().split(f"### {kind}\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    documented = {name.strip() for row in rows for name in row.split(",")}
    items = json.loads(one_connection.ok("get", f"{kind.lower()}", "-o", "json"))["items"]
    for path in {path for one in items for path in _paths(one)}:
        known = path in documented or any(path.startswith(f"{each}.") for each in documented)
        assert known or path in ("apiVersion", "kind"), f"docs/json.md: {kind} {path}"


def _paths(value: Any, path: str = "") -> Iterator[str]:
    """The dotted names of all fields; the items of a list have the list's name."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _paths(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _paths(inner, path)
    else:
        yield path


def write(printed: dict[str, Any]) -> None:
    """Puts what was printed below each example's line."""

    def block(found: re.Match[str]) -> str:
        text = json.dumps(printed[found[1]], indent=2, ensure_ascii=False)
        return f"<!-- example: {found[1]} -->\n\n```json\n{text}\n```\n"

    Path(PAGE).write_text(_EXAMPLE.sub(block, PAGE.read_text()))
