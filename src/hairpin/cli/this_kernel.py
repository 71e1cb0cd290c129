"""The kernel that hairpin was started on, in the network namespace that it was started in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hairpin.lab.session import LabError

if TYPE_CHECKING:
    from hairpin.kernel.apply import Kernel
    from hairpin.kernel.iptables import Variant

HERE = ""
"""What that namespace is called."""
_NEEDED = {
    "ipvs": ("ipvs", "dummy", "ipset"),
    "iptables": (),
    "nftables": ("nft-nat-ip", "nft-nat-ip6"),
}
_IPTABLES = ("iptables", "iptables-legacy")  # one of them
_NAMES = {"ipvs": "IPVS"}


@contextmanager
def this_kernel(
    purpose: str, mode: str = "ipvs", variant: Variant | None = None
) -> Iterator[Kernel]:
    """The kernel, knowing its namespace as ``HERE``.

    ``purpose`` is what root is needed for, ``variant`` which iptables is meant (None: what holds
    Kubernetes' rules already, else the system's).  Raises LabError for an ordinary user and where
    the mode would lack something, OSError.
    """
    from hairpin.kernel import probe
    from hairpin.kernel.apply import Kernel
    from hairpin.kernel.netns import Netns

    if os.geteuid():
        raise LabError(f"{purpose} needs root", "run it with sudo")
    needed = _NEEDED[mode]
    able = {one.name: one for one in probe.attempt((*needed, *_IPTABLES))}
    lacking = [name for name in needed if not able[name].able]
    if mode != "nftables" and not any(able[name].able for name in _IPTABLES):
        lacking.append(_IPTABLES[0])
    if lacking:
        remedies = {row.name: row.remedy for row in probe.ABILITIES}
        said = ", ".join(f"{name} ({able[name].why})" for name in lacking)
        remedy = "; ".join(dict.fromkeys(remedies[name] for name in lacking))
        named = _NAMES.get(mode, mode)
        raise LabError(f"this kernel cannot do {named} mode: it lacks {said}", remedy)
    kernel = Kernel(legacy_iptables=not able["iptables"].able, iptables=variant)
    try:
        kernel.adopt(Netns.current(HERE))
        yield kernel
    finally:
        kernel.close()


@contextmanager
def any_kernel(purpose: str, variant: Variant | None = None) -> Iterator[Kernel]:
    """As ``this_kernel``, whatever the kernel can do.  Raises LabError for an ordinary user."""
    from hairpin.kernel.apply import Kernel
    from hairpin.kernel.netns import Netns

    if os.geteuid():
        raise LabError(f"{purpose} needs root", "run it with sudo")
    kernel = Kernel(iptables=variant)
    try:
        kernel.adopt(Netns.current(HERE))
        yield kernel
    finally:
        kernel.close()
