"""Every verb says how it is used, and its examples are command lines that it takes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hairpin.cli.main import VERBS, main
from hairpin.cli.parser import parser_of

DOCS = Path(__file__).parents[2] / "docs"
_COMMAND = re.compile(r"(?:^|[|(]\s*|^\$ )hairpin (.*)")


def _examples(text: str) -> list[list[str]]:
    """The words after ``hairpin`` of every command line in a text, without comments."""
    found = []
    for line in text.splitlines():
        said = re.split(r"\s{3,}| > | \| (?!hairpin)|\)$|\s#\s", line.strip())[0]
        for match in _COMMAND.finditer(said):
            found.append(shlex.split(match[1].rstrip(")")))
    return found


def _taken(words: list[str]) -> None:
    """The verb's parser takes these words."""
    verb, *rest = words
    if verb in ("help", "--help") or rest[:1] == ["--help"]:
        return
    assert verb in VERBS, words
    parser, _ = parser_of(verb)
    parser.parse_intermixed_args(rest[: rest.index("--")] if "--" in rest else rest)


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_usage_what_and_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: hairpin {verb}") and "[options]" in said.splitlines()[0]
    assert "--lab NAME" in said and "Traceback" not in said
    assert max(map(len, said.splitlines())) <= 100
    assert main(["help", verb]) == 0
    assert capsys.readouterr().out == said
    parser, module = parser_of(verb)
    for action in parser._actions:
        assert not action.option_strings or action.help, f"{verb} {action.option_strings}"
    for words in _examples(module.__doc__ or ""):
        _taken(words)


@pytest.mark.parametrize(
    "verb", [verb for verb in VERBS if verb not in ("version", "ls", "kernel")]
)
def test_every_verb_gives_examples(verb: str) -> None:
    assert "examples:" in (parser_of(verb)[1].__doc__ or "")


def test_the_commands_in_the_documentation_are_taken() -> None:
    pages = [*DOCS.glob("*.md"), *DOCS.parent.glob("*.md")]
    found = [words for page in pages for words in _examples(page.read_text().replace("\\\n", " "))]
    assert len(found) >= 100
    for words in found:
        if words[0] in VERBS:  # else a line of prose begins so
            _taken(words)


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["help"]) == main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"  {verb} " in said for verb in VERBS)


def test_help_imports_no_more_than_it_needs() -> None:
    script = (
        "import sys; from hairpin.cli.main import main; main(['--help']); "
        "print([m for m in ('argparse', 'msgspec', 'yaml', 'rich', 'socket', 'typing', 're') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-ISc", f"import sys; sys.path[:0] = {sys.path!r}; {script}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_get_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    """Not msgspec, YAML nor rich: showing a table is to stay quick."""
    script = (
        "import os, sys; os.environ['XDG_RUNTIME_DIR'] = sys.argv[1]; "
        "from hairpin.cli.main import main; main(['get', 'pods', '-l', 'a=b']); "
        "print([m for m in ('msgspec', 'yaml', 'rich', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-ISc", f"import sys; sys.path[:0] = {sys.path!r}; {script}", tmp_path],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "no lab is running" in done.stderr
    assert done.stdout == "[]\n"


def test_global_options_may_stand_before_help_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lab", "x", "--help"]) == 0
    assert "hairpin VERB" in capsys.readouterr().out
    assert main(["--help", "logs"]) == 0
    assert capsys.readouterr().out.startswith("usage: hairpin logs")
