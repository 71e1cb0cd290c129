"""Names as Kubernetes' validation takes and refuses them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hairpin.model import names

CASES: dict[Callable[[str], str], tuple[list[str], list[str]]] = {
    names.dns_label: (
        ["a", "0", "a-b", "1a", "a" * 63],
        ["", "a" * 64, "A", "-a", "a-", "a.b", "a_b", "a\n", "ä"],
    ),
    names.dns_subdomain: (
        ["a", "a.b-c.1", "1.2", "a" * 253],
        ["", "a" * 254, "a..b", ".a", "a.", "a.-b", "A.b", "a\n"],
    ),
    names.port_name: (
        ["http", "a", "1a", "a-b", "a" * 15],
        ["", "a" * 16, "80", "-a", "a-", "a--b", "A", "a_b"],
    ),
    names.label_key: (
        ["app", "A_b.c", "example.com/name", "a/" + "b" * 63],
        ["", "a/", "/a", "a/b/c", "-a", "a_", "Ex.com/a", "a/" + "b" * 64, "a" * 254 + "/b", "a b"],
    ),
    names.label_value: (
        ["", "a", "A.b_c-d", "1", "a" * 63],
        ["a" * 64, "-a", "a-", "a b", "a/b", "a\n"],
    ),
}


@pytest.mark.parametrize("rule", CASES, ids=lambda rule: rule.__name__)
def test_rule(rule: Callable[[str], str]) -> None:
    good, bad = CASES[rule]
    assert [text for text in good if rule(text)] == []
    assert [text for text in bad if not rule(text)] == []
