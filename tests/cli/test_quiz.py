"""``hairpin break`` and ``hairpin quiz`` as a person plays them, in a mode of the host's kernel."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Hairpin
from tests.cli.terminal import Terminal


def _listed(hairpin: Hairpin, *words: str) -> dict[str, list[str]]:
    """The modes of each fault that ``break --list`` names."""
    rows = [line.split() for line in hairpin.ok("break", "--list", *words).splitlines()[1:]]
    return {row[0]: row[1].split(",") for row in rows}


def test_the_list_is_of_one_mode_if_one_is_said(tmp_path: Path) -> None:
    hairpin = Hairpin(tmp_path)
    every, some = _listed(hairpin), _listed(hairpin, "--mode", "nftables")
    assert some == {name: modes for name, modes in every.items() if "nftables" in modes}
    assert 0 < len(some) < len(every)


def test_nothing_is_put_back_where_no_lab_runs(tmp_path: Path) -> None:
    hairpin = Hairpin(tmp_path)
    ran = hairpin("break", "weight-zero", "--undo")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("hairpin: no lab named default is running: there is nothing to put")
    ran = hairpin("ls")
    assert "no labs are running" in ran.out + ran.err


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hairpin]:
    """A lab for faults, with one."""
    hairpin = Hairpin(tmp_path_factory.mktemp("run"))
    out = hairpin.ok("break", "no-route-to-node", "--mode", "nftables")
    assert "hairpin trace client svc/far:http" in out
    assert "to put it back: hairpin break no-route-to-node --undo" in out
    try:
        yield hairpin
    finally:
        hairpin("down")


@pytest.mark.host
def test_a_fault_of_another_mode_is_told_so(broken: Hairpin) -> None:
    ran = broken("break", "weight-zero")
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "hairpin: weight-zero is a fault of ipvs mode, not of nftables",
        "  hairpin break --list --mode nftables names those of nftables",
    ]
    ran = broken("break", "weight-zero", "--mode", "ipvs")
    assert ran.code == 2
    assert ran.err.startswith("hairpin: lab default runs in nftables mode\n")


@pytest.mark.host
def test_the_running_lab_s_mode_need_not_be_said_again(broken: Hairpin) -> None:
    assert broken.ok("break", "no-route-to-node", "--undo") == "no-route-to-node is put back\n"
    broken.ok("trace", "client", "svc/far:http")


@pytest.mark.host
def test_a_quiz_from_start_to_end(tmp_path: Path) -> None:
    hairpin = Hairpin(tmp_path)
    terminal = Terminal(hairpin, "quiz", "--seed", "5", "--mode", "nftables", size=(40, 200))
    with contextlib.closing(terminal):
        begun = terminal.until("q: quit")
        # What went on before is gone from the line.
        assert "\x1b[2KSomething is broken." in begun
        outcome = re.search(r" asks \S+: ([a-z]+)\.", begun)
        line = re.search(r"hairpin (--lab (quiz-[-0-9a-z]+) trace .*)\r", begun)
        assert outcome is not None, begun
        assert line is not None, begun
        assert hairpin(*line[1].split()).code == 1  # as it stands there
        terminal.type("t\r")
        terminal.until(outcome[1])
        terminal.type("h\r")
        terminal.until("> ")
        terminal.type("a\r")
        said = terminal.until("It was: ")
        assert said.count("hairpin ") == said.count(f"hairpin --lab {line[2]} ")  # the mend's
        assert terminal.ended() == 0
    ran = hairpin("ls")
    assert "no labs are running" in ran.out + ran.err
