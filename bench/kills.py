"""kill -9 at random moments of up, apply, exec and down: what is left, and does the next up work?

    python bench/kills.py [kills] [--kernel host|guest|both] [--seed N]

Each round starts a command, waits for a random moment, and kills one process, chosen at random
among the command itself and all processes of its World: keeper, PID 1, the guest's helpers, lab
process, echo servers, what runs in Pods.  Then the lab is ended, and nothing may be left: no
process, no namespace, no mount, no folder, no change of the machine's network or /etc.  A round
whose command is not "up" begins with an "up", which must work.  Exit code 1 if anything was left.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_LIMIT = 60.0  # seconds for one command
_GONE = 10.0  # seconds until nothing may be left
_MOMENTS = {"up": 0.5, "apply": 0.3, "exec": 0.3, "down": 0.15}
"""Commands, and the seconds from their start in which the kill falls; three times as many for
the guest."""
_SPACES = ("net", "mnt", "pid", "user", "uts", "ipc")
_NETWORK = (
    ["ip", "-j", "link"], ["ip", "-j", "addr"], ["ip", "-j", "route", "show", "table", "all"],
    ["ip", "-j", "-6", "route", "show", "table", "all"], ["ip", "-j", "rule"], ["ip", "netns"],
    ["iptables-save"], ["nft", "list", "ruleset"], ["sysctl", "-a", "-r", r"^net\."],
)  # fmt: skip
_OTHERS = ("hairpin-test-", "nf_conntrack_count", "#", ":")
"""What moves by itself, or by tests that run at the same time."""

_PODS = """
apiVersion: v1
kind: Pod
metadata: {{name: sleeper, labels: {{app: web}}}}
spec: {{containers: [{{name: main, command: [sleep, "{mark}"]}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: echo, labels: {{app: web}}}}
spec: {{containers: [{{name: main, ports: [{{containerPort: 8080}}]}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"""
_MORE = """
apiVersion: v1
kind: Pod
metadata: {{name: more, labels: {{app: web}}}}
spec: {{containers: [{{name: main, command: [sleep, "{mark}"]}}]}}
"""


class Held(NamedTuple):
    """Our namespaces at a moment, and all processes of the machine."""

    spaces: set[str]
    processes: set[int]


class Rounds:
    """Kills in one kernel's Worlds, in a runtime folder of their own."""

    def __init__(self, kernel: str, chance: random.Random, folder: Path) -> None:
        self._kernel = kernel
        self._chance = chance
        self._mark = f"{chance.randrange(10**5, 10**6)}.{os.getpid()}"  # seconds, for sleep
        self._folder = folder
        self._env = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
        self._lab = f"kills-{os.getpid()}"
        for name, text in (("pods", _PODS), ("more", _MORE)):
            (folder / f"{name}.yaml").write_text(text.format(mark=self._mark))
        self._commands = {
            "up": ["up", "-f", f"{folder}/pods.yaml", "--kernel", kernel],
            "apply": ["apply", "-f", f"{folder}/more.yaml"],
            "exec": ["exec", "sleeper", "--", "sleep", self._mark],
            "down": ["down"],
        }
        self.killed: collections.Counter[str] = collections.Counter()
        self.missed = 0
        self.failures: list[str] = []
        self.cleaning: list[float] = []

    def round(self) -> None:
        """One kill; what was wrong afterwards goes to ``failures``."""
        before = _machine()
        action = self._chance.choice(list(_MOMENTS))
        if action != "up":
            self._must("up")
        process = self._start(action)
        slow = 3 if self._kernel == "guest" else 1
        time.sleep(self._chance.uniform(0, slow * _MOMENTS[action]))
        held = self._namespaces()
        candidates = sorted(self._processes().items())
        what, parent = "nothing", ""
        if candidates:
            pid, what = self._chance.choice(candidates)
            parent = _parent(pid, dict(candidates))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.killed[f"{action}: {what}"] += 1
        else:
            self.missed += 1
        if action == "exec":  # its command would go on for long
            time.sleep(0.05)
            process.kill()
        happened = f"{action}, killed {what}{parent}"
        self._end(process, happened)
        self._end(self._start("down"), f"down after {happened}")
        self._look(before, held, happened)

    def works(self) -> None:
        """A last up and down."""
        self._must("up")
        self._must("down")

    def _start(self, action: str) -> subprocess.Popen[bytes]:
        verb, *rest = self._commands[action]
        return subprocess.Popen(
            [sys.executable, "-m", "hairpin", verb, "--lab", self._lab, *rest],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._env,
        )

    def _end(self, process: subprocess.Popen[bytes], what: str) -> tuple[int, str]:
        try:
            said = process.communicate(timeout=_LIMIT)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            process.kill()
            said = process.communicate()[0].decode(errors="replace")
            self.failures.append(f"{what}: hung: {said}")
        if "Traceback" in said:
            self.failures.append(f"{what}: a traceback: {said}")
        return process.returncode, said

    def _must(self, action: str) -> None:
        code, said = self._end(self._start(action), action)
        if code:
            self.failures.append(f"{action} did not work: {said}")

    def _look(self, before: dict[str, object], held: Held, what: str) -> None:
        started = time.monotonic()
        while (left := self._left(held)) and time.monotonic() - started < _GONE:
            time.sleep(0.02)
        self.cleaning.append(time.monotonic() - started)
        if left:
            self.failures.append(f"{what}: left: {', '.join(left)}")
        for name, now in _machine().items():
            if now != before[name]:
                self.failures.append(f"{what}: changed: {name}")

    def _left(self, held: Held) -> list[str]:
        left = [f"process {pid} ({name})" for pid, name in self._processes().items()]
        folder = self._folder / "hairpin"
        left += [str(path) for path in (folder.iterdir() if folder.exists() else ())]
        # The kernel gives the numbers of namespaces again: in a new process it is a new one.
        now = {
            space for pid, found in _all_namespaces() if pid in held.processes for space in found
        }
        return left + sorted(held.spaces & now)

    def _processes(self) -> dict[int, str]:
        """Our processes and what each is; by the lab's name, the mark, or an open file."""
        marks = (str(self._folder), self._lab, self._mark)
        found = {}
        for pid, arguments in _arguments():
            if any(mark in arguments for mark in marks) or self._holds_a_file(pid):
                found[pid] = _what(arguments, self._mark)
        return found

    def _holds_a_file(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if self._folder in fd.readlink().parents:
                        return True
        return False

    def _namespaces(self) -> Held:
        """Those that only our processes are in."""
        ours, others, pids = set[str](), set[str](), set[int]()
        processes = self._processes()
        for pid, found in _all_namespaces():
            (ours if pid in processes else others).update(found)
            pids.add(pid)
        return Held(ours - others, pids)


def _arguments() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    text = (entry / "cmdline").read_bytes().decode(errors="replace")
                    yield int(entry.name), text.replace("\0", " ")


def _parent(pid: int, known: dict[int, str]) -> str:
    """ " of …" with what started the process, where that is one of ours."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f" (state {fields[0]}, of {known.get(int(fields[1]), 'another')})"
    return ""


def _all_namespaces() -> Iterator[tuple[int, list[str]]]:
    """Each process with the namespaces that it is in, and those mounted somewhere (as 0)."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), [str((entry / "ns" / one).readlink()) for one in _SPACES]
    yield 0, [line.split()[3] for line in _mounts() if " nsfs " in line]


def _mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def _machine() -> dict[str, object]:
    """What must be as it was: network, mounts, /etc."""
    found: dict[str, object] = {}
    for command in _NETWORK:
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = done.stdout.splitlines()
            found[" ".join(command)] = [
                line for line in lines if not any(other in line[:200] for other in _OTHERS[:2])
                and not line.startswith(_OTHERS[2:])
            ]  # fmt: skip
    found["mounts"] = [line for line in _mounts() if "/run/netns" not in line]
    found["/etc"] = [
        (f"{folder}/{name}", seen.st_mtime_ns, seen.st_size)
        for folder, _, names in os.walk("/etc")
        for name in names
        for seen in (os.lstat(f"{folder}/{name}"),)
    ]
    return found


def _what(arguments: str, mark: str) -> str:
    """What a process is, in a word or two."""
    for name, sign in (
        ("keeper", " keeper "), ("command", "-m hairpin"), ("PID 1, lab process, echo", " hosted "),
        ("linux.uml", "uml_dir="), ("Pod's process", f"sleep {mark}"),
    ):  # fmt: skip
        if sign in arguments:
            return name
    return "helper" if not arguments.strip() else arguments.split(maxsplit=1)[0].rpartition("/")[2]


def _run(kernel: str, rounds: int, seed: int) -> bool:
    chance = random.Random(f"{seed} {kernel}")
    folder = Path(tempfile.mkdtemp(prefix="hairpin-kills-"))
    started = time.monotonic()
    try:
        trial = Rounds(kernel, chance, folder)
        while (kills := trial.killed.total()) < rounds and trial.missed <= rounds:
            trial.round()
            if sys.stderr.isatty():
                print(f"\r{kernel}: {kills} of {rounds}", end="", file=sys.stderr)
        trial.works()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    took = time.monotonic() - started
    print(f"{kernel}: {trial.killed.total()} kills in {took:.0f} s, seed {seed}")
    for what, count in sorted(trial.killed.items()):
        print(f"  {count:>4}  {what}")
    print(f"  {trial.missed:>4}  rounds in which nothing was there to kill")
    slowest = max(trial.cleaning, default=0.0)
    print(f"  nothing left after {slowest:.2f} s at most; failures: {len(trial.failures)}")
    for failure in trial.failures:
        print(f"  FAILED {failure}")
    return not trial.failures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kills", nargs="?", type=int, default=20)
    parser.add_argument("--kernel", choices=("host", "guest", "both"), default="both")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    kernels = ("host", "guest") if arguments.kernel == "both" else (arguments.kernel,)
    held = [_run(kernel, arguments.kills, arguments.seed) for kernel in kernels]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
