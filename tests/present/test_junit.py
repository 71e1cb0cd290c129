"""JUnit's XML, read back by a parser that knows nothing of it."""

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from hairpin.present.junit import Case, junit

CASES = [
    Case(suite="a", name="one", seconds=0.25, result="passed", output="says\nmore"),
    Case(suite="b", name="two", seconds=1, result="failed", message='saw "x" & <y>'),
    Case(suite="a", name="three", seconds=0, result="skipped", message="no SCTP"),
    Case(suite="b", name="four", seconds=0, result="error", message="gone"),
]


def test_suites_and_their_counts() -> None:
    root = ElementTree.fromstring(junit("check", CASES))
    assert root.attrib == {
        "name": "check", "tests": "4", "failures": "1", "errors": "1", "skipped": "1",
        "time": "1.250",
    }  # fmt: skip
    assert [(one.get("name"), len(one)) for one in root] == [("a", 2), ("b", 2)]
    failure = root.find("testsuite[@name='b']/testcase[@name='two']/failure")
    assert failure is not None
    assert failure.get("message") == 'saw "x" & <y>'
    output = root.find("testsuite[@name='a']/testcase[@name='one']/system-out")
    assert output is not None
    assert output.text == "says\nmore"


@given(st.text(), st.text(), st.text())
def test_any_text_can_be_written(name: str, message: str, output: str) -> None:
    case = Case(suite=name, name=name, seconds=0, result="failed", message=message, output=output)
    ElementTree.fromstring(junit(name, [case]))
