"""Tables: aligned, and the same with colour as without."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.present.colour import paint
from hairpin.present.table import age, table, width

CELLS = st.sampled_from(["", "Running", "1/2", "2/2", "off", "<none>", "名前", "x" * 20])
COLUMNS = ["NAME", "READY", "STATUS", "VALUE"]
ROWS = st.lists(st.lists(CELLS, min_size=4, max_size=4), min_size=1, max_size=5)


@given(ROWS)
def test_colour_takes_no_room(rows: list[list[str]]) -> None:
    painted = table(COLUMNS, rows, paint=paint)
    assert re.sub(r"\033\[[0-9]+m", "", painted) == table(COLUMNS, rows)


@given(ROWS)
def test_every_column_begins_where_its_heading_does(rows: list[list[str]]) -> None:
    lines = table(COLUMNS, rows).split("\n")
    header = lines[0]
    for row, line in zip(rows, lines[1:], strict=True):
        for name, cell in zip(COLUMNS, row, strict=True):
            before = line[: max(0, _cut(line, header.index(name)))]
            assert width(before) <= header.index(name)
            assert line[len(before) :].startswith(cell)


def _cut(line: str, columns: int) -> int:
    """How many characters of a line fill so many terminal columns."""
    for index in range(len(line) + 1):
        if width(line[:index]) >= columns:
            return index
    return len(line)


def test_without_headings_columns_are_no_wider_than_their_cells() -> None:
    assert table(["A LONG HEADING", "B"], [["x", "y"]], headed=False) == "x   y"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-3, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (3600, "1h"), (7300, "2h"), (90000, "1d")],
)
def test_ages(seconds: float, said: str) -> None:
    assert age(seconds) == said
