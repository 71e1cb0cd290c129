"""Several labs at once, and the verbs about labs and kernels, as a person runs them."""

from __future__ import annotations

import json
import platform
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hairpin import __version__
from tests.cli.command import WEB, Hairpin


@pytest.mark.host
@pytest.mark.guest
def test_two_labs_in_different_worlds_and_ten_commands_at_once(tmp_path: Path) -> None:
    hairpin = Hairpin(tmp_path)
    kernels = {"one": "host", "two": "guest"}

    def up(name: str) -> str:
        return hairpin.ok("up", "-f", WEB, "--lab", name, "--kernel", kernels[name])

    try:
        with ThreadPoolExecutor(10) as pool:
            said = dict(zip(kernels, pool.map(up, kernels), strict=True))
            assert "this machine's kernel (as asked for)" in said["one"]
            assert "embedded kernel (as asked for)" in said["two"]

            def use(number: int) -> tuple[str, str]:
                name = ("one", "two")[number % 2]
                script = f"echo {number} && uname -r && cat /tmp/x 2>/dev/null; echo {name} >/tmp/x"
                return name, hairpin.ok("exec", "--lab", name, "client", "--", "sh", "-c", script)

            for number, (name, output) in enumerate(pool.map(use, range(10))):
                lines = output.split()
                assert lines[0] == str(number)
                assert (lines[1] == platform.release()) == (kernels[name] == "host")
                assert set(lines[2:]) <= {name}, "one lab's file is not the other's"
        labs = json.loads(hairpin.ok("ls", "-o", "json"))["labs"]
        assert [(lab["name"], lab["kernel"], lab["state"]) for lab in labs] == [
            ("one", "host", "Running"),
            ("two", "guest", "Running"),
        ]
        assert all(lab["nodes"] == 1 and lab["pods"] >= 3 for lab in labs)
        assert re.search(r"^one +host +Running +1 +\d+ +\d+s$", hairpin.ok("ls"), re.MULTILINE)
        again = hairpin("up", "-f", WEB, "--lab", "one")
        assert again.code == 2
        assert 'a lab named "one" is running already' in again.err
        assert "hairpin down --lab one" in again.err
        hairpin.ok("down", "--lab", "one")
        other = hairpin("get", "pods")
        assert other.code == 2
        assert "running: two (--lab NAME)" in other.err
        hairpin.ok("get", "pods", "--lab", "two")
    finally:
        for name in kernels:
            hairpin("down", "--lab", name)
    assert hairpin.ok("ls") == "no labs are running\n"
    assert list((tmp_path / "hairpin").iterdir()) == []


@pytest.mark.host
def test_services_that_cannot_be_served_are_said(tmp_path: Path) -> None:
    hairpin = Hairpin(tmp_path)
    ran = hairpin("up", "-f", WEB, "--kernel", "host")
    try:
        assert ran.code == 0
        served = "warning: Services are not served" not in ran.err
        told = hairpin.ok("describe", "svc", "web")
        assert ("In the kernel: nothing:" in told) == (not served)
        assert hairpin.ok("exec", "client", "--", "getent", "hosts", "web").endswith(
            "web.default.svc.cluster.local\n"
        )
        address = hairpin.ok("get", "pod", "web-a", "-o", "json")
        ip = json.loads(address)["status"]["podIP"]
        answer = hairpin.ok("exec", "client", "--", "curl", "-sm5", f"http://{ip}:8080")
        assert '"pod": "web-a"' in answer
    finally:
        hairpin("down")


def test_bad_names_of_labs_are_refused(tmp_path: Path) -> None:
    ran = Hairpin(tmp_path)("get", "pods", "--lab", "../up")
    assert ran.code == 2
    assert '"../up" is not a name for a lab' in ran.err


@pytest.mark.host
@pytest.mark.guest
def test_the_table_of_kernels(tmp_path: Path) -> None:
    hairpin = Hairpin(tmp_path)
    shown = json.loads(hairpin.ok("kernel", "-o", "json"))
    assert set(shown) == {"host", "guest", "auto", "abilities"}
    assert shown["host"] == {"release": platform.release(), "error": None}
    assert shown["guest"]["release"] != platform.release()
    rows = {one["name"]: one for one in shown["abilities"]}
    for one in rows.values():
        assert set(one) == {"name", "purpose", "host", "guest", "remedy", "partOf"}
        assert one["host"]["able"] == (one["host"]["why"] == "")
    assert rows["ipvs"]["guest"] == {"able": True, "why": ""}
    lacking = [name for name in ("ipvs", "dummy") if not rows[name]["host"]["able"]]
    assert (shown["auto"]["kernel"] == "guest") >= bool(lacking)
    text = hairpin.ok("kernel")
    for name in lacking:
        assert re.search(rf"^{name} +no +yes +", text, re.MULTILINE)
        assert re.search(rf"^  {name} +modprobe ", text, re.MULTILINE)
    assert "\033" not in text
    assert hairpin.ok("ls") == "no labs are running\n"


def test_the_version_is_what_a_report_needs(tmp_path: Path) -> None:
    hairpin = Hairpin(tmp_path)
    assert hairpin.ok("version", "--short") == f"hairpin {__version__}\n"
    text = hairpin.ok("version")
    assert text.startswith(f"hairpin {__version__}\n")
    found = json.loads(hairpin.ok("version", "-o", "json"))
    assert found["hairpin"] == __version__
    assert found["python"] == platform.python_version()
    assert found["kernel"] == platform.release()
    assert found["labs"] == []
    assert "ip" in found["tools"]
    for line in ("python", "system", "kernel", "guest", "tools", "labs"):
        assert re.search(rf"^{line} +\S", text, re.MULTILINE)
