"""Reading: files, folders, standard input, Lists, and what is passed over."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from hairpin.model.errors import ManifestError
from hairpin.source import documents as reading
from hairpin.source.documents import documents
from hairpin.source.manifests import load

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {containers: [{name: c}]}\n"
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"


def names(*paths: Path | str, stdin: str | None = None) -> list[str]:
    source = None if stdin is None else io.StringIO(stdin)
    return [str(thing.ref) for thing in load([str(path) for path in paths], stdin=source).objects]


def complaint(*paths: Path | str, stdin: str | None = None, strict: bool = False) -> str:
    with pytest.raises(ManifestError) as caught:
        source = None if stdin is None else io.StringIO(stdin)
        load([str(path) for path in paths], stdin=source, strict=strict)
    return str(caught.value)


def test_files_folders_and_stdin_in_one_call(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(POD % "one")
    folder = tmp_path / "folder"
    (folder / "deeper").mkdir(parents=True)
    (folder / "b.yml").write_text(POD % "b")
    (folder / "a.json").write_text(
        '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"},'
        ' "spec": {"containers": [{"name": "c"}]}}'
    )
    (folder / "empty.yaml").write_text("# nothing yet\n")
    (folder / "notes.txt").write_text("not: [yaml")
    (folder / "deeper" / "c.yaml").write_text(POD % "c")
    (folder / "deeper.yaml").mkdir()
    assert names("-", tmp_path / "one.yaml", folder, stdin=POD % "in") == [
        "Pod default/in",
        "Pod default/one",
        "Pod default/a",
        "Pod default/b",
    ]


def test_every_object_remembers_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(f"# first\n\n{POD % 'a'}---\n{POD % 'b'}")
    alone = tmp_path / "g.yaml"
    items = [{"metadata": {"name": n}, "spec": {"containers": [{"name": "c"}]}} for n in "cd"]
    alone.write_text(json.dumps({"apiVersion": "v1", "kind": "PodList", "items": items}))
    assert load([str(file), str(alone)]).where == {
        "Pod default/a": f"{file}:3",
        "Pod default/b": f"{file}:8",
        "Pod default/c": f"{alone} items[0]",
        "Pod default/d": f"{alone} items[1]",
    }


def test_lists_of_lists_and_typed_lists() -> None:
    text = """
        apiVersion: v1
        kind: List
        items:
        - apiVersion: v1
          kind: List
          items:
          - {apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c}]}}
        - apiVersion: apps/v1
          kind: DeploymentList
          items: []
        - apiVersion: v1
          kind: PodList
          items:
          - {metadata: {name: b, namespace: other}, spec: {containers: [{name: c}]}}
        - {apiVersion: v1, kind: Namespace, metadata: {name: other}}
        """
    assert names("-", stdin=text) == ["Pod default/a", "Pod other/b"]


def test_json_one_after_the_other() -> None:
    one = '{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "%s"}}\n'
    loaded = load(["-"], stdin=io.StringIO(one % "a" + one % "b"))
    assert loaded.where == {"Namespace a": "stdin:1", "Namespace b": "stdin:2"}


def test_kinds_without_meaning_are_named_once() -> None:
    text = "---\n".join(
        [
            CONFIG,
            CONFIG,
            POD % "a",
            "apiVersion: serving.knative.dev/v1\nkind: Service\n",
            "apiVersion: apps/v1\nkind: StatefulSet\n",
            "apiVersion: networking.k8s.io/v1\nkind: Ingress\n",
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1}\n"
            "addressType: FQDN\nendpoints: [{addresses: [example.com]}]\n",
        ]
    )
    assert load(["-"], stdin=io.StringIO(text)).warnings == (
        "skipped 2 ConfigMap: hairpin has no use for it",
        "skipped 1 EndpointSlice of addressType FQDN: proxies pass over it",
        "skipped 1 Ingress: hairpin has no use for it",
        "skipped 1 Service (serving.knative.dev/v1): hairpin has no use for it",
        "skipped 1 StatefulSet: hairpin runs Pods and Deployments",
    )
    assert complaint("-", stdin=text, strict=True) == (
        "stdin:1: ConfigMap: hairpin has no use for it"
    )


def test_fields_without_effect_are_named() -> None:
    spec = (
        "spec: {initContainers: [{name: i}], volumes: [], containers: [{name: c, resources: {}}]}"
    )
    text = "---\n".join((POD % name).replace("spec: {", "#") + spec + "\n" for name in "ab")
    assert load(["-"], stdin=io.StringIO(text)).warnings == (
        "Pod default/a and 1 more: spec.initContainers is passed over",
    )
    assert complaint("-", stdin=text, strict=True) == (
        "stdin:1: Pod default/a: spec.initContainers: hairpin passes over this field"
    )


def test_what_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.yaml"
    assert complaint(missing) == f"{missing}: cannot be read: no such file or directory"
    assert complaint("a\0b") == "a\N{REPLACEMENT CHARACTER}b: cannot be read: embedded null byte"
    assert complaint(tmp_path) == (
        f"{tmp_path}: holds no .yaml, .yml, .json file\n  folders inside of it are not read"
    )
    assert complaint("-") == "stdin: cannot be read: there is no standard input"
    assert complaint("-", "-", stdin="") == "-: can be read only once"
    assert complaint("/dev/zero") == "/dev/zero: larger than 64 MiB"
    broken = tmp_path / "broken.json"
    broken.write_text('{"kind": "Pod",\n "spec" 5}')
    assert complaint(broken) == f"{broken}:2:9: not JSON: Expecting ':' delimiter"


def test_a_byte_order_mark_is_no_matter() -> None:
    assert documents("\ufeffa: 1".encode(), "f")[0].value == {"a": 1}


PLAIN = {
    "text": "text",
    "'8080'": "8080",
    '"on"': "on",
    "8080": 8080,
    "-1": -1,
    "0": 0,
    "0x1f90": 8080,
    "0o17": 15,
    "0b101": 5,
    "1_000": 1000,
    "1.5": 1.5,
    "1e3": 1000,
    "yes": True,
    "Off": False,
    "true": True,
    "~": None,
    "null": None,
    "2026-01-01": "2026-01-01",
    "12:30": "12:30",
    "08:00": "08:00",
    "192.0.2.1": "192.0.2.1",
    "10.0.0.0/8": "10.0.0.0/8",
    "v1": "v1",
    ".inf": ".inf",
    "-": None,
    "!!str 8080": "8080",
    "1" * 41: "1" * 41,
}


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("text", "value"), PLAIN.items())
def test_plain_values(
    text: str, value: object, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fast and not reading.HAS_LIBYAML:
        pytest.skip("PyYAML without libyaml")
    monkeypatch.setattr(reading, "HAS_LIBYAML", fast)
    if text == "-":
        assert documents(b"a: [~]\n", "f")[0].value == {"a": [None]}
        return
    (found,) = documents(f"a: {text}\nb: &x [{text}]\nc: *x\n".encode(), "f")
    assert found.value == {"a": value, "b": [value], "c": [value]}
    assert type(found.value["a"]) is type(value)


@pytest.mark.parametrize("fast", [True, False])
def test_merge_keys(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "HAS_LIBYAML", fast and reading.HAS_LIBYAML)
    text = b"base: &b {p: 1, q: 2}\none: {<<: *b, q: 3}\ntwo: {<<: [{q: 9}, *b]}\n"
    (found,) = documents(text, "f")
    assert found.value["one"] == {"p": 1, "q": 3}
    assert found.value["two"] == {"p": 1, "q": 9}


def test_without_libyaml_errors_have_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "HAS_LIBYAML", False)
    for text, place in (
        (b"a: b: c", "f:1:5"),
        (b"a: \x01", "f:1:4"),
        (b"[" * 500, "f:1:100"),
        (b"a: *b", "f:1:4"),
    ):
        with pytest.raises(ManifestError) as caught:
            documents(text, "f")
        assert caught.value.where == place
