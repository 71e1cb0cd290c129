"""Kubernetes objects from files, folders and standard input.  The one module here that reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

from hairpin.model.address import Network, from_builtin
from hairpin.model.decode import decode_object, decoding, known_kind, plain_of
from hairpin.model.errors import ManifestError
from hairpin.model.lenient import decode_lenient
from hairpin.model.metadata import Namespace, Ref
from hairpin.model.servicecidr import ServiceCIDR
from hairpin.model.snapshot import Object
from hairpin.model.unsupported import unsupported
from hairpin.source.documents import documents
from hairpin.source.files import MAX_BYTES
from hairpin.source.imports import Import, is_import

_ENDINGS = (".yaml", ".yml", ".json")
_STDIN = "stdin"
_NAMES_ONLY = "EndpointSlice of addressType FQDN"
_WHY_SKIPPED = {
    _NAMES_ONLY: "proxies pass over it",
    "DaemonSet": "hairpin runs Pods and Deployments",
    "Endpoints": "hairpin reads EndpointSlices",
    "Job": "hairpin runs Pods and Deployments",
    "NetworkPolicy": "hairpin enforces no policies: all traffic is allowed",
    "ReplicaSet": "hairpin runs Pods and Deployments",
    "StatefulSet": "hairpin runs Pods and Deployments",
}


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What was read, in its order; what was passed over; and where each object was found.

    ``where`` goes from a Ref's text to the file, with the line where the file holds several.
    ``problems`` are what of a cluster's objects is wrong, and was left out, ``service_cidrs`` the
    networks of its ServiceCIDRs (both ``whole`` only).
    """

    objects: tuple[Object, ...]
    warnings: tuple[str, ...]
    where: Mapping[str, str]
    problems: tuple[ManifestError, ...] = ()
    service_cidrs: tuple[Network, ...] = ()


class _Found(msgspec.Struct, frozen=True):
    raw: Any
    where: str


def load(
    paths: Sequence[str],
    *,
    stdin: TextIO | None = None,
    strict: bool = False,
    whole: bool = False,
) -> Loaded:
    """The objects of all ``paths``: files, folders (their own manifests, by name), - for stdin.

    What an API server has had is cut to what a lab can show; ``whole`` keeps all of it, and what
    is wrong in it costs only itself.  ``strict`` makes errors of the warnings, and nothing an
    import.  Raises ManifestError.
    """
    objects: dict[Ref, Object] = {}
    where: dict[Ref, str] = {}
    skipped: dict[str, list[str]] = {}
    ignored: dict[str, list[str]] = {}
    problems: list[ManifestError] = []
    cluster = Import()
    cidrs: dict[Network, None] = {}
    for found in _all(paths, stdin):
        if whole and _is_service_cidr(found.raw):
            cidrs |= dict.fromkeys(_service_cidrs(found))
            continue
        if useless := _useless(found):
            skipped.setdefault(useless, []).append(found.where)
            continue
        imported = not strict and is_import(found.raw)
        if imported and whole:
            things, wrong = decode_lenient([found.raw], [found.where])
            problems += wrong
        elif imported:
            things = cluster.taken(found.raw, found.where)
        else:
            things = [decode_object(found.raw, found.where)]
        for thing in things:
            if thing.ref in objects:
                raise ManifestError(
                    f"is already in {where[thing.ref]}", where=found.where, object=str(thing.ref)
                )
            objects[thing.ref] = thing
            where[thing.ref] = found.where
            if not imported:
                _note_unsupported(found, thing, ignored, strict)
    if strict and skipped:
        kind, places = next(iter(skipped.items()))
        raise ManifestError(f"{kind}: {_why(kind)}", where=places[0])
    objects, notes = cluster.finished(objects)
    return Loaded(
        objects=tuple(thing for thing in objects.values() if not isinstance(thing, Namespace)),
        warnings=(*_skipped_warnings(skipped), *_ignored_warnings(ignored), *notes),
        where={str(ref): place for ref, place in where.items()},
        problems=tuple(problems),
        service_cidrs=tuple(cidrs),
    )


def _useless(found: _Found) -> str:
    """What it is, where that means nothing here; else "".  Raises ManifestError."""
    raw = found.raw
    if not known_kind(raw, found.where):
        return _shown_kind(raw)
    names = raw["kind"] == "EndpointSlice" and raw.get("addressType") == "FQDN"
    return _NAMES_ONLY if names else ""


def _is_service_cidr(raw: object) -> bool:
    wanted = ("ServiceCIDR", "networking.k8s.io/v1")
    return isinstance(raw, Mapping) and (raw.get("kind"), raw.get("apiVersion")) == wanted


