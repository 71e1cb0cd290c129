"""The order in which kernel modules are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from hairpin.kernel.errors import KernelError
from hairpin.kernel.modules import Modules, load_order

DEP = """\
kernel/net/a/one-two.ko: kernel/net/b/three.ko kernel/lib/four.ko
kernel/net/b/three.ko: kernel/lib/four.ko
kernel/lib/four.ko:
kernel/net/xt_MARK.ko.xz: kernel/net/b/three.ko kernel/lib/four.ko
"""
UML = Path("/usr/lib/uml/modules")


def test_what_is_needed_comes_first_and_once() -> None:
    assert load_order(DEP, ["one_two", "xt-MARK", "four"]) == [
        "kernel/lib/four.ko",
        "kernel/net/b/three.ko",
        "kernel/net/a/one-two.ko",
        "kernel/net/xt_MARK.ko.xz",
    ]


def test_missing_modules_are_all_named() -> None:
    with pytest.raises(KernelError, match=r"ENOENT.*no kernel module two, hree"):
        load_order(DEP, ["one-two", "two", "hree"])


def test_the_embedded_kernels_modules_need_nothing_that_comes_later() -> None:
    found = list(UML.glob("*/modules.dep"))
    if not found:
        pytest.skip("user-mode-linux is not installed")
    text = found[0].read_text()
    needs = dict(line.split(":", 1) for line in text.splitlines())
    order = load_order(text, [Path(path).stem for path in needs])
    assert sorted(order) == sorted(needs)
    place = {path: number for number, path in enumerate(order)}
    for path, needed in needs.items():
        assert all(place[other] < place[path] for other in needed.split())


def test_a_module_built_in_needs_no_loading(tmp_path: Path) -> None:
    (tmp_path / "modules.builtin").write_text("kernel/net/core/built-in.ko\n")
    Modules(str(tmp_path)).load("built_in")
    with pytest.raises(KernelError, match=r"has no modules\.dep"):
        Modules(str(tmp_path)).load("other")
