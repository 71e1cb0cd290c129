"""Who the client says it is: a token, a password, a certificate, or what an exec plugin prints.

Token files are read anew each minute, as client-go does: kubelet renews a Pod's token long before
it ends.  A plugin is run again when what it gave has expired, and after a 401.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

from hairpin.source.api.kubeconfig import Access, Exec

TOKEN_PERIOD = 60.0
"""Seconds for which a token file's content is believed (client-go, transport/token_source.go)."""
PLUGIN_LIMIT = 60.0  # seconds that a plugin may take
_EARLY = 10.0  # seconds before its end that something counts as expired
_VERSIONS = tuple(f"client.authentication.k8s.io/{one}" for one in ("v1", "v1beta1", "v1alpha1"))


class CredentialError(Exception):
    """No credentials can be had now; trying again later may help."""


class _Status(msgspec.Struct, rename="camel"):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: str | None = None


class _Credential(msgspec.Struct):
    status: _Status | None = None


class Certificate(msgspec.Struct, frozen=True):
    """A client certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class Credentials:
    """Used by several threads.  ``clock`` is in seconds, ``now`` in seconds of the epoch."""

    def __init__(
        self,
        access: Access,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._access = access
        self._clock = clock
        self._now = now
        self._lock = Lock()
        self._token = ""
        self._token_until = -1.0  # by the clock
        self._given: _Status | None = None  # by the plugin
        self._given_until: float | None = None  # by the epoch

    def authorization(self) -> str:
        """The header Authorization, "" for none.  Raises CredentialError."""
        access = self._access
        with self._lock:
            if access.token_file:
                return f"Bearer {self._of_file(access.token_file)}"
            if access.token:
                return f"Bearer {access.token}"
            if access.exec is not None:
                token = self._of_plugin(access.exec).token
                return f"Bearer {token}" if token else ""
        if access.username:
            pair = f"{access.username}:{access.password}".encode()
            return f"Basic {base64.b64encode(pair).decode()}"
        return ""

    def certificate(self) -> Certificate | None:
        """What to show in TLS.  Raises CredentialError."""
        access = self._access
        certificate = access.certificate or _content(access.certificate_file)
        key = access.key or _content(access.key_file)
        if certificate and key:
            return Certificate(certificate, key)
        if access.exec is None:
            return None
        with self._lock:
            given = self._of_plugin(access.exec)
        if not given.client_certificate_data or not given.client_key_data:
            return None
        return Certificate(given.client_certificate_data.encode(), given.client_key_data.encode())

    def refused(self) -> None:
        """The server said 401: what was read or given is not believed any longer."""
        with self._lock:
            self._token_until = -1.0
            self._given = None

    def _of_file(self, path: str) -> str:
        if self._clock() >= self._token_until:
            try:
                token = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, ValueError) as error:
                token = ""
                why = getattr(error, "strerror", None) or str(error)
            else:
                why = "it is empty"
            if token:
                self._token, self._token_until = token, self._clock() + TOKEN_PERIOD
            elif not self._token:  # else the last one may do until the file is there again
                raise CredentialError(f"{path}: no token: {why}")
        return self._token

    def _of_plugin(self, plugin: Exec) -> _Status:
        until = self._given_until
        if self._given is None or (until is not None and self._now() >= until - _EARLY):
            self._given = _run(plugin, self._access)
            self._given_until = _epoch(self._given.expiration_timestamp)
        return self._given


def _content(path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CredentialError(f"{path}: {error.strerror}") from None


def _run(plugin: Exec, access: Access) -> _Status:
    """Runs an exec plugin.  Raises CredentialError."""
    name = plugin.command
    if plugin.api_version not in _VERSIONS:
        raise CredentialError(f"exec {name}: apiVersion {plugin.api_version!r} is not known")
    environment = dict(os.environ)
    environment.update((one.name, one.value) for one in plugin.env or ())
    environment["KUBERNETES_EXEC_INFO"] = json.dumps(_exec_info(plugin, access))
    command = name
    if "/" in name and not name.startswith("/"):
        command = str(Path(access.folder) / name)
    try:
        done = subprocess.run(
            [command, *(plugin.args or ())],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PLUGIN_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CredentialError(f"exec {name}: no answer in {PLUGIN_LIMIT:.0f} s") from None
    except (OSError, ValueError) as error:
        hint = f"; {plugin.install_hint}" if plugin.install_hint else ""
        why = getattr(error, "strerror", None) or str(error)
        raise CredentialError(f"exec {name}: {why}{hint}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise CredentialError(f"exec {name}: exit code {done.returncode}: {' '.join(said[-1:])}")
    try:
        status = msgspec.json.decode(done.stdout, type=_Credential).status
    except msgspec.DecodeError as error:
        raise CredentialError(f"exec {name}: printed no ExecCredential: {error}") from None
    if status is None or not (status.token or status.client_certificate_data):
        raise CredentialError(f"exec {name}: printed neither token nor client certificate")
    return status


def _exec_info(plugin: Exec, access: Access) -> dict[str, Any]:
    """What a plugin is told of why it is run."""
    spec: dict[str, Any] = {"interactive": False}
    if plugin.provide_cluster_info:
        cluster: dict[str, Any] = {"server": access.server}
        authority = access.authority or _content(access.authority_file)
        if authority:
            cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
        if access.insecure:
            cluster["insecure-skip-tls-verify"] = True
        if access.server_name:
            cluster["tls-server-name"] = access.server_name
        if access.proxy:
            cluster["proxy-url"] = access.proxy
        if access.plugin_config is not None:
            cluster["config"] = access.plugin_config
        spec["cluster"] = cluster
    return {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}


def _epoch(text: str | None) -> float | None:
    """Seconds of the epoch of a time in RFC 3339; None for none."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
