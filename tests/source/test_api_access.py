"""kubeconfig in all its forms, and credentials that change while they are used."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from hairpin.model.errors import ManifestError
from hairpin.source.api.client import ApiError, Client
from hairpin.source.api.credentials import TOKEN_PERIOD, CredentialError, Credentials
from hairpin.source.api.kubeconfig import Access, access, in_cluster
from hairpin.source.api.web_proxy import proxy_for
from tests.api_server.server import Server

VERSION = "client.authentication.k8s.io/v1"


def kubeconfig(folder: Path, cluster: dict[str, Any], user: dict[str, Any] | None = None) -> str:
    """Writes one with a single context; gives its path."""
    raw = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "it", "user": "me"}}],
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "me", "user": user or {}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(raw))
    return str(path)


def plugin(folder: Path, status: dict[str, Any], code: int = 0) -> dict[str, Any]:
    """An exec plugin that prints ``status`` and counts how often it ran."""
    script = folder / "plugin"
    answer = json.dumps({"apiVersion": VERSION, "kind": "ExecCredential", "status": status})
    script.write_text(
        f'#!/bin/sh\necho run >> {folder}/runs\nprintf %s "$KUBERNETES_EXEC_INFO" > {folder}/info\n'
        f"cat <<'END'\n{answer}\nEND\necho no such user >&2\nexit {code}\n"
    )
    script.chmod(0o755)
    return {"exec": {"apiVersion": VERSION, "command": "./plugin", "interactiveMode": "Never"}}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate (for kube.test and ::1) and a client's, by openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    new = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    lines = [
        f"{new} -x509 -days 2 -subj /CN=test-ca -keyout ca.key -out ca.crt",
        *(
            f"{new} -subj /CN={name} -keyout {name}.key -out {name}.csr && "
            f"openssl x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 "
            f"-extfile {name}.ext -out {name}.crt"
            for name in ("server", "client")
        ),
    ]
    # One that ran out in 2001, of the same key.
    lines += [
        "touch index.txt; echo 01 > serial; "
        "openssl ca -batch -config ca.conf -in server.csr -cert ca.crt -keyfile ca.key "
        "-startdate 000101000000Z -enddate 010101000000Z -extfile server.ext -out old.crt"
    ]
    (folder / "ca.conf").write_text(
        "[ca]\ndefault_ca=it\n[it]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\n"
        "default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n"
    )
    (folder / "server.ext").write_text("subjectAltName=DNS:kube.test,IP:::1")
    (folder / "client.ext").write_text("extendedKeyUsage=clientAuth")
    for line in lines:
        subprocess.run(line, shell=True, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def tls(certificates: Path) -> Iterator[Server]:
    """An API server that wants a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    context.load_verify_locations(certificates / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    one = Server(tls=context).start()
    yield one
    one.stop()


def asked(path: str) -> str:
    """What the server of a kubeconfig says its version is."""
    return str(json.loads(Client(access(path)).get("/version", {}))["gitVersion"])


def test_certificates_as_files_and_as_data(tls: Server, certificates: Path, tmp_path: Path) -> None:
    def data(name: str) -> str:
        return base64.b64encode((certificates / name).read_bytes()).decode()

    for name in ("ca.crt", "client.crt", "client.key"):
        shutil.copy(certificates / name, tmp_path)
    files = {"client-certificate": "client.crt", "client-key": str(tmp_path / "client.key")}
    cluster = {"server": tls.url, "tls-server-name": "kube.test"}
    by_file = kubeconfig(tmp_path, {**cluster, "certificate-authority": "ca.crt"}, files)
    assert asked(by_file) == "v1.36.2"
    inline = {
        "client-certificate-data": data("client.crt"),
        "client-key-data": data("client.key"),
    }
    authority = {"certificate-authority-data": data("ca.crt")}
    assert asked(kubeconfig(tmp_path, {**cluster, **authority}, inline)) == "v1.36.2"
    exec_ = plugin(
        tmp_path,
        {
            "clientCertificateData": (certificates / "client.crt").read_text(),
            "clientKeyData": (certificates / "client.key").read_text(),
        },
    )
    assert asked(kubeconfig(tmp_path, {**cluster, **authority}, exec_)) == "v1.36.2"
    insecure = {"server": tls.url, "insecure-skip-tls-verify": True}
    assert asked(kubeconfig(tmp_path, insecure, inline)) == "v1.36.2"
    with pytest.raises(ApiError, match="match"):  # the certificate is for another name
        asked(kubeconfig(tmp_path, {"server": tls.url, **authority}, inline))
    with pytest.raises(ApiError, match="certificate verify failed"):
        asked(kubeconfig(tmp_path, cluster, inline))
    with pytest.raises(ApiError):
        asked(kubeconfig(tmp_path, {**cluster, **authority}))  # no client certificate
    with pytest.raises(ManifestError, match="no client certificate with its key"):
        asked(kubeconfig(tmp_path, {**cluster, **authority}, {**inline, "client-key-data": "Zm9v"}))


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server().start()
    yield one
    one.stop()


def test_a_token_file_is_read_again(server: Server, tmp_path: Path) -> None:
    token, now = tmp_path / "token", [0.0]
    token.write_text("first\n")
    given = access(kubeconfig(tmp_path, {"server": server.url}, {"tokenFile": "token"}))
    client = Client(given, credentials=Credentials(given, clock=lambda: now[0]))
    server.faults.token = "first"
    client.get("/version", {})
    token.write_text("second")
    client.get("/version", {})
    assert server.tokens == ["first", "first"], "believed for a minute"
    now[0] = TOKEN_PERIOD + 1
    server.faults.token = "second"
    client.get("/version", {})
    token.write_text("third")
    server.faults.token = "third"
    client.get("/version", {})
    assert server.tokens[2:] == ["second", "second", "third"], "a 401 is asked again at once"
    token.unlink()
    now[0] *= 2
    client.get("/version", {})  # the last one may do
    server.faults.token = "fourth"
    with pytest.raises(ApiError, match="401"):
        client.get("/version", {})


def test_an_exec_plugin(server: Server, tmp_path: Path) -> None:
    soon = "2026-01-01T00:00:30Z"
    user = plugin(tmp_path, {"token": "abc", "expirationTimestamp": soon})
    user["exec"]["provideClusterInfo"] = True
    given = access(kubeconfig(tmp_path, {"server": server.url}, user))
    now = [1767225600.0]  # 2026-01-01T00:00:00Z
    client = Client(given, credentials=Credentials(given, now=lambda: now[0]))
    client.get("/version", {})
    client.get("/version", {})
    assert server.tokens == ["abc", "abc"]
    assert (tmp_path / "runs").read_text().count("run") == 1
    info = json.loads((tmp_path / "info").read_text())
    assert info["spec"]["cluster"]["server"] == server.url and info["apiVersion"] == VERSION
    now[0] += 25
    client.get("/version", {})
    assert (tmp_path / "runs").read_text().count("run") >= 2, "it has nearly expired"


def test_what_a_plugin_can_do_wrong(server: Server, tmp_path: Path) -> None:
    for status, code, said in (
        ({}, 0, "neither token nor client certificate"),
        ({"token": "abc"}, 3, "exit code 3: no such user"),
    ):
        given = access(kubeconfig(tmp_path, {"server": server.url}, plugin(tmp_path, status, code)))
        with pytest.raises(ApiError, match=said):
            Client(given).get("/version", {})
    user = plugin(tmp_path, {})
    user["exec"] |= {"command": "no-such-plugin", "installHint": "get it at example.org"}
    given = access(kubeconfig(tmp_path, {"server": server.url}, user))
    with pytest.raises(CredentialError, match=r"no-such-plugin.*get it at example\.org"):
        Credentials(given).authorization()


def test_password_and_service_account(server: Server, tmp_path: Path) -> None:
    user = {"username": "me", "password": "pass"}
    Client(access(kubeconfig(tmp_path, {"server": server.url}, user))).get("/version", {})
    assert server.tokens == [f"Basic {base64.b64encode(b'me:pass').decode()}"]
    (tmp_path / "token").write_text("of the Pod")
    (tmp_path / "ca.crt").write_text("")
    where = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    found = in_cluster(where, tmp_path)
    assert found.server == "https://[fd00::1]:443"
    assert Credentials(found).authorization() == "Bearer of the Pod"
    with pytest.raises(ManifestError, match="not a Pod"):
        in_cluster({}, tmp_path)


def test_acting_as_somebody_else(server: Server, tmp_path: Path) -> None:
    user = {
        "token": "abc",
        "as": "system:kube-proxy",
        "as-groups": ["one", "two"],
        "as-user-extra": {"Reason/why": ["x"]},
        "exec": None,
    }
    Client(access(kubeconfig(tmp_path, {"server": server.url, "proxy-url": None}, user))).get(
        "/version", {}
    )
    said = [one for one in server.heads[-1] if one[0].startswith("Impersonate")]
    assert said == [
        ("Impersonate-User", "system:kube-proxy"),
        ("Impersonate-Group", "one"),
        ("Impersonate-Group", "two"),
        ("Impersonate-Extra-reason%2Fwhy", "x"),
    ]
    with pytest.raises(ManifestError, match="as: is missing"):
        access(kubeconfig(tmp_path, {"server": server.url}, {"as-groups": ["one"]}))


def test_another_server_than_the_kubeconfigs(server: Server, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, {"server": "http://kube.invalid:6443"}, {"token": "abc"})
    Client(access(path, server=f"{server.url}/")).get("/version", {})
    assert server.tokens == ["abc"]
    Client(access(None, {}, server=server.url)).get("/version", {})
    assert server.tokens == ["abc", ""]


def test_a_server_by_its_ipv6_address(certificates: Path, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    one = Server(tls=context, host="::1").start()
    try:
        shutil.copy(certificates / "ca.crt", tmp_path)
        cluster = {"server": one.url, "certificate-authority": "ca.crt"}
        assert asked(kubeconfig(tmp_path, cluster)) == "v1.36.2"
    finally:
        one.stop()


def test_a_certificate_that_has_run_out(certificates: Path, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "old.crt", certificates / "server.key")
    one = Server(tls=context).start()
    try:
        shutil.copy(certificates / "ca.crt", tmp_path)
        cluster = {"server": one.url, "certificate-authority": "ca.crt"}
        with pytest.raises(ApiError, match="certificate has expired"):
            asked(kubeconfig(tmp_path, {**cluster, "tls-server-name": "kube.test"}))
    finally:
        one.stop()


def test_files_that_are_half_written_for_a_moment(
    tls: Server, certificates: Path, tmp_path: Path
) -> None:
    for name in ("ca.crt", "client.crt", "client.key"):
        shutil.copy(certificates / name, tmp_path)
    cluster = {
        "server": tls.url,
        "tls-server-name": "kube.test",
        "certificate-authority": "ca.crt",
    }
    user = {"client-certificate": "client.crt", "client-key": "client.key"}
    client = Client(access(kubeconfig(tmp_path, cluster, user)))
    client.get("/version", {})
    for name in ("ca.crt", "client.crt", "client.key"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ApiError, match=r"no (certificate authority|client certificate)"):
            client.get("/version", {})
        (tmp_path / name).write_bytes(whole)
        client.get("/version", {})


def test_tls_through_a_proxy_that_wants_a_password(
    tls: Server, certificates: Path, tmp_path: Path
) -> None:
    heads: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        client, _ = listener.accept()
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        heads.append(head)
        server = socket.create_connection(("127.0.0.1", tls.port))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for one, other in ((client, server), (server, client)):
            threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()

    inline = {
        "client-certificate": str(certificates / "client.crt"),
        "client-key": str(certificates / "client.key"),
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        cluster = {
            "server": "https://kube.test:6443",
            "certificate-authority": str(certificates / "ca.crt"),
            "proxy-url": f"http://me:p%40ss@127.0.0.1:{listener.getsockname()[1]}",
        }
        assert asked(kubeconfig(tmp_path, cluster, inline)) == "v1.36.2"
    assert heads[0].startswith(b"CONNECT kube.test:6443 ")
    assert b"Basic " + base64.b64encode(b"me:p@ss") in heads[0]


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while heard := one.recv(4096):
            other.sendall(heard)
        other.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    ("server", "rules", "meant"),
    [
        ("https://kube.example.com:6443", "", True),
        ("https://kube.example.com:6443", "other.com,example.com", False),
        ("https://kube.example.com:6443", "*.example.com", False),
        ("https://kube.example.com:6443", "ample.com", True),
        ("https://kube.example.com:6443", "kube.example.com:443", True),
        ("https://kube.example.com:6443", "kube.example.com:6443", False),
        ("https://10.1.2.3", "10.0.0.0/8", False),
        ("https://10.1.2.3", "10.1.2.3:443", False),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", False),
        ("https://[fd00::1]:6443", "fd00::/64", False),
        ("https://127.0.0.9", "", False),
        ("https://[::1]", "", False),
        ("https://localhost", "", False),
    ],
)
def test_who_needs_a_proxy(server: str, rules: str, meant: bool) -> None:
    environment = {"https_proxy": "web:3128", "NO_PROXY": rules}
    assert proxy_for(urlsplit(server), environment) == ("http://web:3128" if meant else "")


def test_through_a_proxy(server: Server, tmp_path: Path) -> None:
    """A server that is asked for a whole URL is a proxy to it."""
    given = access(
        kubeconfig(tmp_path, {"server": "http://kube.invalid:6443", "proxy-url": server.url})
    )
    with pytest.raises(ApiError, match="404"):
        Client(given, environment={}).get("/nowhere", {})
    assert server.requests == ["http://kube.invalid:6443/nowhere?"]
    by_environment = Access(server="http://kube.invalid", where="test")
    with pytest.raises(ApiError, match="404"):
        Client(by_environment, environment={"http_proxy": server.url}).get("/nowhere", {})
    for rule in ("kube.invalid", ".invalid", "invalid", "*"):
        with pytest.raises(ApiError, match=r"resolve|Name"):
            away = {"http_proxy": server.url, "no_proxy": f"x, {rule}"}
            Client(by_environment, environment=away).get("/nowhere", {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"current-context": "gone"}, "contexts: there is no gone"),
        ({"current-context": None}, "current-context: is missing"),
        ({"clusters": []}, "clusters: there is no it"),
        ({"clusters": [{"name": "it", "cluster": {}}]}, "server: is missing"),
        ({"clusters": [{"name": "it", "cluster": {"server": "10.0.0.1"}}]}, "is no server like"),
        ({"clusters": [{"name": "it", "cluster": {"server": 7}}]}, "expected text"),
        ({"users": [{"name": "me", "user": {"client-key-data": "!"}}]}, "is not base64"),
        ({"users": [{"name": "me", "user": {"auth-provider": {}}}]}, "use an exec plugin"),
        ({"kind": "Pod"}, "expected Config, got Pod"),
    ],
)
def test_bad_kubeconfigs(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = Path(kubeconfig(tmp_path, {"server": "https://10.0.0.1:6443"}))
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    with pytest.raises(ManifestError) as found:
        Client(access(str(path)))
    assert said in str(found.value) and str(path) in str(found.value)


def test_no_kubeconfig_at_all(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file"):
        access(str(tmp_path / "none"))
    (tmp_path / "text").write_text("just words")
    with pytest.raises(ManifestError, match="is no kubeconfig"):
        access(str(tmp_path / "text"))
