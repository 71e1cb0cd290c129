"""kubectl's habits: kinds, names, labels, namespaces, forms; apply and delete say the truth."""

import json
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.cli.command import Hairpin

pytestmark = pytest.mark.guest

POD = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: {run: %s}}\n"
    "spec: {containers: [{name: a, command: [sleep, infinity]}]}\n---\n"
)


def _names(shared: Hairpin, *words: str) -> set[str]:
    return set(shared.ok("get", *words, "-o", "name").split())


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["po"], {"pod/client", "pod/web-0", "pod/web-1"}),
        (["pods", "-n", "other"], {"pod/far"}),
        (["svc"], {"service/web"}),
        (["deploy"], {"deployment.apps/web"}),
        (["no"], {"node/node"}),
        (["pods,svc", "web-0"], set()),
        (["svc,deploy"], {"service/web", "deployment.apps/web"}),
        (["pod/client", "svc/web"], {"pod/client", "service/web"}),
        (["pod", "web-1", "client"], {"pod/client", "pod/web-1"}),
        (["pods", "-l", "app=web"], {"pod/web-0", "pod/web-1"}),
        (["pods", "-l", "tier!=front"], {"pod/client"}),
        (["pods", "-A", "-l", "app in (far, client)"], {"pod/client", "pod/far"}),
        (["pods", "-l", "!tier"], {"pod/client"}),
        (
            ["all", "-l", "app=web"],
            {"pod/web-0", "pod/web-1", "service/web", "deployment.apps/web"},
        ),
        (["vs", "10.96.7.7:80"], {"virtualserver/10.96.7.7:80"}),
    ],
)
def test_what_is_asked_for_is_shown(shared: Hairpin, words: list[str], names: set[str]) -> None:
    if not names:
        ran = shared("get", *words)
        assert ran.code == 2 and "among the services" in ran.err
        return
    assert _names(shared, *words) == names


def test_every_namespace_has_its_column(shared: Hairpin) -> None:
    rows = [line.split() for line in shared.ok("get", "pods", "-A").splitlines()]
    assert rows[0][:2] == ["NAMESPACE", "NAME"]
    assert ["other", "far"] in [row[:2] for row in rows]
    assert {"namespace/default", "namespace/other"} <= _names(shared, "ns")
    assert shared.ok("-n", "other", "get", "pods", "--no-headers").split()[0] == "far"


def test_headings_labels_and_several_kinds(shared: Hairpin) -> None:
    lines = shared.ok("get", "pods", "--show-labels", "--no-headers").splitlines()
    assert [line.split()[-1] for line in lines] == ["app=client", *["app=web,tier=front"] * 2]
    both = shared.ok("get", "deploy,svc")
    assert "deployment.apps/web   2/2" in both and "\n\nNAME" in both
    assert "service/web   ClusterIP" in both


