"""What a person does to a node, done to the texts that were collected of it.

A Damage is edits of the dumps of ``tests/plan/kube-proxy-1.36``, and what the audit must say of
them: findings, of which each names what, whose and which thing; or that nothing is wrong; or that
it could not judge.  Written without looking at how the audit works.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from hairpin.audit.dump import held
from hairpin.audit.held import FILES
from hairpin.audit.judge import case_of, report
from hairpin.audit.report import Report
from hairpin.audit.text import as_json
from hairpin.cli.collect import folder
from hairpin.model.configuration import KubeProxyConfiguration
from hairpin.model.snapshot import Snapshot
from hairpin.plan.node import node_facts
from hairpin.source.configuration import load as load_configuration
from hairpin.source.manifests import load
from tests.audit.play import RECORDED

SERVERS, SETS, RULES, RULES6 = (
    FILES["ipvs"],
    FILES["ipset"],
    FILES["iptables"],
    FILES["ip6tables"],
)
RULESET, ADDRESSES, SETTINGS, FLOWS = (
    FILES["nftables"],
    FILES["addresses"],
    FILES["settings"],
    FILES["conntrack"],
)

Edit = Callable[[Path], object]

MISSING, WRONG, EXTRA = ("missing",), ("wrong",), ("extra",)
LEFTOVER, STALE = ("leftover",), ("stale",)


class Told(NamedTuple):
    """A finding: one of these words, whose owner has this in it, and whose subject that."""

    whats: Collection[str]
    owner: str
    subject: str = ""


class Damage(NamedTuple):
    """``told`` empty: the node is clean.  ``code`` is what the audit ends with."""

    name: str
    mode: str
    edits: tuple[Edit, ...]
    told: tuple[Told, ...] = ()
    code: int = 0
    note: str = ""
    config: tuple[str, str] | None = None


def found(
    name: str,
    mode: str,
    told: Told | tuple[Told, ...],
    *edits: Edit,
    config: tuple[str, str] | None = None,
) -> Damage:
    """A damage that must be found."""
    all_of = told if not isinstance(told, Told) else (told,)
    return Damage(name, mode, edits, all_of, code=1, config=config)


def clean(name: str, mode: str, *edits: Edit, config: tuple[str, str] | None = None) -> Damage:
    """An oddity that is nobody's fault."""
    return Damage(name, mode, edits, config=config)


def noted(name: str, mode: str, note: str, *edits: Edit) -> Damage:
    """A setting of the node."""
    return Damage(name, mode, edits, note=note)


def unjudged(name: str, mode: str, *edits: Edit) -> Damage:
    """A folder that does not hold what is needed."""
    return Damage(name, mode, edits, code=2)


def judged(damage: Damage, path: Path) -> Report:
    """What the audit says of it.  Raises ManifestError for a folder without any dump."""
    copy = Path(shutil.copytree(RECORDED / damage.mode, path / "dump"))
    for edit in damage.edits:
        edit(copy)
    seen = held(folder(copy))
    own = [one.ip for one in seen.addresses if one.link != "kube-ipvs0"]
    snapshot = _snapshot()
    facts = node_facts("node1", snapshot.nodes["", "node1"], own)
    return report(case_of(snapshot, _config(damage, path), facts, seen))


def problems(damage: Damage, report: Report) -> list[str]:
    """In what the audit's words are not those that are wanted."""
    shown = as_json(report)
    findings: list[dict[str, Any]] = shown["findings"]
    said = [f"{one['what']} | {one['owner']} | {one['subject']}" for one in findings]
    wrong = []
    if report.exit_code != damage.code:
        wrong.append(f"exit code {report.exit_code}, not {damage.code}: {said}")
    for told in damage.told:
        if not any(_is(told, one) for one in findings):
            wrong.append(f"nothing like {told} in {said}")
    if damage.note and not any(damage.note in one["subject"] for one in shown["notes"]):
        wrong.append(f"no note on {damage.note}: {shown['notes']}")
    for one in findings:
        if not one["consequence"].endswith(".") or not one["mend"]:
            wrong.append(f"no consequence or no mend: {one}")
    return wrong


