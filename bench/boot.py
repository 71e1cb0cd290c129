"""How long the guest takes until it answers, against the barest boot; and the command's start.

    python bench/boot.py [rounds]

Bare: linux.uml with the same kernel arguments and pinned alike, until ``python3 -ISE`` as its
init has printed a line.  Guest: from the exec of linux.uml until the lab process has answered
the keeper's ping.  Host: the same for a World on the host's kernel, against one bare start of the
interpreter.  In turns, medians.  Targets: guest <= 2.5 x bare; host <= 10 x ``python -ISE -c
pass``; ``hairpin --help`` <= 3 x ``python -c pass`` with the same interpreter.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hairpin.world import lifecycle
from hairpin.world.choice import find_guest

_LINE = b"bare boot is up"
_INIT = f"""
import os
os.write(1, b"{_LINE.decode()}\\n")
import ctypes
ctypes.CDLL(None).reboot(0x4321FEDC)
"""


def bare() -> float:
    """Seconds from the exec of linux.uml until python, its init, has printed."""
    guest = find_guest()
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "init.py")
        script.write_text(_INIT)
        Path(folder, "uml").mkdir()
        command = [
            guest.linux, *lifecycle.kernel_arguments(Path(folder)),
            f"init={guest.python}", "--", "-ISE", str(script),
        ]  # fmt: skip
        started = time.monotonic()
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"TMPDIR": guest.tmpdir, "PATH": os.environ["PATH"]},
        ) as process:
            assert process.stdout
            for line in process.stdout:
                if _LINE in line:
                    return time.monotonic() - started
    raise RuntimeError("the bare boot printed nothing")


def guest() -> float:
    """Seconds from the exec of linux.uml until the lab process has answered a ping."""
    lines: list[str] = []
    owner = lifecycle.start(f"bench-{os.getpid()}", "guest", lines.append)[1]
    owner.close()
    return float(re.findall(r"after ([\d.]+) s", lines[-1])[0])


def host() -> float:
    """Seconds from the start of PID 1 on this kernel until the lab process has answered."""
    lines: list[str] = []
    owner = lifecycle.start(f"bench-{os.getpid()}", "host", lines.append)[1]
    owner.close()
    return float(re.findall(r"after ([\d.]+) s", lines[-1])[0])


def command(*arguments: str) -> float:
    """Seconds of one run of this interpreter."""
    started = time.monotonic()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def report(what: str, tried: list[float], against: list[float], most: float) -> None:
    ratio = statistics.median(tried) / statistics.median(against)
    print(
        f"{what}: {statistics.median(tried) * 1000:.0f} ms (best {min(tried) * 1000:.0f}), against "
        f"{statistics.median(against) * 1000:.0f} ms (best {min(against) * 1000:.0f}): "
        f"ratio {ratio:.2f}, target {most}: {'met' if ratio <= most else 'MISSED'}"
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    # All on one CPU, as every guest is: it takes one of the CPUs of whoever starts it.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pairs = [(bare(), guest()) for _ in range(rounds)]
    report("guest answers", [g for _, g in pairs], [b for b, _ in pairs], 2.5)
    hosts = [(command("-ISE", "-c", "pass"), host()) for _ in range(rounds)]
    report("World on the host's kernel answers", [h for _, h in hosts], [p for p, _ in hosts], 10)
    script = Path(sys.executable).with_name("hairpin")
    runs = [(command("-c", "pass"), command(str(script), "--help")) for _ in range(3 * rounds)]
    report("hairpin --help", [h for _, h in runs], [p for p, _ in runs], 3)


if __name__ == "__main__":
    main()