def test_nothing_found_is_no_error_and_no_output(shared: Hairpin) -> None:
    ran = shared("get", "pods", "-l", "app=nobody")
    assert (ran.code, ran.out) == (0, "")
    assert "no pods in namespace default with app=nobody" in ran.err
    assert json.loads(shared.ok("get", "pods", "-n", "nowhere", "-o", "json"))["items"] == []
    assert shared("get", "pod", "nobody", "--ignore-not-found") == (0, "", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["get", "pods", "-l", "app in web"], "( expected"),
        (["get", "vs", "-l", "app=web"], "no labels"),
        (["get", "pods", "client", "-A"], "-A do not go together"),
        (["get", "pods", "client", "-l", "app=web"], "-l do not go together"),
        (["get", "pods,svc", "-w"], "one kind"),
        (["get", "pods/client", "web"], "KIND/NAME"),
        (["get", "pods", "-o", "jsn"], "invalid choice"),
        (["get", "pods", "--colour"], "see: hairpin get --help"),
        (["describe", "vs"], "describe knows"),
        (["delete", "pods"], "--all"),
        (["delete", "pods", "client", "--all"], "leave one out"),
        (["delete", "vs", "--all"], "not objects"),
        (["logs", "client", "-p"], "never restarted"),
        (["logs", "client", "-f", "-p"], "leave one out"),
        (["logs", "client", "--tail", "-7"], "-1 for all"),
        (["exec", "client", "-c", "nope", "--", "true"], "containers: shell"),
        (["help", "gett"], "did you mean get?"),
    ],
)
def test_what_makes_no_sense_is_said_in_two_lines(
    shared: Hairpin, words: list[str], said: str
) -> None:
    ran = shared(*words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err and len(ran.err.splitlines()) <= 2


def test_apply_says_what_became_of_each(shared: Hairpin) -> None:
    text = POD % ("one", "a") + POD % ("two", "a")
    assert shared.ok("apply", "-f", "-", stdin=text) == "pod/one created\npod/two created\n"
    assert shared.ok("apply", "-f", "-", stdin=text) == "pod/one unchanged\npod/two unchanged\n"
    text = POD % ("one", "a") + POD % ("two", "b")
    assert shared.ok("apply", "-f", "-", stdin=text) == "pod/one unchanged\npod/two configured\n"
    assert _names(shared, "pods", "-l", "run=b") == {"pod/two"}
    as_shown = yaml.safe_dump(yaml.safe_load(shared.ok("get", "svc,deploy", "-o", "yaml")))
    assert shared.ok("apply", "-f", "-", stdin=as_shown).splitlines() == [
        "service/web unchanged",
        "deployment/web unchanged",
    ]
    assert shared.ok("delete", "pods", "-l", "run in (a,b)").splitlines() == [
        "pod/one deleted",
        "pod/two deleted",
    ]


def test_delete_by_file_by_several_names_and_all(shared: Hairpin) -> None:
    text = POD % ("one", "a") + POD % ("two", "b")
    shared.ok("apply", "-f", "-", stdin=text)
    assert shared.ok("delete", "-f", "-", stdin=text) == "pod/one deleted\npod/two deleted\n"
    ran = shared("delete", "-f", "-", stdin=text)
    assert ran.code == 2 and "there is no Pod default/one" in ran.err
    assert shared("delete", "--ignore-not-found", "-f", "-", stdin=text).code == 0
    shared.ok("apply", "-f", "-", stdin=text)
    ran = shared("delete", "pod", "one", "nobody")
    assert ran.code == 2 and {"pod/one", "pod/two"} <= _names(shared, "po")
    assert shared.ok("delete", "pod", "one", "two") == "pod/one deleted\npod/two deleted\n"
    other = text.replace("{name:", "{namespace: third, name:")
    shared.ok("apply", "-f", "-", stdin=other)
    assert len(shared.ok("delete", "po", "--all", "-n", "third").splitlines()) == 2
    assert {"pod/client", "pod/web-0"} <= _names(shared, "po")


NEVER = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: never}\nspec: {containers: [{name: a, "
    "command: [sleep, infinity], readinessProbe: {exec: {command: ['false']}}}]}\n"
)


def test_waiting_makes_an_error_of_what_is_not_ready(shared: Hairpin) -> None:
    try:
        ran = shared("apply", "-f", "-", "--wait=1s", stdin=NEVER)
        assert ran.code == 1 and ran.out == "pod/never created\n"
        assert "not ready in time: Pod default/never is not ready yet" in ran.err
        ran = shared("apply", "-f", "-", "--timeout=100ms", stdin=NEVER)
        assert ran.code == 0 and "warning: Pod default/never" in ran.err
        ran = shared("apply", "-f", "-", "--wait=soon", stdin=NEVER)
        assert ran.code == 2 and "like 30s" in ran.err
    finally:
        shared.ok("delete", "pod", "never")
    assert shared("apply", "-f", "-", "--wait", stdin=POD % ("quick", "q")).code == 0
    shared.ok("delete", "pod/quick")


def test_describe_says_what_the_kernel_holds_and_why(shared: Hairpin) -> None:
    said = shared.ok("describe", "svc", "web")
    assert "Selector:          app=web" in said
    rows = [line.split("   ") for line in said.splitlines()]
    kernel = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert ["virtual server TCP 10.96.7.7:80, rr", "its ClusterIP and port", "yes"] in kernel
    assert sum(row[0].startswith("real server") for row in kernel if row) == 2
    shared.ok("exec", "node/node", "--", "ipvsadm", "-D", "-t", "10.96.7.7:80")
    assert "MISSING" in shared.ok("describe", "svc/web")
    for verb in (["set", "vip-local=off"], ["set", "vip-local=on"]):
        shared.ok(*verb)  # each time the proxy looks at everything
    assert "MISSING" not in shared.ok("describe", "svc/web")


def test_describe_pods_nodes_and_deployments(shared: Hairpin) -> None:
    said = shared.ok("describe", "pod", "web-0")
    assert "Controlled By:  Deployment/web" in said and "Services:       default/web" in said
    assert "the built-in echo server" in said and "MISSING" not in said
    node = shared.ok("describe", "node/node")
    assert "client" in node and "bridge cni0" in node
    assert "2 desired, 2 there, 2 ready" in shared.ok("describe", "deploy")


def test_connections_are_those_that_ipvsadm_lists(shared: Hairpin) -> None:
    shared.ok("exec", "client", "--", "curl", "-s", "10.96.7.7")
    found = json.loads(shared.ok("get", "connections", "-o", "json"))["items"]
    (one,) = [each for each in found if each["vip"] == "10.96.7.7"]
    line = f"{one['client']}:{one['client_port']}"
    seen = shared.ok("exec", "node/node", "--", "ipvsadm", "-Lcn")
    assert any(line in row and f"{one['server']}:8080" in row for row in seen.splitlines())
    assert line in shared.ok("get", "conn")


COUNTER = (
    "apiVersion: v1\nkind: Pod\nmetadata: {name: counter}\nspec: {containers: [{name: a, command: "
    "[sh, -c, 'echo first $$; echo second; until [ -e /tmp/end ]; do sleep 0.05; done; "
    "rm /tmp/end; echo last']}]}\n"
)


def test_logs_follow_over_restarts_until_the_pod_is_deleted(shared: Hairpin) -> None:
    shared.ok("apply", "-f", "-", stdin=COUNTER)
    assert shared.ok("logs", "counter", "--tail", "1") == "second\n"
    assert shared.ok("logs", "counter", "--tail", "0") == ""
    follow = shared.start("logs", "-f", "pod/counter", "--tail=1")
    assert follow.stdout is not None
    assert follow.stdout.readline() == b"second\n"
    shared.ok("exec", "counter", "--", "touch", "/tmp/end")
    assert follow.stdout.readline() == b"last\n"
    assert follow.stdout.readline().startswith(b"first")
    assert follow.stdout.readline() == b"second\n"
    assert shared.ok("logs", "-p", "counter").splitlines()[-1] == "last"
    shared.ok("delete", "pod", "counter")
    out, err = follow.communicate(timeout=20)
    assert (follow.returncode, out) == (0, b"")
    assert b"was started again, restart 1" in err


def test_logs_follow_loses_nothing_to_a_slow_reader(shared: Hairpin) -> None:
    lines = 30000
    text = COUNTER.replace("counter", "writer").replace("echo first $$", f"seq 1 {lines}")
    shared.ok("apply", "-f", "-", stdin=text)
    follow = shared.start("logs", "-f", "writer")
    time.sleep(0.5)  # it is not read, so that buffers fill
    assert follow.stdout is not None
    got = [follow.stdout.readline() for _ in range(lines + 1)]
    assert got == [*(b"%d\n" % number for number in range(1, lines + 1)), b"second\n"]
    shared.ok("delete", "pod", "writer")
    follow.communicate(timeout=20)


def test_watch_tells_each_change(shared: Hairpin) -> None:
    events = shared.start(
        "get", "pods", "-w", "--output-watch-events", "-l", "app!=web", "-o", "json"
    )
    table = shared.start("get", "pods", "-w", "--no-headers", "-l", "app!=web")
    server = shared.start("get", "vs", "-w", "--no-headers")
    assert events.stdout is not None and table.stdout is not None and server.stdout is not None
    decoder, text = json.JSONDecoder(), ""

    def event() -> tuple[str, str]:
        nonlocal text
        assert events.stdout is not None
        while True:
            text += events.stdout.readline().decode()
            try:
                found, end = decoder.raw_decode(text.lstrip())
            except json.JSONDecodeError:
                continue
            text = text.lstrip()[end:]
            return found["type"], found["object"]["metadata"]["labels"].get("run", "")

    assert event() == ("ADDED", "")  # the client: from here on it watches
    assert table.stdout.readline().split()[0] == b"client"
    while b"10.96.7.7:80" not in server.stdout.readline():
        pass
    shared.ok("apply", "-f", "-", stdin=POD % ("seen", "a"))
    shared.ok("apply", "-f", "-", stdin=POD % ("seen", "b"))
    service = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: seen}\n"
        "spec: {clusterIP: 10.96.9.9, selector: {run: b}, ports: [{port: 80, targetPort: 80}]}\n"
    )
    shared.ok("apply", "-f", "-", stdin=service)
    while b"10.96.9.9:80" not in server.stdout.readline():
        pass
    shared.ok("delete", "svc/seen", "pod/seen")
    told = [event()]
    while told[-1][0] != "DELETED":
        told.append(event())
    assert told[0] == ("ADDED", "a")
    assert ("MODIFIED", "b") in told and told[-1] == ("DELETED", "b")
    row = b""
    while b"Terminating" not in row:
        row = table.stdout.readline()
        assert row.split()[0] == b"seen"
    for process in (events, table, server):
        process.kill()
        process.communicate()


