"""Label selectors: laws over random ones, and Kubernetes' own cases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hairpin.model.selector import Requirement, Selector, SelectorError, parse

KEYS = st.sampled_from(["app", "tier", "a.b/c", "in", "notin", "x-1"])
VALUES = st.sampled_from(["", "web", "db", "1", "9", "in", "a_b.c", "007"])
LABELS = st.dictionaries(KEYS, VALUES)


@st.composite
def requirements(draw: st.DrawFn) -> Requirement:
    key = draw(KEYS)
    operator = draw(st.sampled_from(["exists", "absent", "in", "notin", "gt", "lt"]))
    if operator in ("exists", "absent"):
        return Requirement(key, operator)  # type: ignore[arg-type]  # sampled from its literals
    if operator in ("gt", "lt"):
        bound = str(draw(st.integers(-(2**63), 2**63 - 1)))
        return Requirement(key, operator, (bound,))  # type: ignore[arg-type]  # as above
    values = tuple(sorted(draw(st.sets(VALUES, min_size=1))))
    return Requirement(key, operator, values)  # type: ignore[arg-type]  # as above


SELECTORS = st.lists(requirements()).map(lambda found: Selector(tuple(found)))


@given(SELECTORS)
def test_what_is_printed_is_read_again(selector: Selector) -> None:
    assert parse(str(selector)) == selector


@given(SELECTORS, LABELS)
def test_all_parts_must_hold(selector: Selector, labels: dict[str, str]) -> None:
    each = [Selector((one,)).matches(labels) for one in selector.requirements]
    assert selector.matches(labels) == all(each)


@given(KEYS, st.sets(VALUES, min_size=1), LABELS)
def test_what_does_not_hold_is_held_by_the_opposite(
    key: str, values: set[str], labels: dict[str, str]
) -> None:
    listed = ",".join(values)
    inside = parse(f"{key} in ({listed})").matches(labels)
    assert inside == (labels.get(key) in values)
    assert parse(f"{key} notin ({listed})").matches(labels) != inside
    assert parse(key).matches(labels) != parse(f"!{key}").matches(labels)


@given(KEYS, VALUES, LABELS)
def test_equality_is_a_set_of_one(key: str, value: str, labels: dict[str, str]) -> None:
    said = parse(f"{key}={value}")
    assert said == parse(f" {key} == {value} ") == parse(f"{key} in ({value})")
    assert parse(f"{key}!={value}") == parse(f"{key} notin ({value})")
    assert said.matches(labels) == (labels.get(key) == value)


@given(st.text(alphabet="ab1-=!<>(), \tinout/.\u00e9\n", max_size=30))
def test_no_text_does_anything_but_select_or_say_what_is_wrong(text: str) -> None:
    try:
        again = parse(text)
    except SelectorError as error:
        assert str(error)
    else:
        assert parse(str(again)) == again


@pytest.mark.parametrize(
    ("text", "labels", "selected"),
    [
        ("", {}, True),
        ("app=web,tier!=db", {"app": "web"}, True),  # != is held where the key is absent
        ("app=web,tier!=db", {"app": "web", "tier": "db"}, False),
        ("env in (prod, test)", {"env": "test"}, True),
        ("env notin (prod)", {}, True),
        ("!old", {"old": ""}, False),
        ("size>3", {"size": "10"}, True),
        ("size>3", {"size": "big"}, False),
        ("size<3", {}, False),
        ("app=", {"app": ""}, True),
        ("x in (a,)", {"x": ""}, True),
    ],
)
def test_cases(text: str, labels: dict[str, str], selected: bool) -> None:
    assert parse(text).matches(labels) is selected


@pytest.mark.parametrize(
    "text",
    ["=", "a=b,", ",a", "a b", "a in", "a in (b", "a=b=c", "!", "a>b", "-a=b", "a=b c", "a=é"],
)
def test_what_is_no_selector(text: str) -> None:
    with pytest.raises(SelectorError):
        parse(text)
