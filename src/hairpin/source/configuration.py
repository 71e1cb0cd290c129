"""kube-proxy's configuration: the file of ``--config``, or flags of kube-proxy's names.

As with kube-proxy a file is the whole configuration: beside it only ``--hostname-override`` counts,
and one that names no mode means iptables.  Without a file the mode stays open: kube-proxy's own
default counts for a node agent, hairpin's for a lab.
Unknown fields are passed over and named, as kube-proxy decodes v1alpha1 leniently; ``strict`` makes
errors of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

import msgspec

from hairpin.model.configuration import (
    API_VERSION,
    KIND,
    ClientConnectionConfiguration,
    Config,
    ConntrackConfiguration,
    KubeProxyConfiguration,
    LocalMode,
    Mode,
    Seconds,
    duration,
    field_name,
)
from hairpin.model.errors import ManifestError
from hairpin.model.explain import explain, words
from hairpin.model.names import quoted
from hairpin.source import files
from hairpin.source.configuration_checks import address_with_port, problems
from hairpin.source.configuration_flags import FLAGS, Flag, read_flag
from hairpin.source.documents import documents

__all__ = ["FLAGS", "Flag", "load"]

_WINDOWS = "it is for Windows"
_UNUSED: Mapping[str, str] = {
    "feature_gates": "hairpin does what Kubernetes 1.36 does by default",
    "config_sync_period": "hairpin reads anew what changed, and all after a watch was lost",
    "enable_profiling": "hairpin serves no profiles",
    "show_hidden_metrics_for_version": "hairpin hides no metrics",
    "winkernel": _WINDOWS,
    "windows_run_as_service": _WINDOWS,
    "port_range": "kube-proxy does not use it either",
}
"""Fields that kube-proxy has and hairpin passes over, and why."""
_CLIENT = "hairpin asks for JSON, by three watches that no rate needs to limit"
_CONNTRACK_MAX = "nf_conntrack_max is the whole machine's, and hairpin leaves it alone"


def load(
    path: str | None,
    flags: Mapping[str, str] | None = None,
    *,
    warnings: list[str] | None = None,
    strict: bool = False,
) -> KubeProxyConfiguration:
    """The configuration of the file ``path``, or of ``flags`` where that is None.

    ``flags`` go from kube-proxy's names, without dashes, to their values (``"true"`` for one
    that has none).  What is not used is added to ``warnings``.  Raises ManifestError.
    """
    given = flags or {}
    said: list[str] = [] if warnings is None else warnings
    where = path or ""
    if path is None:
        raw = _from_flags(given)
    else:
        raw = _read(path)
        said += [
            f"--{name}: is ignored, as with kube-proxy, because --config is given"
            for name in given
            if name != "hostname-override"
        ]
        if "hostname-override" in given:
            raw["hostnameOverride"] = _hostname(given["hostname-override"])
    unknown = list(_drop_unknown(raw, KubeProxyConfiguration, ""))
    if strict and unknown:
        raise ManifestError("unknown field", where=where, object=KIND, field=unknown[0])
    said += [_line(where, field, "unknown field, passed over") for field in unknown]
    config = _completed(_converted(raw, where))
    if path is not None and not config.mode:
        config = msgspec.structs.replace(config, mode="iptables")  # kube-proxy's default on Linux
    for problem in problems(config):
        raise ManifestError(
            problem.message,
            where=where,
            object=KIND,
            field=problem.field,
            remedy=problem.remedy,
        )
    said += [_line(where, field, why) for field, why in _unused(config, raw)]
    return config


def _line(where: str, field: str, why: str) -> str:
    return ": ".join(part for part in (where, field, why) if part)


def _read(path: str) -> dict[str, Any]:
    """The file's one document, a mapping of the right kind, without apiVersion and kind."""
    found = documents(files.read(path), path)
    if len(found) != 1:
        message = f"expected one {KIND}, found {len(found)} documents"
        raise ManifestError(message, where=path)
    raw = found[0].value
    if not isinstance(raw, dict):
        raise ManifestError(f"expected a {KIND}, got {words(raw)}", where=path)
    for field, wanted in (("kind", KIND), ("apiVersion", API_VERSION)):
        value = raw.pop(field, None)
        if value != wanted:
            got = quoted(value) if isinstance(value, str) else words(value)
            message = "is missing" if value is None else f"expected {wanted}, got {got}"
            remedy = f"write {field}: {wanted}"
            raise ManifestError(message, where=path, field=field, remedy=remedy)
    return raw


def _from_flags(flags: Mapping[str, str]) -> dict[str, Any]:
    """Flags in the shape of the file.  Raises ManifestError."""
    raw: dict[str, Any] = {}
    for name, text in flags.items():
        flag = FLAGS.get(name)
        if flag is None:
            raise ManifestError("kube-proxy has no such flag", where=f"--{name}")
        if name == "hostname-override":
            raw["hostnameOverride"] = _hostname(text)
            continue
        try:
            value = read_flag(flag, text)
        except ValueError as error:
            raise ManifestError(str(error), where=f"--{name}") from None
        inner = raw
        *path, last = flag.field.split(".")
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return raw