def _service_cidrs(found: _Found) -> tuple[Network, ...]:
    """The networks of a ServiceCIDR.  Raises ManifestError."""
    plain = plain_of(found.raw, found.where)
    with decoding(found.raw, plain, found.where):
        one: ServiceCIDR = msgspec.convert(plain, ServiceCIDR, dec_hook=from_builtin)
    return one.spec.cidrs


def _note_unsupported(
    found: _Found, thing: Object, ignored: dict[str, list[str]], strict: bool
) -> None:
    """Notes the fields that are passed over.  Raises ManifestError where ``strict``."""
    for field in unsupported(found.raw):
        if strict:
            raise ManifestError(
                "hairpin passes over this field",
                where=found.where,
                object=str(thing.ref),
                field=field,
            )
        ignored.setdefault(field, []).append(str(thing.ref))


def _skipped_warnings(skipped: Mapping[str, list[str]]) -> Iterator[str]:
    for kind, places in sorted(skipped.items()):
        yield f"skipped {len(places)} {kind}: {_why(kind)}"


def _ignored_warnings(ignored: Mapping[str, list[str]]) -> Iterator[str]:
    for field, refs in ignored.items():
        more = f" and {len(refs) - 1} more" if len(refs) > 1 else ""
        yield f"{refs[0]}{more}: {field} is passed over"


def _why(kind: str) -> str:
    return _WHY_SKIPPED.get(kind, "hairpin has no use for it")


def _shown_kind(raw: Mapping[str, Any]) -> str:
    """The kind, with its group where that is somebody's own."""
    group = str(raw["apiVersion"]).rpartition("/")[0]
    own = "." in group and not group.endswith(".k8s.io")
    return f"{raw['kind']} ({raw['apiVersion']})" if own else str(raw["kind"])


def _all(paths: Sequence[str], stdin: TextIO | None) -> Iterator[_Found]:
    if list(paths).count("-") > 1:
        raise ManifestError("can be read only once", where="-")
    for path in paths:
        texts = list(_texts(path, stdin))
        found = [one for name, data in texts for one in _objects(name, data)]
        if not found:
            where = _STDIN if path == "-" else path
            raise ManifestError("holds no Kubernetes object", where=where)
        yield from found


def _texts(path: str, stdin: TextIO | None) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the files that ``path`` stands for."""
    name = _STDIN if path == "-" else path
    try:
        if path == "-":
            yield name, _read_stdin(stdin)
        elif Path(path).is_dir():
            yield from ((str(file), _read(file)) for file in _manifests_in(path))
        else:
            yield name, _read(Path(path))
    except OSError as error:
        raise ManifestError(
            f"cannot be read: {(error.strerror or str(error)).lower()}",
            where=error.filename if isinstance(error.filename, str) else name,
        ) from None
    except ValueError as error:  # a NUL character in the name, or a closed stdin
        raise ManifestError(f"cannot be read: {error}", where=name) from None


def _manifests_in(folder: str) -> list[Path]:
    """The folder's own files in the order of their names; what is no plain file might block."""
    found = sorted(file for file in Path(folder).iterdir() if file.suffix in _ENDINGS)
    files = [file for file in found if file.is_file()]
    if not files:
        remedy = "folders inside of it are not read"
        raise ManifestError(f"holds no {', '.join(_ENDINGS)} file", where=folder, remedy=remedy)
    return files


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _read_stdin(stdin: TextIO | None) -> bytes:
    """Bytes, so that what is no UTF-8 gets the same error as in a file."""
    if stdin is None:
        raise ValueError("there is no standard input")
    binary = getattr(stdin, "buffer", None)
    if binary is not None:
        data: bytes = binary.read(MAX_BYTES + 1)
        return data
    return stdin.read(MAX_BYTES + 1).encode("utf-8", "surrogatepass")


def _objects(name: str, data: bytes) -> Iterator[_Found]:
    found = documents(data, name)
    for document in found:
        where = name if len(found) == 1 else f"{name}:{document.line}"
        yield from _expanded(document.value, where)


def _expanded(raw: Any, where: str) -> Iterator[_Found]:
    """A List's items, each saying where in it they are, or the object itself."""
    kind = str(raw.get("kind")) if isinstance(raw, Mapping) else ""
    if not kind.endswith("List") or (kind != "List" and "items" not in raw):
        yield _Found(raw, where)
        return
    items = raw.get("items")
    if not isinstance(items, list | tuple) and items is not None:
        raise ManifestError("expected a list", where=where, object=kind, field="items")
    given = {"apiVersion": raw.get("apiVersion"), "kind": kind.removesuffix("List")}
    for index, item in enumerate(items or ()):
        typed = kind != "List" and isinstance(item, Mapping)
        inner = {**given, **item} if typed else item
        yield from _expanded(inner, f"{where} items[{index}]")


def refs(objects: Iterable[Object]) -> tuple[Ref, ...]:
    """The identities of objects, for taking away what a manifest once added."""
    return tuple(thing.ref for thing in objects)
