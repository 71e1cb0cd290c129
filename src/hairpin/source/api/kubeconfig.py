"""Where the API server is and how to be let in: a kubeconfig file, or a Pod's service account.

Every form that client-go takes for a client without a person beside it: inline data and files,
tokens and token files, exec plugins, user and password, proxies, server names.  Names of files are
relative to the kubeconfig, as there.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from hairpin.model.errors import ManifestError
from hairpin.model.explain import explain
from hairpin.source import files
from hairpin.source.documents import documents

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where every Pod finds its token and the cluster's authority."""
_FOR_PLUGIN = "client.authentication.k8s.io/exec"  # the name of a cluster's extension


class Variable(msgspec.Struct, frozen=True):
    name: str
    value: str = ""


class Exec(msgspec.Struct, frozen=True, rename="camel"):
    """A program that prints credentials (client.authentication.k8s.io)."""

    command: str
    api_version: str = ""
    args: tuple[str, ...] | None = None
    env: tuple[Variable, ...] | None = None
    install_hint: str = ""
    interactive_mode: str = ""
    provide_cluster_info: bool = False


class _Extension(msgspec.Struct, frozen=True):
    name: str = ""
    extension: Any = None


class _Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    disable_compression: bool = False
    extensions: tuple[_Extension, ...] = ()


class _User(msgspec.Struct, frozen=True, rename="kebab"):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(name="tokenFile", default="")
    username: str = ""
    password: str = ""
    exec: Exec | None = None
    auth_provider: dict[str, Any] | None = None
    as_: str = msgspec.field(name="as", default="")
    as_uid: str = ""
    as_groups: tuple[str, ...] = ()
    as_user_extra: dict[str, tuple[str, ...]] = {}


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """One server and one user.

    Certificates and keys are PEM bytes, or files whose content may change while they are used:
    bytes go before files.  ``authority`` None with no file is the machine's own trust.
    ``impersonated`` are the headers by which one user acts as another.  ``plugin_config`` is what
    the cluster has for the exec plugin alone.  ``where`` is what errors name.
    """

    server: str
    where: str
    authority: bytes | None = None
    authority_file: str = ""
    insecure: bool = False
    server_name: str = ""
    proxy: str = ""
    compressed: bool = True
    certificate: bytes | None = None
    certificate_file: str = ""
    key: bytes | None = None
    key_file: str = ""
    token: str = ""
    token_file: str = ""
    username: str = ""
    password: str = ""
    exec: Exec | None = None
    plugin_config: Any = None
    folder: str = ""  # where an exec plugin's relative command is
    impersonated: tuple[tuple[str, str], ...] = ()


def access(
    path: str | None, environment: Mapping[str, str] | None = None, *, server: str = ""
) -> Access:
    """From the kubeconfig ``path``; None is the service account of the Pod that this runs in.

    ``server`` is asked instead of the one that the kubeconfig names, as with kube-proxy's
    --master, which needs no kubeconfig.  Raises ManifestError.
    """
    if path is None:
        if server:
            return Access(server=server.rstrip("/"), where="--master")
        return in_cluster(os.environ if environment is None else environment)
    raw = _read(path)
    context = _named(raw, path, "contexts", "context", _text(raw.get("current-context")))
    cluster = _struct(raw, path, "clusters", "cluster", _text(context.get("cluster")), _Cluster)
    name = _text(context.get("user"))
    user = _struct(raw, path, "users", "user", name, _User) if name else _User()
    if server:
        cluster = msgspec.structs.replace(cluster, server=server)
    if not cluster.server:
        raise ManifestError("is missing", where=path, field="clusters: server")
    if user.auth_provider is not None:
        raise ManifestError(
            "auth-provider is gone from Kubernetes' clients since 1.26",
            where=path,
            field=f"users: {name}",
            remedy="use an exec plugin",
        )
    return _access(path, cluster, user)


