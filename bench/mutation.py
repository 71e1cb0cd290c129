"""How much of what can go wrong in a kernel ``hairpin audit`` finds.

What the real kube-proxy 1.36 programmed (tests/plan/kube-proxy-1.36) is changed in one thing at a
time, which is removed, added or altered by chance; the audit must find it and name whose it is.
The healthy kernel must have no finding.  Last come damages that a person did
(tests/audit/damages_*): each must be told as it is, and no oddity that is nobody's fault.

    bench/mutation.py --changes 10000
    bench/mutation.py --mode ipvs --seed 7 --changes 1000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from hairpin.audit.judge import report
from tests.audit.damage import Damage, judged, problems
from tests.audit.mutate import mutant
from tests.audit.play import ANY, MODES, Play, recorded
from tests.audit.test_damages import DAMAGES

_SHOWN = 20


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--changes", type=int, default=2000, help="in each mode")
    parser.add_argument("--mode", choices=MODES, help="one mode only")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    bad = 0
    for mode in (arguments.mode,) if arguments.mode else MODES:
        bad += _run(mode, arguments.changes, arguments.seed)
        bad += _damages(mode)
    return 1 if bad else 0


def _damages(mode: str) -> int:
    """How many are told otherwise than they should be."""
    some = [one for one in DAMAGES if one.mode == mode]
    wrong: list[Damage] = []
    for damage in some:
        with tempfile.TemporaryDirectory() as folder:
            odd = problems(damage, judged(damage, Path(folder)))
        if odd:
            wrong.append(damage)
            print(f"  {damage.name}: {'; '.join(odd)}")
    made = [one for one in some if one.told]
    clean = [one for one in some if not one.told and one.code == 0]
    print(
        f"    by hand: made {len(made)}, found {len(made) - sum(one in made for one in wrong)}; "
        f"oddities {len(clean)}, false alarms {sum(one in clean for one in wrong)}; not to be "
        f"judged {len(some) - len(made) - len(clean)}, wrong {len(wrong)}"
    )
    return len(wrong)


def _run(mode: str, changes: int, seed: int) -> int:
    case = recorded(mode)
    alarms = len(report(case).findings)
    play = Play(case, seed)
    made: Counter[tuple[str, str]] = Counter()
    missed: Counter[tuple[str, str]] = Counter()
    unnamed: Counter[tuple[str, str]] = Counter()
    began = time.perf_counter()
    for _ in range(changes):
        one = mutant(play)
        made[one.kind, one.verb] += 1
        findings = report(msgspec.structs.replace(case, held=one.held)).findings
        named = {name for each in findings for name in (each.owner, *each.shared)}
        if not findings:
            missed[one.kind, one.verb] += 1
        elif ANY not in one.owners and not named & one.owners:
            unnamed[one.kind, one.verb] += 1
        else:
            continue
        if sum((missed + unnamed).values()) <= _SHOWN:
            print(f"  {one.kind} {one.verb} {one.text}: {sorted(named)}, not {sorted(one.owners)}")
    took = (time.perf_counter() - began) / changes * 1000
    print(
        f"{mode}: made {changes}, found {changes - sum(missed.values())}, owner not named "
        f"{sum(unnamed.values())}, false alarms {alarms}; {took:.1f} ms each"
    )
    for (kind, verb), count in sorted(made.items()):
        print(f"    {kind:<16} {verb:<7} {count - missed[kind, verb]}/{count}")
    return sum(missed.values()) + sum(unnamed.values()) + alarms


if __name__ == "__main__":
    sys.exit(main())
