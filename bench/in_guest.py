"""Running a bench as the first process of an embedded kernel, with its floors in C beside it.

A bench's file is run twice: on the host, where ``boot`` compiles the floors and starts the guest
with the same file as its init, and in the guest, where ``run`` prepares the machine, does the
work and ends the machine.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

_BEGIN, _END = "the bench begins", "the bench has ended"
MARK = "--in-guest"
_CLEANING = 900.0  # seconds: virtual servers by the ten thousand take their time to go


def boot(
    script: str, floors: Iterable[str], arguments: Iterable[str], modules: Iterable[str]
) -> int:
    """Compiles ``floors`` (names of C files beside the script) and runs the script in a guest.

    In the guest ``run`` is given ``arguments``.  Prints what the bench says; gives an exit code.
    """
    import shutil
    import subprocess
    import tempfile
    from pathlib import Path

    import msgspec
    import yaml

    import hairpin
    from hairpin.world import lifecycle
    from hairpin.world.choice import find_guest

    guest = find_guest()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # as every guest is
    # The guest sees the host's files, but has a /tmp of its own: here is no overlay.
    with tempfile.TemporaryDirectory(prefix="hairpin-bench-") as folder:
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            print("no gcc: no floor, and so no ratios")
        for name in floors if compiler else ():
            source = Path(script).with_name(f"{name}.c")
            command = [compiler, "-O2", "-static", "-o", str(Path(folder, name)), str(source)]
            subprocess.run([str(word) for word in command], check=True)
        Path(folder, "uml").mkdir()
        homes = {Path(one.__file__ or "").parents[1] for one in (hairpin, msgspec, yaml)}
        paths = ":".join(map(str, homes))
        words = [MARK, paths, str(guest.modules), ",".join(modules), folder if compiler else "-"]
        # More memory than a lab gets: what is measured here is large.
        kernel = [
            "mem=1536M" if word.startswith("mem=") else word
            for word in lifecycle.kernel_arguments(Path(folder))
        ]
        with subprocess.Popen(
            [
                guest.linux, *kernel, f"init={guest.python}", "--",
                "-ISE", str(Path(script).resolve()), *words, *arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"TMPDIR": guest.tmpdir, "PATH": os.environ["PATH"]},
            text=True,
            errors="replace",
        ) as process:  # fmt: skip
            assert process.stdout
            return _pass_on(process.stdout)


def run(argv: list[str], work: Callable[[str, list[str]], None]) -> NoReturn:
    """PID 1 of the guest: ``work(folder of the floors or "", arguments)``, then power-off."""
    paths, modules, names, floors, *arguments = argv[argv.index(MARK) + 1 :]
    sys.dont_write_bytecode = True
    sys.path[:0] = paths.split(":")
    from hairpin.kernel.modules import Modules
    from hairpin.kernel.syscalls import RB_POWER_OFF, mount, reboot

    try:
        mount("none", "/proc", "proc")
        mount("none", "/sys", "sysfs")
        mount("none", "/run", "tmpfs")
        os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
        Modules(modules).load(*names.split(","))
        print(_BEGIN, flush=True)
        work("" if floors == "-" else floors, arguments)
        print(_END, flush=True)
    except BaseException:
        print(traceback.format_exc(), flush=True)
    finally:
        sys.stdout.flush()
        reboot(RB_POWER_OFF)
    raise AssertionError("the machine is off")


def _pass_on(lines: Iterable[str]) -> int:
    """Prints what the bench says, without what the kernel says before and after it."""
    earlier: list[str] = []
    speaking = ended = False
    for line in lines:
        if line.strip() in (_BEGIN, _END):
            speaking, ended = line.strip() == _BEGIN, line.strip() == _END
        elif speaking:
            print(line, end="", flush=True)
        else:
            earlier.append(line)
    if not ended:
        print("".join(earlier), end="", file=sys.stderr)
    return 0 if ended else 1


def wait_for_cleaning() -> None:
    """The kernel empties a namespace later, on the one CPU that the next trial wants too.

    Its worker's name has a + before what it is at (wq_worker_comm in kernel/workqueue.c).
    """
    until = time.monotonic() + _CLEANING
    quiet = 0
    while quiet < 3 and time.monotonic() < until:
        time.sleep(0.02)
        quiet = 0 if any(name.endswith("+netns") for name in _process_names()) else quiet + 1


def _process_names() -> Iterable[str]:
    for pid in os.listdir("/proc"):  # noqa: PTH208  # no pathlib in the guest: 70 ms to import
        if pid.isdigit():
            with suppress(OSError), open(f"/proc/{pid}/comm", encoding="ascii") as comm:
                yield comm.read().strip()