def in_cluster(environment: Mapping[str, str], account: Path = ACCOUNT) -> Access:
    """From what every Pod has.  Raises ManifestError where this is none."""
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "")
    token, authority = account / "token", account / "ca.crt"
    if not host or not port or not token.is_file():
        raise ManifestError(
            "no kubeconfig was given, and this is not a Pod with a service account",
            remedy="say --kubeconfig FILE, or clientConnection.kubeconfig in --config",
        )
    if ":" in host:
        host = f"[{host}]"
    return Access(
        server=f"https://{host}:{port}",
        where=str(account),
        authority_file=str(authority) if authority.is_file() else "",
        token_file=str(token),
    )


def _access(path: str, cluster: _Cluster, user: _User) -> Access:
    folder = Path(path).absolute().parent
    exec_ = user.exec
    if exec_ is not None and exec_.interactive_mode == "Always":
        message = f"{exec_.command} wants a terminal (interactiveMode: Always)"
        raise ManifestError(message, where=path, field="users: exec")

    def near(name: str) -> str:
        return str(folder / name) if name else ""

    return Access(
        server=cluster.server.rstrip("/"),
        where=path,
        authority=_decoded(cluster.certificate_authority_data, path, "certificate-authority-data"),
        authority_file=near(cluster.certificate_authority),
        insecure=cluster.insecure_skip_tls_verify,
        server_name=cluster.tls_server_name,
        proxy=cluster.proxy_url,
        compressed=not cluster.disable_compression,
        certificate=_decoded(user.client_certificate_data, path, "client-certificate-data"),
        certificate_file=near(user.client_certificate),
        key=_decoded(user.client_key_data, path, "client-key-data"),
        key_file=near(user.client_key),
        token=user.token,
        token_file=near(user.token_file),
        username=user.username,
        password=user.password,
        exec=exec_,
        plugin_config=next(
            (one.extension for one in cluster.extensions if one.name == _FOR_PLUGIN), None
        ),
        folder=str(folder),
        impersonated=tuple(_impersonated(user, path)),
    )


def _impersonated(user: _User, path: str) -> Iterator[tuple[str, str]]:
    """The headers for ``as`` and what belongs to it.  Raises ManifestError."""
    if not user.as_ and (user.as_uid or user.as_groups or user.as_user_extra):
        raise ManifestError("is missing", where=path, field="users: as")
    if user.as_:
        yield "Impersonate-User", user.as_
    if user.as_uid:
        yield "Impersonate-Uid", user.as_uid
    for group in user.as_groups:
        yield "Impersonate-Group", group
    for name, values in user.as_user_extra.items():
        for value in values:
            yield f"Impersonate-Extra-{quote(name.lower(), safe='')}", value


def _read(path: str) -> dict[str, Any]:
    found = documents(files.read(path), path)
    if len(found) != 1 or not isinstance(found[0].value, dict):
        raise ManifestError("is no kubeconfig: expected one mapping", where=path)
    raw: dict[str, Any] = found[0].value
    if raw.get("kind", "Config") != "Config":
        raise ManifestError(f"expected Config, got {raw['kind']}", where=path, field="kind")
    return raw


def _named(raw: Mapping[str, Any], path: str, group: str, field: str, name: str) -> dict[str, Any]:
    """The entry of that name.  Raises ManifestError where there is none."""
    if not name:
        where = "current-context" if group == "contexts" else f"contexts: {field}"
        raise ManifestError("is missing", where=path, field=where)
    entries = raw.get(group)
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name:
            found = entry.get(field)
            if found is None:
                return {}
            if isinstance(found, dict):
                return found
            raise ManifestError("expected a mapping", where=path, field=f"{group}: {name}")
    raise ManifestError(f"there is no {name}", where=path, field=group)


def _struct(
    raw: Mapping[str, Any], path: str, group: str, field: str, name: str, kind: type[Any]
) -> Any:
    found = _named(raw, path, group, field, name)
    plain = _without_nulls(found)
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        inner, message, remedy = explain(str(error), plain)
        place = f"{group}: {name}: {inner}"
        raise ManifestError(message, where=path, field=place, remedy=remedy) from None


def _without_nulls(value: Any) -> Any:
    """To Go a null is what is not there."""
    if isinstance(value, dict):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _decoded(text: str, path: str, field: str) -> bytes | None:
    if not text:
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ManifestError("is not base64", where=path, field=field) from None
