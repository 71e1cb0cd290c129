"""Bad input: one or two lines that name the object, the field and the remedy; exit code 2.

Nothing is left behind: no lab, no process, not even a folder of one.
"""

from pathlib import Path

import pytest

from tests.cli.command import Hairpin

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: foo%s}\nspec: {containers: [{name: a}]}\n"
NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: %s}\nspec: {podCIDR: %s}\n"
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: %s\n"
IP = ", annotations: {hairpin.dev/ip: %s}"

# what is wrong, the manifest, words that the answer must have
CASES = [
    ("not YAML", "a: [1\n", ["in.yaml:2:1", "not YAML"]),
    ("no object", "hello\n", ["in.yaml", "Kubernetes object"]),
    ("empty", "", ["in.yaml"]),
    (
        "wrong kind",
        "apiVersion: v1\nkind: Pdo\nmetadata: {name: x}\n",
        ["Pdo", "did you mean Pod?"],
    ),
    (
        "wrong apiVersion",
        POD.replace("v1", "v2") % "",
        ["Pod default/foo", "apiVersion", "expected v1"],
    ),
    (
        "missing field",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: foo}\n",
        ["Pod default/foo", "spec", "missing"],
    ),
    (
        "ill-typed field",
        SERVICE % '{ports: [{port: "80"}]}',
        ["Service default/web", "spec.ports[0].port", "without quotes"],
    ),
    ("port 0", SERVICE % "{ports: [{port: 0}]}", ["spec.ports[0].port", "1 to 65535"]),
    (
        "port 70000",
        SERVICE % "{ports: [{port: 70000}]}",
        ["Service default/web", "spec.ports[0].port", "70000", "1 to 65535"],
    ),
    ("duplicate name", POD % "" + "---\n" + POD % "", ["Pod default/foo", "already"]),
    (
        "duplicate Pod IP",
        POD % (IP % "10.244.0.9") + "---\n" + POD.replace("foo", "bar") % (IP % "10.244.0.9"),
        ["Pod default/", "10.244.0.9", "hairpin.dev/ip"],
    ),
    (
        "duplicate ClusterIP",
        SERVICE % "{clusterIP: 10.96.0.9, ports: [{port: 80}]}"
        + "---\n"
        + (SERVICE % "{clusterIP: 10.96.0.9, ports: [{port: 80}]}").replace("web", "api"),
        ["Service default/", "spec.clusterIP", "10.96.0.9"],
    ),
    (
        "duplicate port",
        SERVICE % "{ports: [{name: a, port: 80}, {name: b, port: 80}]}",
        ["Service default/web", "spec.ports[1]", "80"],
    ),
    (
        "IP outside of the Pod CIDR",
        POD % (IP % "1.2.3.4"),
        ["Pod default/foo", "1.2.3.4", "podCIDR", "10.244.0.0/24"],
    ),
    (
        "overlapping CIDRs",
        NODE % ("one", "10.96.3.0/24"),
        ["Node one", "spec.podCIDR", "10.96.0.0/16"],
    ),
    (
        "networks of Pods and nodes in each other's way",
        NODE % ("one", "192.168.0.0/16"),
        ["Node one", "spec.podCIDR", "the nodes' uplinks, 192.168.100.0/24"],
    ),
]


@pytest.fixture
def hairpin(tmp_path: Path) -> Hairpin:
    runtime = tmp_path / "run"
    runtime.mkdir()
    return Hairpin(runtime)


def _nothing_left(tmp_path: Path) -> bool:
    runtime = tmp_path / "run" / "hairpin"
    return not runtime.exists() or not any(runtime.iterdir())


@pytest.mark.parametrize(
    ("manifest", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_bad_manifest(hairpin: Hairpin, tmp_path: Path, manifest: str, words: list[str]) -> None:
    file = tmp_path / "in.yaml"
    file.write_text(manifest)
    ran = hairpin("up", "-f", str(file))
    assert ran.code == 2
    assert not ran.out
    assert 1 <= len(ran.err.splitlines()) <= 2, ran.err
    assert "Traceback" not in ran.err
    for word in words:
        assert word in ran.err, ran.err
    assert _nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["exec", "foo", "--", "true"], "hairpin up -f FILE"),
        (["get", "pods"], "hairpin up -f FILE"),
        (["apply", "-f", "{seed}"], "hairpin up -f FILE"),
        (["down"], "no lab is running"),
        (["set", "masquerade=off"], "hairpin up -f FILE"),
        (["up", "-f", "absent.yaml"], "absent.yaml"),
        (["nope"], "hairpin --help"),
        (["tuor"], "did you mean tour?"),
        (["get"], "pods"),
        (["get", "cars"], "virtualservers"),
        (["set", "masquerade"], "masquerade=on"),
        (["exec", "foo"], "-- COMMAND"),
        (["delete"], "hairpin delete pod NAME"),
        (["tour", "--step", "99"], "1 to 12"),
        (["tour"], "--auto"),
        (["down", "--", "x"], "--"),
    ],
)
def test_bad_command(hairpin: Hairpin, tmp_path: Path, words: list[str], said: str) -> None:
    from tests.cli.command import SEED

    ran = hairpin(*(word.format(seed=SEED) for word in words))
    assert ran.code == 2
    assert not ran.out
    assert said in ran.err
    assert len(ran.err.splitlines()) <= 3 and "Traceback" not in ran.err
    assert _nothing_left(tmp_path)


@pytest.mark.host
def test_guest_package_missing(hairpin: Hairpin, tmp_path: Path) -> None:
    """In a mount namespace in which the embedded kernel is not there."""
    import shutil
    import subprocess

    from tests.cli.command import SEED

    linux = shutil.which("linux.uml")
    if linux is None:
        pytest.skip("user-mode-linux is not installed: this is then seen by hand")
    hide = f'mount --bind /dev/null "{linux}" && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", hide, "sh", *hairpin.command, "up", "-f", SEED],
        capture_output=True,
        text=True,
        env=hairpin.env,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "apt-get install user-mode-linux" in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert _nothing_left(tmp_path)
