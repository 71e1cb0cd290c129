"""The kernel that hairpin was started on, in the network namespace that it was started in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hairpin.lab.session import LabError

if TYPE_CHECKING:
    from hairpin.kernel.apply import Kernel

HERE = ""
"""What that namespace is called."""
_NEEDED = ("ipvs", "dummy", "ipset")
_IPTABLES = ("iptables", "iptables-legacy")  # one of them


@contextmanager
def this_kernel(purpose: str) -> Iterator[Kernel]:
    """The kernel, knowing its namespace as ``HERE``.

    ``purpose`` is what root is needed for.  Raises LabError for an ordinary user and where IPVS
    mode would lack something, OSError.
    """
    from hairpin.kernel import probe
    from hairpin.kernel.apply import Kernel
    from hairpin.kernel.netns import Netns

    if os.geteuid():
        raise LabError(f"{purpose} needs root", "run it with sudo")
    able = {one.name: one for one in probe.attempt((*_NEEDED, *_IPTABLES))}
    lacking = [name for name in _NEEDED if not able[name].able]
    if not any(able[name].able for name in _IPTABLES):
        lacking.append(_IPTABLES[0])
    if lacking:
        remedies = {row.name: row.remedy for row in probe.ABILITIES}
        said = ", ".join(f"{name} ({able[name].why})" for name in lacking)
        remedy = "; ".join(dict.fromkeys(remedies[name] for name in lacking))
        raise LabError(f"this kernel cannot do IPVS mode: it lacks {said}", remedy)
    kernel = Kernel(legacy_iptables=not able["iptables"].able)
    try:
        kernel.adopt(Netns.current(HERE))
        yield kernel
    finally:
        kernel.close()