def _hostname(text: str) -> str:
    if not text.strip():
        raise ManifestError("is empty", where="--hostname-override")
    return text.strip().lower()


def _drop_unknown(raw: dict[str, Any], kind: type[Config], prefix: str) -> Iterator[str]:
    """Takes out what is null or no field of ``kind``; gives the paths of the latter."""
    known = {field.encode_name: field.name for field in msgspec.structs.fields(kind)}
    hints = get_type_hints(kind)
    for name in list(raw):
        value = raw[name]
        path = f"{prefix}{name}"
        if name not in known:
            yield path
            del raw[name]
        elif value is None:
            del raw[name]
        else:
            inner = hints[known[name]]
            if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, Config):
                yield from _drop_unknown(value, inner, f"{path}.")


def _converted(raw: dict[str, Any], where: str) -> KubeProxyConfiguration:
    try:
        return msgspec.convert(raw, KubeProxyConfiguration, dec_hook=_hook)
    except msgspec.ValidationError as error:
        field, message, remedy = _explained(str(error), raw)
        raise ManifestError(message, where=where, object=KIND, field=field, remedy=remedy) from None


def _hook(kind: Any, value: Any) -> Any:
    if kind is Seconds:
        if not isinstance(value, str):
            raise ValueError("not a duration")
        return duration(value)
    raise NotImplementedError(kind.__name__)


def _explained(complaint: str, raw: Any) -> tuple[str, str, str]:
    """The field, what is wrong with it, a remedy."""
    problem, _, place = complaint.partition(" - at `$.")
    field = place.rstrip("`")
    if problem.startswith("not a duration"):
        value = raw
        for part in field.split("."):
            value = value[part]
        got = quoted(value) if isinstance(value, str) else words(value)
        return field, f"{got} is not a duration", "write it like 30s, 1m30s or 1h"
    choices = {"mode": Mode, "detectLocalMode": LocalMode}.get(field)
    if problem.startswith("Invalid enum value") and choices is not None:
        known = [quoted(one) for one in get_args(choices) if one]
        return field, f"{quoted(str(raw[field]))} is none of {', '.join(known)}", ""
    return explain(complaint, raw)


def _completed(config: KubeProxyConfiguration) -> KubeProxyConfiguration:
    """With kube-proxy's defaults where something was given as empty or 0."""
    replace = msgspec.structs.replace
    changes: dict[str, Any] = {"hostname_override": config.hostname_override.strip().lower()}
    for name in ("iptables", "ipvs", "nftables"):
        part = getattr(config, name)
        periods = {
            period: type(part)().__getattribute__(period)
            for period in ("sync_period", "min_sync_period")
            if not getattr(part, period)
        }
        changes[name] = replace(part, **periods)
    client, defaults = config.client_connection, ClientConnectionConfiguration()
    changes["client_connection"] = replace(
        client,
        content_type=client.content_type or defaults.content_type,
        qps=client.qps or defaults.qps,
        burst=client.burst or defaults.burst,
    )
    changes["config_sync_period"] = config.config_sync_period or Seconds(900)
    bind = changes["bind_address"] = config.bind_address or "0.0.0.0"
    v6 = ":" in bind
    changes["healthz_bind_address"] = address_with_port(
        config.healthz_bind_address or ("::" if v6 else "0.0.0.0"), 10256
    )
    changes["metrics_bind_address"] = address_with_port(
        config.metrics_bind_address or ("::1" if v6 else "127.0.0.1"), 10249
    )
    return replace(config, **changes)


def _unused(config: KubeProxyConfiguration, raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields that say something which hairpin does not do, each with why."""
    defaults = _completed(KubeProxyConfiguration(bind_address=config.bind_address))
    for name, why in _UNUSED.items():
        value, default = getattr(config, name), getattr(defaults, name)
        if field_name(name) not in raw or value == default:
            continue
        if isinstance(value, Config):
            for each in msgspec.structs.fields(value):
                if getattr(value, each.name) != getattr(default, each.name):
                    yield f"{field_name(name)}.{each.encode_name}", why
        else:
            yield field_name(name), why
    client, default_client = config.client_connection, defaults.client_connection
    for part in msgspec.structs.fields(client):
        if part.name != "kubeconfig" and getattr(client, part.name) != getattr(
            default_client, part.name
        ):
            yield f"clientConnection.{part.encode_name}", _CLIENT
    conntrack: ConntrackConfiguration = config.conntrack
    given = raw.get("conntrack")
    for field in ("maxPerCore", "min"):
        if isinstance(given, Mapping) and given.get(field) and conntrack.max_per_core:
            yield f"conntrack.{field}", _CONNTRACK_MAX