def _is(told: Told, one: dict[str, Any]) -> bool:
    owners = json.dumps([one["owner"], one["shared"]])
    return one["what"] in told.whats and told.owner in owners and told.subject in one["subject"]


@cache
def _snapshot() -> Snapshot:
    names = ("node.yaml", "services.yaml", "endpointslices.yaml")
    return Snapshot(load([str(RECORDED / "input" / one) for one in names], whole=True).objects)


def _config(damage: Damage, path: Path) -> KubeProxyConfiguration:
    text = (RECORDED / "input" / f"kube-proxy-config.{damage.mode}.yaml").read_text()
    if damage.config is not None:
        assert damage.config[0] in text
        text = text.replace(*damage.config)
    (path / "config.yaml").write_text(text)
    return load_configuration(str(path / "config.yaml"))


# Edits of text


def swap(file: str, old: str, new: str, count: int = 1) -> Edit:
    """Other words for these; count -1 for everywhere."""

    def edit(path: Path) -> None:
        text = (path / file).read_text()
        assert old in text, old
        (path / file).write_text(text.replace(old, new, count))

    return edit


def sub(file: str, pattern: str, new: str, count: int = 1) -> Edit:
    """As ``swap`` by a pattern, ^ and $ being ends of lines; count 0 for everywhere."""

    def edit(path: Path) -> None:
        text, number = re.subn(pattern, new, (path / file).read_text(), count=count, flags=re.M)
        assert number, pattern
        (path / file).write_text(text)

    return edit


def drop(file: str, pattern: str) -> Edit:
    """Without the lines in which the pattern is."""

    def edit(path: Path) -> None:
        lines = (path / file).read_text().splitlines(keepends=True)
        kept = [line for line in lines if not re.search(pattern, line)]
        assert len(kept) < len(lines), pattern
        (path / file).write_text("".join(kept))

    return edit


def before(file: str, pattern: str, new: str, table: str = "") -> Edit:
    """A line before the first one in which the pattern is, of an iptables table or of all."""

    def edit(path: Path) -> None:
        lines = (path / file).read_text().splitlines(keepends=True)
        start = lines.index(f"*{table}\n") if table else 0
        at = next(at for at in range(start, len(lines)) if re.search(pattern, lines[at]))
        lines.insert(at, f"{new}\n")
        (path / file).write_text("".join(lines))

    return edit


def moved(file: str, pattern: str, anchor: str) -> Edit:
    """A line to before another one."""

    def edit(path: Path) -> None:
        lines = (path / file).read_text().splitlines(keepends=True)
        line = lines.pop(next(at for at, one in enumerate(lines) if re.search(pattern, one)))
        lines.insert(next(at for at, one in enumerate(lines) if re.search(anchor, one)), line)
        (path / file).write_text("".join(lines))

    return edit


def text(file: str, change: Callable[[str], str]) -> Edit:
    """What a function makes of it; of a file that is not there, of nothing."""

    def edit(path: Path) -> None:
        old = (path / file).read_text() if (path / file).exists() else ""
        (path / file).write_text(change(old))

    return edit


def written(file: str, new: str) -> Edit:
    return text(file, lambda _: new)


def appended(file: str, new: str) -> Edit:
    return text(file, lambda old: old + new)


def absent(file: str) -> Edit:
    return lambda path: (path / file).unlink()


def shape(file: str, change: Callable[[Any], object]) -> Edit:
    """What a function makes of the JSON that it holds, in place."""

    def edit(path: Path) -> None:
        value = json.loads((path / file).read_text())
        change(value)
        (path / file).write_text(json.dumps(value))

    return edit


def beside(mode: str, *files: str) -> Edit:
    """What was collected of a node in another mode."""

    def edit(path: Path) -> None:
        for file in files:
            shutil.copy(RECORDED / mode / file, path / file)

    return edit
