"""ipset, chains, conntrack and whole tables: checks that need the embedded kernel."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.kernel.test_guest import HERE, boot

CHECKS = ("guest_ipset", "guest_chains", "guest_conntrack", "guest_tables")
WITNESSES = ("ipset", "iptables-legacy", "ip6tables-legacy", "conntrack", "ipvsadm")
MODULES = (
    "ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip", "ip_set_hash_ipportnet",
    "ip_set_bitmap_port", "xt_set", "xt_ipvs", "xt_conntrack", "xt_addrtype", "xt_physdev",
    "ipt_REJECT", "ip6t_REJECT", "ip6table_filter", "ip6table_nat",
)  # fmt: skip


@pytest.mark.guest
@pytest.mark.parametrize("checks", CHECKS)
def test_in_the_guest(checks: str) -> None:
    modules = next(Path("/usr/lib/uml/modules").glob("*"), None)
    if modules is None or shutil.which("linux.uml") is None:
        pytest.skip("user-mode-linux is not installed")
    missing = [one for one in WITNESSES if shutil.which(one, path="/usr/sbin:/sbin") is None]
    if missing:
        pytest.skip(f"{', '.join(missing)}, the witness, is not installed")
    words = (f"MORE_MODULES={':'.join(MODULES)}",)
    with tempfile.TemporaryDirectory() as folder:
        said = boot(modules, f"tests.kernel.{checks}", folder, words=words)
    source = (HERE / f"{checks}.py").read_text()
    wanted = set(re.findall(r"^def (check_\w+)", source, re.MULTILINE))
    assert set(re.findall(r"^ok (\w+)", said, re.MULTILINE)) == wanted, said
    assert "END" in said.split(), said
