"""The tour on a terminal: paragraphs, commands, and what came of each claim."""

from __future__ import annotations

import shlex

from rich.console import Console
from rich.rule import Rule
from rich.text import Text as Styled

from hairpin.claims.base import Attempt, Language, Start, Step, Text, Verdict
from hairpin.claims.seed import NODE, STEPS
from hairpin.present.shell import commands
from hairpin.present.table import pad, width
from hairpin.state.change import Change
from hairpin.tour.words import CLOSING, INTRODUCTION, LABELS, WHY


class Teller:
    """Prints the story in one language; colours only where the terminal has them."""

    def __init__(self, console: Console, language: Language) -> None:
        self.console = console
        self._language = language

    def label(self, name: str) -> str:
        return LABELS[name].said(self._language)

    def introduce(self, kernel: str) -> None:
        """The first words: what this is, and on which kernel."""
        self.console.print()
        self._paragraph(INTRODUCTION)
        self.console.print(Styled(f"  {kernel}", style="dim"))

    def step(self, number: int, step: Step) -> None:
        """A step's heading and its paragraph of why."""
        title = step.title.said(self._language)
        if self._language == "zh":
            heading = f" 第 {number} 步 / 共 {len(STEPS)} 步: {title} "
        else:
            heading = f" Step {number} of {len(STEPS)}: {title} "
        self.console.print()
        self.console.print(Rule(Styled(heading, style="bold cyan"), align="left", style="cyan"))
        self._paragraph(WHY[step.id])

    def act(self, act: Change | Start) -> None:
        """What is done, as a person would type it on the node."""
        if isinstance(act, Change):
            lines = commands(act, NODE)
        else:
            server = shlex.join(act.argv)
            lines = [*map(shlex.join, act.prepare), f"ip netns exec {act.netns} {server} &"]
        for line in lines:
            self._command(line)

    def verdict(self, verdict: Verdict) -> None:
        """A claim with the command that tries it, what was expected and what was seen."""
        claim = verdict.claim
        self._command(probe_command(claim.attempt), style="blue")
        mark, style = ("✓", "bold green") if verdict.held else ("✗", "bold red")
        line = Styled("    ")
        line.append(f"{mark} {claim.says.said(self._language)}", style=style)
        self.console.print(line, soft_wrap=True)
        style = "dim" if verdict.held else "red"
        room = max(width(self.label("expected")), width(self.label("seen")))
        for name, text in (("expected", verdict.expected), ("seen", verdict.seen)):
            fact = f"      {pad(self.label(name), room)}  {text.said(self._language)}"
            if name == "seen":
                fact += f"  ({verdict.seconds:.2f} s)"
            self.console.print(Styled(fact, style=style), soft_wrap=True)

    def close(self, held: int, failed: int, seconds: float, *, whole: bool) -> None:
        """The count, and where to go on."""
        self.console.print()
        total = held + failed
        style = "bold green" if not failed else "bold red"
        words = f"{held}/{total} {self.label('claims')}, {seconds:.1f} s"
        self.console.print(Styled(words, style=style))
        if whole and not failed:
            self._paragraph(CLOSING)

    def _paragraph(self, text: Text) -> None:
        words = Styled(text.said(self._language))
        for line in words.wrap(self.console, self.console.width - 4):
            line.rstrip()
            self.console.print(Styled("  ") + line, soft_wrap=True)
        self.console.print()

    def _command(self, line: str, style: str = "yellow") -> None:
        # Never wrapped: a broken line could not be pasted.
        self.console.print(
            Styled("    $ ", style="dim") + Styled(line, style=style), soft_wrap=True
        )


def probe_command(attempt: Attempt) -> str:
    """A claim's attempt as a person would make it on the node."""
    inside = "" if attempt.netns == NODE else f"ip netns exec {attempt.netns} "
    curl = f"{inside}curl -s --max-time {attempt.timeout:g} {attempt.ip}:{attempt.port}"
    once = f"{curl} | grep -o 'im-[a-z]*' | head -n 1"
    return once if attempt.times == 1 else f"for i in $(seq {attempt.times}); do {once}; done"
