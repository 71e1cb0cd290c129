"""PID 1 of a throw-away guest: loads modules, runs the functions of check modules, powers off.

Run by the guest as ``python3 -ISE guest_init.py SYS_PATH MODULES_DIR CHECK_MODULES``, SYS_PATH
and modules joined by colons.  Prints one line for each ``check_*`` function, then ``END``.
Functions called ``before_*`` run before IPVS is loaded; modules that the variable MORE_MODULES
names, joined by colons, are loaded after it.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from importlib import import_module
from types import ModuleType

NETFILTER = [
    *("veth", "bridge", "dummy", "ipv6", "sctp", "nf_conntrack", "nf_conntrack_netlink"),
    *("iptable_filter", "iptable_nat", "xt_comment", "xt_MASQUERADE", "xt_tcpudp"),
    *("iptable_mangle", "xt_mark"),
    # Without it each access to iptables makes the kernel run modprobe for it: 33 ms, four times
    # for one iptables-restore (bpfilter_mbox_request in net/ipv4/bpfilter/sockopt.c).
    "bpfilter",
]


def run(checks: ModuleType, prefix: str) -> None:
    for name in sorted(name for name in vars(checks) if name.startswith(prefix)):
        start = time.monotonic()
        try:
            getattr(checks, name)()
            say(f"ok {name} {time.monotonic() - start:.3f}")
        except BaseException:
            say(f"FAILED {name}\n{traceback.format_exc()}")


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def main() -> None:
    sys.dont_write_bytecode = True
    sys.path[:0] = sys.argv[1].split(":")
    from hairpin.kernel.modules import Modules
    from hairpin.kernel.syscalls import RB_POWER_OFF, mount, reboot
    from hairpin.state.ipvs import SCHEDULERS

    try:
        mount("none", "/proc", "proc")
        mount("none", "/sys", "sysfs")
        mount("none", "/run", "tmpfs")
        os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
        modules = Modules(sys.argv[2])
        modules.load(*NETFILTER)
        checks = [import_module(name) for name in sys.argv[3].split(":")]
        for module in checks:
            run(module, "before_")
            vars(module).update(MODULES=modules, MODULE_FOLDER=sys.argv[2])
        for name in ("ip_vs", "ip_vs_pe_sip", *(f"ip_vs_{scheduler}" for scheduler in SCHEDULERS)):
            try:
                modules.load(name)
            except OSError as error:
                say(f"note {error}")
        modules.load(*filter(None, os.environ.get("MORE_MODULES", "").split(":")))
        for module in checks:
            run(module, "check_")
        say("END")
    except BaseException:
        say(traceback.format_exc())
    finally:
        reboot(RB_POWER_OFF)


if __name__ == "__main__":
    main()