def test_an_object_that_loses_its_label_leaves_the_watch(shared: Hairpin) -> None:
    shared.ok("apply", "-f", "-", stdin=POD % ("moving", "a"))
    watching = shared.start("get", "pods", "-w", "-l", "run=a", "--no-headers")
    assert watching.stdout is not None
    assert watching.stdout.readline().split()[:3] == [b"moving", b"1/1", b"Running"]
    shared.ok("apply", "-f", "-", stdin=POD % ("moving", "b"))
    while b"Terminating" not in watching.stdout.readline():
        pass
    watching.kill()
    watching.communicate()
    shared.ok("delete", "pod/moving")


def test_up_with_wait_fails_and_leaves_the_lab_up(tmp_path: Path) -> None:
    hairpin = Hairpin(tmp_path)
    try:
        ran = hairpin("up", "-f", "-", "--wait=500ms", stdin=NEVER)
        assert ran.code == 1 and "not ready in time: Pod default/never" in ran.err
        assert hairpin.ok("get", "pods", "-o", "name") == "pod/never\n"
        assert "0/1" in hairpin.ok("get", "pods")
    finally:
        hairpin("down")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">/dev/full"])
def test_streams_that_are_closed_or_full(shared: Hairpin, closed: str) -> None:
    for words in ("get pods", "exec client -- true", "apply -f -", "shell client"):
        line = " ".join([*shared.command, words, closed])
        done = subprocess.run(
            ["sh", "-c", line],
            input=b"",
            capture_output=True,
            env=shared.env,
            timeout=30,
            check=False,
        )
        assert done.returncode in (0, 1, 2), (words, done.stderr)
        assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr, done.stderr


def test_a_full_disk_is_said(shared: Hairpin) -> None:
    full = subprocess.run(
        ["sh", "-c", " ".join([*shared.command, "get", "pods", ">/dev/full"])],
        capture_output=True,
        env=shared.env,
        timeout=30,
        check=False,
    )
    assert full.returncode == 1 and b"No space left" in full.stderr
