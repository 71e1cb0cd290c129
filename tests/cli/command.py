"""Running hairpin as a person does: as a command, in a runtime folder of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SEED = str(ROOT / "examples" / "seed.yaml")
WEB = str(ROOT / "examples" / "web.yaml")
LIMIT = 60  # seconds for one command


class Ran(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


class Hairpin:
    """The command, with labs of its own under ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.env = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "LANG": "C.UTF-8"}
        self.command = [sys.executable, "-m", "hairpin"]

    def __call__(self, *words: str, stdin: bytes | str = b"") -> Ran:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*self.command, *words],
            input=given,
            capture_output=True,
            env=self.env,
            timeout=LIMIT,
            check=False,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    def ok(self, *words: str, stdin: bytes | str = b"") -> str:
        """The output of a command that must succeed."""
        ran = self(*words, stdin=stdin)
        assert ran.code == 0, f"{words}: exit {ran.code}: {ran.err}"
        return ran.out

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """A command that goes on running, with pipes."""
        return subprocess.Popen(
            [*self.command, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env,
        )


@contextmanager
def lab(folder: Path, *files: str) -> Iterator[Hairpin]:
    """A lab made of those files, ended afterwards."""
    hairpin = Hairpin(folder)
    hairpin.ok("up", *(word for file in files for word in ("-f", file)))
    try:
        yield hairpin
    finally:
        hairpin("down")
