"""JUnit's XML, as CI systems read it (the common subset of Ant's and Jenkins' schemas)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

import msgspec

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One test: ``message`` is why it failed, could not run or was skipped; ``output`` is more."""

    suite: str
    name: str
    seconds: float
    result: Literal["passed", "failed", "error", "skipped"]
    message: str = ""
    output: str = ""


def junit(name: str, cases: Sequence[Case]) -> str:
    """The document: a suite for each name of a suite, in the order of their first cases."""
    suites: dict[str, list[Case]] = {}
    for case in cases:
        suites.setdefault(case.suite, []).append(case)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites {_totals(name, cases)}>"]
    for suite, some in suites.items():
        lines.append(f"  <testsuite {_totals(suite, some)}>")
        for case in some:
            lines += _case(case)
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>"]) + "\n"


def _totals(name: str, cases: Sequence[Case]) -> str:
    counted = {
        "tests": len(cases),
        "failures": sum(case.result == "failed" for case in cases),
        "errors": sum(case.result == "error" for case in cases),
        "skipped": sum(case.result == "skipped" for case in cases),
    }
    words = [f"name={_attribute(name)}", *(f'{key}="{count}"' for key, count in counted.items())]
    return " ".join([*words, f'time="{sum(case.seconds for case in cases):.3f}"'])


def _case(case: Case) -> list[str]:
    names = f"classname={_attribute(case.suite)} name={_attribute(case.name)}"
    head = f'    <testcase {names} time="{case.seconds:.3f}"'
    inner = []
    if case.result != "passed":
        tag = {"failed": "failure", "error": "error", "skipped": "skipped"}[case.result]
        inner.append(f"      <{tag} message={_attribute(case.message)}/>")
    if case.output:
        inner.append(f"      <system-out>{escape(_NOT_XML.sub('?', case.output))}</system-out>")
    return [f"{head}>", *inner, "    </testcase>"] if inner else [f"{head}/>"]


def _attribute(text: str) -> str:
    return quoteattr(_NOT_XML.sub("?", text), {"\n": "&#10;"})
